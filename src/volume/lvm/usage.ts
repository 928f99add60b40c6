/** Usage and problems of a pool on LVM. Pure. */
import { REMEDY } from '../../advice.ts';
import type { BackendKind, Problem, Usage } from '../backend.ts';
import { parsePoolPath, poolTag } from './names.ts';
import type { Row } from './report.ts';

/**
 * Usage of a pool: of the thin pool's data or metadata, whichever is fuller; for classic volumes, of the volume
 * group.
 */
export function usageIn(pool: string, kind: BackendKind, rows: readonly Row[]): Usage {
  const { group, name } = parsePoolPath(pool);
  const tag = poolTag(pool);
  const { groupSize = 0, groupFree = 0, groupMissing = 0 } = rows[0] ?? {};
  if (groupMissing > 0) {
    const what = `the volume group "${group}" has ${groupMissing} missing disk${groupMissing > 1 ? 's' : ''}`;
    return { total: groupSize, free: 0, percent: 100, problem: { what, fix: reconnectDisk(group) } };
  }
  // The percentage would say nothing: the group may have other users.
  if (kind === 'lvm') return { total: groupSize, free: groupFree, percent: 0 };
  const row = rows.find(r => r.tags.includes(tag));
  if (!row) {
    const what = `the volume group "${group}" has no thin pool "${name}" created by Mayfly`;
    return { total: 0, free: 0, percent: 100, problem: { what, fix: `lvs -a ${group}` } };
  }
  if (!row.active) {
    const what = `the thin pool "${group}/${row.name}" is not active`;
    return { total: row.size, free: 0, percent: 100, problem: { what, fix: REMEDY.recover } };
  }
  const free = Math.floor((row.size * (100 - row.data)) / 100);
  const usage: Usage = {
    ...{ total: row.size, free, percent: Math.max(row.data, row.metadata) },
    ...(row.metadata > row.data ? { of: 'metadata' } : {}),
  };
  const problem = problemOf(`${group}/${row.name}`, row);
  return problem ? { ...usage, problem } : usage;
}

/** The problem of a thin pool, and the commands for the administrator. Mayfly itself never repairs a pool. */
function problemOf(pool: string, row: Row): Problem | undefined {
  const offline = offlineRepair(pool);
  if (row.needsCheck || row.health === 'metadata_read_only')
    return { what: `the metadata of the thin pool "${pool}" needs a check`, fix: offline };
  if (row.health === 'failed') return { what: `the thin pool "${pool}" has failed`, fix: offline };
  if (row.health === 'out_of_data')
    return {
      what: `the thin pool "${pool}" is full`,
      fix: `${REMEDY.endSessions}, or "lvextend -L +10G ${pool}"`,
    };
  if (Number.isNaN(row.data) || Number.isNaN(row.metadata))
    return { what: `the usage of the thin pool "${pool}" is unknown`, fix: `lvs -a ${pool}` };
  return undefined;
}

const offlineRepair = (pool: string): string =>
  `end all sessions, then "lvchange -an ${pool}" and "lvconvert --repair ${pool}"`;

const reconnectDisk = (group: string): string =>
  `reconnect the disk ("pvs" shows it), then "vgextend --restoremissing ${group} DEVICE"`;

/** The problem behind LVM's error text, if the administrator needs an explanation; otherwise undefined. */
export function diagnose(pool: string, stderr: string): Problem | undefined {
  const { group, name } = parsePoolPath(pool);
  const thin = `${group}/${name}`;
  if (/transaction[_ ]id/i.test(stderr)) {
    const what = `LVM and the kernel disagree about the thin pool "${thin}" (transaction id), as after a power failure`;
    return { what, fix: `vgcfgbackup ${group}, then see "Metadata check and repair" in lvmthin(7)` };
  }
  // Not every line that names thin_check: without that program LVM prints a warning and continues.
  if (/needs? (check|repair)|Check of pool .* failed/i.test(stderr))
    return { what: `the metadata of the thin pool "${thin}" needs a check`, fix: offlineRepair(thin) };
  if (/PVs are missing|missing PVs|Couldn't find device with uuid/i.test(stderr))
    return { what: `a disk of the volume group "${group}" is missing`, fix: reconnectDisk(group) };
  const target =
    /\b(thin|snapshot)\b.*(?:target\(s\) not detected|not found in directory|target support missing)/i.exec(
      stderr,
    );
  if (target) {
    const module = target[1]?.toLowerCase() === 'thin' ? 'dm-thin-pool' : 'dm-snapshot';
    return { what: `this kernel does not support ${module}`, fix: `modprobe ${module}` };
  }
  if (/Volume group "[^"]*" not found/i.test(stderr))
    return { what: `the volume group "${group}" was not found`, fix: 'pvs' };
  return undefined;
}

/** Whether LVM failed because of missing space. */
export function isFull(stderr: string): boolean {
  return /insufficient free space|reached threshold|out of (data|metadata) space/i.test(stderr);
}
