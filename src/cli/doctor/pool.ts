/** The pool: where it is, and how much room is in it. */

import { limitsOf } from '../../config/config.ts';
import { isMounted } from '../../linux/mounts.ts';
import { WARN_PERCENT } from '../../service/snapshot-alerts.ts';
import { spaceAlert } from '../../service/space-alerts.ts';
import { parseSize } from '../../size.ts';
import { readPool } from '../../state/pool.ts';
import { readRunning } from '../../state/update-history.ts';
import { describeUsage, poolUsage } from '../../update/pool-usage.ts';
import { masterOf, type Pool, type Problem, type SnapshotUsage } from '../../volume/backend.ts';
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
import { judgeOwner, owned } from './setup.ts';

const POOL = 'pool';

const NONE = notApplicable('there is no pool');

/** Where the pool is, and whether what is there is it. */
export interface PoolLocation {
  readonly pool: Pool | undefined;
  /** The image it is in is there; true where it is in none. */
  readonly image: boolean;
  /** Something is mounted at its path. */
  readonly mounted: boolean;
  /** It is ours: by the file that marks a pool in a directory. */
  readonly marked: boolean;
  /** On LVM: why nothing can be made in it. */
  readonly trouble: Problem | undefined;
  readonly master: boolean;
  /** What remembers a pool that is lost. */
  readonly records: readonly string[];
}

export function judgePlace({
  pool,
  image,
  mounted,
  marked,
  trouble,
  master,
  records,
}: PoolLocation): CheckResult {
  if (!pool) return found([problem('there is none: every login is refused', 'mayfly init')], '');
  const words = `${pool.backend} at ${pool.path}`;
  if (pool.image !== undefined && !image) {
    const what = `its image "${pool.image}" is not there: it is to be brought back, or the pool to be made anew`;
    const fix = `rm -f ${records.join(' ')} && mayfly init --backend ${pool.backend}`;
    return found([problem(what, fix)], '');
  }
  if (pool.image !== undefined && !mounted)
    return found([problem(`its image is not mounted at "${pool.path}"`, 'mayfly recover')], '');
  if (trouble) return found([problem(trouble.what, trouble.fix)], '');
  if (!marked) {
    const what = `there is no pool at "${pool.path}": is its file system not mounted?`;
    return found([problem(what, `mount ${pool.path} && mayfly recover`)], '');
  }
  const lost = 'the volume of master is not there: nothing can be updated';
  return found(master ? [] : [problem(lost, 'mayfly recover')], words);
}

async function gatherPlace(on: Subject): Promise<PoolLocation> {
  const { host, paths, backend } = on;
  const pool = readPool(host, paths);
  const records = [paths.poolFile, paths.stable, `${paths.generations}/*`];
  const nothing = { image: true, mounted: false, marked: false, trouble: undefined, master: false, records };
  if (!pool) return { pool, ...nothing };
  const onDevice = backend(pool.backend).open !== undefined;
  const trouble = onDevice ? (await poolUsage(on, pool))?.problem : undefined;
  if (trouble) return { pool, ...nothing, trouble };
  // An update that is nearly done puts another in its place.
  const master =
    (await backend(pool.backend).identity(masterOf(pool))) !== undefined ||
    readRunning(host, paths) !== undefined;
  if (onDevice) return { pool, ...nothing, marked: true, master };
  return {
    pool,
    image: pool.image === undefined || host.lstat(pool.image)?.kind === 'file',
    mounted: isMounted(host, pool.path),
    marked: host.lstat(`${pool.path}/.mayfly-pool`)?.kind === 'file',
    trouble: undefined,
    master,
    records,
  };
}

/** How full it is, by the words of those who refuse logins and updates for it. */
async function gatherRoom(on: Subject): Promise<{ words: string; findings: Finding[] } | undefined> {
  const { host, paths, config } = on;
  const pool = readPool(host, paths);
  if (!pool || (pool.image !== undefined && !host.exists(pool.image))) return undefined;
  const usage = await poolUsage(on, pool);
  if (!usage || usage.problem) return undefined; // "place" tells
  const words = describeUsage(usage);
  const limits = limitsOf(config, pool.backend);
  const min_free = parseSize(config.admission.min_free);
  try {
    admit(usage, pool.path, { max_used_percent: limits.full, min_free });
    if (pool.image !== undefined)
      admit(usageOf(host, pool.image), pool.image, { max_used_percent: 100, min_free });
  } catch (error) {
    return { words, findings: [{ ...fromError(error), fix: 'mayfly gc' }] };
  }
  const scarce = spaceAlert(0, usage, pool.path, limits).words;
  return { words, findings: scarce === undefined ? [] : [warning(scarce, 'mayfly gc')] };
}

/** The mount that a pool on btrfs is on, as findmnt(8) shows it. */
export interface BtrfsMount {
  readonly place: string;
  readonly options: string;
}

/** Seconds between commits where the mount does not say: the kernel's default. */
const COMMIT = 30;

const SHORT = 5;

/** btrfs takes deleted sessions apart when it wakes up for a commit; the more there are, the longer everybody waits. */
export function judgeCommit(m: BtrfsMount | undefined): CheckResult {
  if (!m) return notApplicable('the pool is on no btrfs of your own');
  const seconds = Number(/(?:^|,)commit=(\d+)/.exec(m.options)?.[1] ?? COMMIT);
  const what = `"${m.place}" takes deleted sessions apart only every ${seconds} s, and logins wait for the heap; put commit=${SHORT} into /etc/fstab too`;
  const late = seconds > SHORT ? [warning(what, `mount -o remount,commit=${SHORT} ${m.place}`)] : [];
  return found(late, `commit=${seconds}`);
}

async function gatherCommit({ host, paths }: Subject): Promise<BtrfsMount | undefined> {
  const pool = readPool(host, paths);
  if (pool?.backend !== 'btrfs' || pool.image !== undefined) return undefined;
  const args = ['--noheadings', '--raw', '--output', 'TARGET,FS-OPTIONS', '--target', pool.path];
  const { stdout } = await host.run({ file: 'findmnt', args, effect: 'read' });
  const [place = '', options = ''] = stdout.trim().split('\n').at(-1)?.split(' ') ?? [];
  return { place, options };
}

/** Sessions on classic LVM that have filled their own store, or nearly: nobody else is hurt, and nothing helps them. */
export function judgeStores(strains: readonly SnapshotUsage[]): CheckResult {
  const nearly = strains.filter(s => s.percent > WARN_PERCENT);
  const all = nearly.map(({ session, percent }) =>
    percent >= 100
      ? warning(
          `${session} has changed more than its store holds, and can only be ended`,
          `mayfly end ${session}`,
        )
      : warning(`${session} has filled ${Math.floor(percent)} % of its store`, `mayfly end ${session}`),
  );
  return found(all, `${strains.length} in use`);
}

export const poolChecks = [
  check({ group: POOL, title: 'place', gather: gatherPlace, evaluate: judgePlace }),
  check({
    group: POOL,
    title: 'owner',
    gather({ host, paths, backend }) {
      const pool = readPool(host, paths);
      return pool && !backend(pool.backend).open ? owned(host, pool.path) : undefined;
    },
    evaluate: o =>
      o ? found(judgeOwner(o), 'only root can change it') : notApplicable('there is no directory of it'),
  }),
  check({
    group: POOL,
    title: 'room',
    gather: gatherRoom,
    evaluate: room => (room ? found(room.findings, room.words) : NONE),
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
  check({ group: POOL, title: 'commits', gather: gatherCommit, evaluate: judgeCommit }),
  check({
    group: POOL,
    title: 'stores',
    async gather({ host, paths, backend }) {
      const pool = readPool(host, paths);
      return pool && (await backend(pool.backend).snapshotUsage?.(pool.path));
    },
    evaluate: strains =>
      strains === undefined ? notApplicable('no session has a store of its own') : judgeStores(strains),
  }),
  check({
    group: POOL,
    title: 'growth',
    async gather({ host, paths }) {
      if (readPool(host, paths)?.backend !== 'lvm-thin') return undefined;
      const { describeGrowth } = await import('../../volume/lvm/pool.ts');
      return describeGrowth(host);
    },
    // For the administrator to decide: nothing is wrong with a pool that stays as it was made.
    evaluate: words => (words === undefined ? notApplicable('the pool is no thin pool') : fine(words)),
  }),
];
