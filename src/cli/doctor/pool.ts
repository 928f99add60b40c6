/** The pool: where it is, and how much space is left in it. */

import { limitsOf } from '../../config/config.ts';
import { openParents } from '../../linux/files.ts';
import { WARN_PERCENT } from '../../service/snapshot-alerts.ts';
import { spaceAlert } from '../../service/space-alerts.ts';
import { parseSize } from '../../size.ts';
import { readPool } from '../../state/pool.ts';
import { describeUsage, poolUsage } from '../../update/pool-usage.ts';
import type { SnapshotUsage } from '../../volume/backend.ts';
import { admit, usageOf } from '../../volume/usage.ts';
import {
  type CheckResult,
  check,
  type Finding,
  fine,
  found,
  fromError,
  notApplicable,
  problem,
  type Subject,
  warning,
} from './check.ts';
import { masterCheck } from './master.ts';
import { locationCheck } from './pool-location.ts';
import { judgeOwner, owned } from './setup.ts';

const POOL = 'pool';

const NONE = notApplicable('there is no pool');

/** How full the pool is, by the limits that refuse logins and updates; undefined if it cannot be found out. */
async function gatherSpace(on: Subject): Promise<{ words: string; findings: Finding[] } | undefined> {
  const { host, paths, config } = on;
  const pool = readPool(host, paths);
  if (!pool || (pool.image !== undefined && !host.exists(pool.image))) return undefined;
  const usage = await poolUsage(on, pool);
  if (!usage || usage.problem) return undefined; // the check "location" reports it
  const words = describeUsage(usage);
  const limits = limitsOf(config, pool.backend);
  const min_free = parseSize(config.admission.min_free);
  try {
    admit(usage, pool.path, { max_used_percent: limits.full, min_free });
    if (pool.image !== undefined)
      admit(await usageOf(host, pool.image), pool.image, { max_used_percent: 100, min_free });
  } catch (error) {
    return { words, findings: [{ ...fromError(error), fix: 'mayfly gc' }] };
  }
  const alert = spaceAlert(0, usage, pool.path, limits).words;
  return { words, findings: alert === undefined ? [] : [warning(alert, 'mayfly gc')] };
}

/** The mount of a pool on btrfs, as findmnt(8) prints it. */
export interface BtrfsMount {
  readonly place: string;
  readonly options: string;
}

/** The kernel's default commit interval, in seconds, for a mount without the option. */
const DEFAULT_COMMIT = 30;

const MAX_COMMIT = 5;

/**
 * Warns about a long commit interval. btrfs cleans up deleted subvolumes when it wakes up for a commit; the more have
 * piled up, the longer all logins wait.
 */
export function judgeCommit(m: BtrfsMount | undefined): CheckResult {
  if (!m) return notApplicable('the pool is not in a directory on btrfs');
  const seconds = Number(/(?:^|,)commit=(\d+)/.exec(m.options)?.[1] ?? DEFAULT_COMMIT);
  const what = `"${m.place}" cleans up deleted sessions only every ${seconds} s, which delays logins; add commit=${MAX_COMMIT} to /etc/fstab as well`;
  const findings =
    seconds > MAX_COMMIT ? [warning(what, `mount -o remount,commit=${MAX_COMMIT} ${m.place}`)] : [];
  return found(findings, `commit=${seconds}`);
}

async function gatherCommit({ host, paths }: Subject): Promise<BtrfsMount | undefined> {
  const pool = readPool(host, paths);
  if (pool?.backend !== 'btrfs' || pool.image !== undefined) return undefined;
  const args = ['--noheadings', '--raw', '--output', 'TARGET,FS-OPTIONS', '--target', pool.path];
  const { stdout } = await host.run({ file: 'findmnt', args, effect: 'read' });
  const [place = '', options = ''] = stdout.trim().split('\n').at(-1)?.split(' ') ?? [];
  return { place, options };
}

/**
 * Warns about sessions on classic LVM whose snapshot is full or nearly so. Other sessions are not affected, and the
 * session itself cannot be saved.
 */
export function judgeSnapshots(snapshots: readonly SnapshotUsage[]): CheckResult {
  const nearlyFull = snapshots.filter(s => s.percent > WARN_PERCENT);
  const findings = nearlyFull.map(({ session, percent }) =>
    percent >= 100
      ? warning(`the snapshot of ${session} is full; the session can only be ended`, `mayfly end ${session}`)
      : warning(`the snapshot of ${session} is ${Math.floor(percent)} % full`, `mayfly end ${session}`),
  );
  return found(findings, `${snapshots.length} in use`);
}

export const poolChecks = [
  locationCheck,
  check({
    group: POOL,
    title: 'owner',
    gather({ host, paths, backend }) {
      const pool = readPool(host, paths);
      if (!pool || backend(pool.backend).open) return undefined;
      const own = ['', '/generations', '/sessions'].map(name => owned(host, pool.path + name, true));
      return [...own, ...openParents(host, pool.path)];
    },
    evaluate: all =>
      all
        ? found(all.flatMap(judgeOwner), 'accessible to root only')
        : notApplicable('the pool is not in a directory'),
  }),
  check({
    group: POOL,
    title: 'free space',
    gather: gatherSpace,
    evaluate: space => (space ? found(space.findings, space.words) : NONE),
  }),
  check({
    group: POOL,
    title: 'kernel and programs',
    async gather({ host, paths, config, backend }) {
      const kind = readPool(host, paths)?.backend ?? config.pool.backend;
      return { kind, problems: await backend(kind).check() };
    },
    evaluate: ({ kind, problems }) =>
      found(
        problems.map(p => problem(p.what, p.fix)),
        kind,
      ),
  }),
  masterCheck,
  check({ group: POOL, title: 'commit interval', gather: gatherCommit, evaluate: judgeCommit }),
  check({
    group: POOL,
    title: 'snapshots',
    async gather({ host, paths, backend }) {
      const pool = readPool(host, paths);
      return pool && (await backend(pool.backend).snapshotUsage?.(pool.path));
    },
    evaluate: snapshots =>
      snapshots === undefined
        ? notApplicable('sessions have no snapshots of a fixed size')
        : judgeSnapshots(snapshots),
  }),
  check({
    group: POOL,
    title: 'automatic growth',
    async gather({ host, paths }) {
      if (readPool(host, paths)?.backend !== 'lvm-thin') return undefined;
      const { describeGrowth } = await import('../../volume/lvm/pool.ts');
      return describeGrowth(host);
    },
    // Never a finding: whether the pool grows is the administrator's decision.
    evaluate: words => (words === undefined ? notApplicable('the pool is not a thin pool') : fine(words)),
  }),
];
