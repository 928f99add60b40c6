/**
 * What LVM says, and how our volumes are named in it; nothing here has an effect. A volume is ours by its tag, which
 * is written in the same commit of LVM's metadata as the volume itself: names can be taken by others and changed by
 * anybody, and commands address what was found by its UUID. Names only say to people what it is.
 */
import { MayflyError } from '../../errors.ts';
import { DIGITS, isMadeOf, isNumber, isSessionId, WORD } from '../../names.ts';
import { parseSize } from '../../size.ts';
import type { BackendKind, FileSystem, Problem, Role, Usage, Volume } from '../backend.ts';

/** A pool's path, `/dev/GROUP/NAME`, in its parts. NAME is the thin pool, and what names and tags begin with. */
export interface LvmPoolPath {
  readonly group: string;
  readonly name: string;
}

const isLvmName = (text: string): boolean =>
  text.length > 0 && text.length <= 60 && !/^[-.]/.test(text) && isMadeOf(text, `${WORD}+.-`);

export function parsePoolPath(pool: string): LvmPoolPath {
  const [empty, dev, group = '', name = '', ...more] = pool.split('/');
  if (empty !== '' || dev !== 'dev' || more.length > 0 || !isLvmName(group) || !isLvmName(name))
    throw new MayflyError('corrupt', `"${pool}" is not "/dev/GROUP/NAME"`, { path: pool });
  return { group, name };
}

/** One logical volume, hidden ones of LVM's own among them. */
export interface Row {
  /** Without the brackets of a hidden one. */
  readonly name: string;
  readonly uuid: string;
  readonly tags: readonly string[];
  /** lv_attr(7): the kind of volume first, then permissions and so on. */
  readonly attr: string;
  readonly origin: string;
  /** The thin pool it is in. */
  readonly pool: string;
  /** Bytes. */
  readonly size: number;
  readonly groupSize: number;
  readonly groupFree: number;
  readonly groupUuid: string;
  /** Disks of the group that are not there. */
  readonly groupMissing: number;
  /** Percent; NaN where it is not active, or has no such thing. */
  readonly data: number;
  readonly metadata: number;
  readonly active: boolean;
  readonly open: boolean;
  readonly suspended: boolean;
  readonly health: string;
  readonly needsCheck: boolean;
  readonly overflowed: boolean;
  /** Device numbers; -1 where it is not active. */
  readonly major: number;
  readonly minor: number;
}

/**
 * What lvm.conf(5) may say otherwise and we rely on. An archived copy of the metadata before every login and logout
 * would fill /etc/lvm/archive, and one that can not be written fails the command: a full or read-only root file
 * system would keep logouts from making room. The current copy in /etc/lvm/backup is still kept.
 */
export const STEADY: readonly string[] = [
  '--config',
  [
    'backup{archive=0}',
    'activation{retry_deactivation=1}',
    'report{binary_values_as_numeric=0 list_item_separator=","}',
  ].join(' '),
];

/** Fields of lvs(8), as {@link parseReport} reads them. */
const FIELDS = [
  'lv_name,lv_uuid,lv_tags,lv_attr,origin,pool_lv,lv_size,vg_size,vg_free,vg_uuid,data_percent,metadata_percent',
  'lv_active,lv_device_open,lv_suspended,lv_health_status,lv_check_needed,lv_snapshot_invalid',
  'lv_kernel_major,lv_kernel_minor,vg_missing_pv_count',
].join(',');

/** Arguments of lvs(8) for every volume of a group. */
export function reportArguments(group: string): string[] {
  const form = ['--reportformat', 'json', '--units', 'b', '--nosuffix', '-o', FIELDS];
  return ['-a', ...STEADY, ...form, '--', group];
}

/** What lvs(8) printed. */
export function parseReport(text: string): Row[] {
  let rows: Readonly<Record<string, string>>[];
  try {
    rows = JSON.parse(text).report[0].lv;
  } catch {
    throw new MayflyError('corrupt', 'the answer of "lvs" is not what was asked for');
  }
  const percent = (value: string | undefined): number => (value ? Number(value) : Number.NaN);
  return rows.map(r => ({
    name: (r.lv_name ?? '').replace(/^\[(.*)\]$/, '$1'),
    uuid: r.lv_uuid ?? '',
    tags: (r.lv_tags ?? '').split(',').filter(Boolean),
    attr: r.lv_attr ?? '',
    origin: (r.origin ?? '').replace(/^\[(.*)\]$/, '$1'),
    pool: (r.pool_lv ?? '').replace(/^\[(.*)\]$/, '$1'),
    size: Number(r.lv_size),
    groupSize: Number(r.vg_size),
    groupFree: Number(r.vg_free),
    groupUuid: r.vg_uuid ?? '',
    groupMissing: Number(r.vg_missing_pv_count ?? 0),
    data: percent(r.data_percent),
    metadata: percent(r.metadata_percent),
    active: r.lv_active === 'active',
    open: r.lv_device_open === 'open',
    suspended: r.lv_suspended === 'suspended',
    health: r.lv_health_status ?? '',
    needsCheck: r.lv_check_needed === 'check needed',
    overflowed: r.lv_snapshot_invalid === 'snapshot invalid' || /^.{4}[IS]/.test(r.lv_attr ?? ''),
    major: Number(r.lv_kernel_major ?? -1),
    minor: Number(r.lv_kernel_minor ?? -1),
  }));
}

function isNameOf(role: Role, name: string): boolean {
  if (role === 'session') return isSessionId(name);
  return role === 'generation' ? name !== '0' && isNumber(name, 9) : name === role;
}

/** The tag by which a volume is ours: `mayfly:NAME:ROLE:NAME`; with `unfinished` what it has while it is made. */
export function tagOf(v: Volume, unfinished = false): string {
  if (!isNameOf(v.role, v.name)) {
    const facts = { role: v.role, name: v.name };
    throw new MayflyError('unsafe', `"${v.name}" is not the name of a ${v.role}`, facts);
  }
  return `${prefixOf(v.pool)}${unfinished ? 'unfinished-' : ''}${v.role}:${v.name}`;
}

const prefixOf = (pool: string): string => `mayfly:${parsePoolPath(pool).name}:`;

/** The tag of the thin pool itself. */
export function poolTag(pool: string): string {
  return `${prefixOf(pool)}pool`;
}

/** What a row is of ours; undefined for other people's. */
export function roleIn(
  pool: string,
  kind: BackendKind,
  row: Row,
): { readonly volume: Volume; readonly unfinished: boolean } | undefined {
  const prefix = prefixOf(pool);
  const [tag, ...more] = row.tags.filter(t => t.startsWith(prefix) && t !== poolTag(pool));
  if (tag === undefined || more.length > 0) return undefined; // two of them: somebody else's doing
  const [word = '', name = ''] = tag.slice(prefix.length).split(':');
  const role = word.replace(/^unfinished-/, '') as Role;
  if (!['master', 'work', 'generation', 'session'].includes(role) || !isNameOf(role, name)) return undefined;
  return { volume: { backend: kind, pool, role, name }, unfinished: word !== role };
}

/** Master and work change places, and a tag can: their names say nothing but that they are a tree. */
export function lvNameOf(v: Volume, chance: () => string): string {
  const { name } = parsePoolPath(v.pool);
  tagOf(v);
  if (v.role === 'session' || v.role === 'generation') return `${name}-${v.role}-${v.name}`;
  return `${name}-tree-${chance()}`;
}

/** Where the kernel's device is: dmsetup(8) doubles the hyphens of both names. */
export function deviceOf(group: string, name: string): string {
  return `/dev/mapper/${group.replaceAll('-', '--')}-${name.replaceAll('-', '--')}`;
}

/** Longest name of a device, less what LVM adds to it for parts of its own (DM_NAME_LEN, "-cow"). */
const LONGEST = 127 - '-cow'.length;

/** Whether the kernel can name every session's device in a pool. */
export function fits({ group, name }: LvmPoolPath): boolean {
  const longest = deviceOf(group, `${name}-session-u4294967295-00000000`);
  return longest.length - '/dev/mapper/'.length <= LONGEST;
}

/** Options of mount(2) for a volume; `read`: nothing is to be written. */
export function optionsFor(kind: BackendKind, fs: FileSystem, read: boolean): string {
  const words = [
    read ? 'ro' : 'rw',
    // A snapshot has the UUID of its origin, which XFS takes for the same file system twice.
    ...(fs === 'xfs' ? ['nouuid'] : []),
    // Else every session of a generation would zero inode tables in the background, and pay for them in the pool.
    ...(fs === 'ext4' ? ['noinit_itable'] : []),
    // What is deleted is given back to the thin pool, not only at the end of the session.
    ...(kind === 'lvm-thin' && !read ? ['discard'] : []),
  ];
  return words.join(',');
}

/** Room in a pool: of the thin pool, its data or metadata, whichever is scarcer; else of the volume group. */
export function usageIn(pool: string, kind: BackendKind, rows: readonly Row[]): Usage {
  const { group, name } = parsePoolPath(pool);
  const tag = poolTag(pool);
  const { groupSize = 0, groupFree = 0, groupMissing = 0 } = rows[0] ?? {};
  if (groupMissing > 0) {
    const what = `${groupMissing} of the disks of the volume group "${group}" ${groupMissing > 1 ? 'are' : 'is'} missing`;
    return { total: groupSize, free: 0, percent: 100, problem: { what, fix: bringBack(group) } };
  }
  if (kind === 'lvm') return { total: groupSize, free: groupFree, percent: 0 }; // others may fill it as they like
  const row = rows.find(r => r.tags.includes(tag));
  if (!row) {
    const what = `there is no thin pool of ours "${name}" in the volume group "${group}"`;
    return { total: 0, free: 0, percent: 100, problem: { what, fix: `lvs -a ${group}` } };
  }
  if (!row.active) {
    const what = `the thin pool "${group}/${row.name}" is not active`;
    return { total: row.size, free: 0, percent: 100, problem: { what, fix: 'mayfly recover' } };
  }
  const free = Math.floor((row.size * (100 - row.data)) / 100);
  const usage: Usage = {
    ...{ total: row.size, free, percent: Math.max(row.data, row.metadata) },
    ...(row.metadata > row.data ? { of: 'metadata' } : {}),
  };
  const problem = problemOf(`${group}/${row.name}`, row);
  return problem ? { ...usage, problem } : usage;
}

/** What is wrong with a thin pool, and what an administrator types; we repair nothing in it. */
function problemOf(pool: string, row: Row): Problem | undefined {
  const offline = offlineRepair(pool);
  if (row.needsCheck || row.health === 'metadata_read_only')
    return { what: `the metadata of the thin pool "${pool}" needs a check`, fix: offline };
  if (row.health === 'failed') return { what: `the thin pool "${pool}" has failed`, fix: offline };
  if (row.health === 'out_of_data')
    return {
      what: `the thin pool "${pool}" is full`,
      fix: `end sessions ("mayfly sessions"), or "lvextend -L +10G ${pool}"`,
    };
  if (Number.isNaN(row.data) || Number.isNaN(row.metadata))
    return { what: `the thin pool "${pool}" does not say how full it is`, fix: `lvs -a ${pool}` };
  return undefined;
}

const offlineRepair = (pool: string): string =>
  `end all sessions, then "lvchange -an ${pool}" and "lvconvert --repair ${pool}"`;

const bringBack = (group: string): string =>
  `pvs, then bring it back, and vgextend --restoremissing ${group} DEVICE`;

/** What LVM complains of, where an administrator needs other words for it; undefined elsewhere. */
export function diagnose(pool: string, stderr: string): Problem | undefined {
  const { group, name } = parsePoolPath(pool);
  const thin = `${group}/${name}`;
  if (/transaction[_ ]id/i.test(stderr)) {
    const what = `LVM and the kernel disagree about the thin pool "${thin}" (transaction id), as after a power cut`;
    return { what, fix: `vgcfgbackup ${group}, then see "Metadata check and repair" in lvmthin(7)` };
  }
  // Not each line that names thin_check: without that program LVM warns of it and goes on.
  if (/needs? (check|repair)|Check of pool .* failed/i.test(stderr))
    return { what: `the metadata of the thin pool "${thin}" needs a check`, fix: offlineRepair(thin) };
  if (/PVs are missing|missing PVs|Couldn't find device with uuid/i.test(stderr))
    return { what: `a disk of the volume group "${group}" is missing`, fix: bringBack(group) };
  if (/Volume group "[^"]*" not found/i.test(stderr))
    return { what: `Volume group "${group}" not found`, fix: 'pvs' };
  return undefined;
}

/** Whether LVM refused for want of room. */
export function isFull(stderr: string): boolean {
  return /insufficient free space|reached threshold|out of (data|metadata) space/i.test(stderr);
}

/** Options of lvcreate(8) for a size: of a part, "20%" of `whole`, or bytes. */
export function sizeArguments(size: string, whole: 'ORIGIN' | 'FREE'): string[] {
  if (size.endsWith('%') && isMadeOf(size.slice(0, -1), DIGITS)) return ['-l', `${size}${whole}`];
  return ['-L', mebibytes(parseSize(size))];
}

/** As an argument. LVM takes no sizes that are not of whole sectors, and "1.3G" is none. */
export function mebibytes(bytes: number): string {
  return `${Math.max(1, Math.floor(bytes / 2 ** 20))}m`;
}
