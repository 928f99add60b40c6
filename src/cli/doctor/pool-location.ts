/** Where the pool is, and whether it is there: not mounted, damaged, gone, or put back to a snapshot without its volumes. */
import { REMEDY } from '../../advice.ts';
import type { Host } from '../../linux/host.ts';
import { isMounted } from '../../linux/mounts.ts';
import { generationNumbers } from '../../state/generations.ts';
import { readPool } from '../../state/pool.ts';
import { readRunning } from '../../state/update-history.ts';
import { searchPool } from '../../update/find-pool.ts';
import { imageProblem } from '../../update/pool-image.ts';
import { poolUsage } from '../../update/pool-usage.ts';
import { readOnlyProblem } from '../../update/read-only.ts';
import { goneFrom } from '../../update/retention.ts';
import { hasSealedGeneration } from '../../update/seals.ts';
import { masterOf, type Pool, type Problem } from '../../volume/backend.ts';
import { isHollow } from '../../volume/btrfs-inodes.ts';
import { type CheckResult, check, found, problem, type Subject } from './check.ts';
import { goodGenerations } from './generations.ts';

/** The location of the pool, and whether the pool is there. */
export interface PoolLocation {
  readonly pool: Pool | undefined;
  /** Its image file exists; true if it is not in an image. */
  readonly image: boolean;
  /** What is wrong with the image file itself. */
  readonly damage: Problem | undefined;
  /** A file system is mounted at its path. */
  readonly mounted: boolean;
  /** The directory has the file that marks a pool. */
  readonly marked: boolean;
  /** Why no volume can be created in it: on LVM, or in a file system that has become read-only. */
  readonly trouble: Problem | undefined;
  readonly master: boolean;
  /** It can be somewhere else: it is on a file system that is not mounted, by fstab(5). */
  readonly isElsewhere: boolean;
  /** There are generations on record, and no volume of them is there. */
  readonly isEmpty: boolean;
  /** The file that marks it is missing, but a generation on record is there. */
  readonly isUnmarked: boolean;
  /** Something else is in its directory, or where `init` would make one. */
  readonly isInTheWay: boolean;
  readonly place: string;
  /** A directory of the pool that is missing. */
  readonly missing?: string | undefined;
  /** Another pool is there. */
  readonly isOther?: boolean;
  /** What the record of the pool would be, if it is lost. */
  readonly lost: Pool | undefined;
  /** The files to remove before a new pool replaces one that is lost. */
  readonly records: readonly string[];
}

/** Without these in a pool every login is refused. */
const LOGIN_DIRECTORIES = ['generations', 'sessions'];

/** The commands that make a new pool, and put aside what is in its way. */
const replacePool = (
  { backend, path, image }: Pool,
  records: readonly string[],
  inTheWay: 'nothing' | 'image' | 'files',
  isMountPoint = false,
): string => {
  const make = `rm -f ${records.join(' ')} && mayfly init --backend ${backend}`;
  if (inTheWay === 'image') return `umount ${path}; rm ${image} && ${make}`;
  return inTheWay === 'files' ? `${putFilesAside(path, isMountPoint)} && ${make}` : make;
};

/** A mount point cannot be renamed: what is in it is. */
const putFilesAside = (path: string, isMountPoint: boolean): string =>
  isMountPoint
    ? `mkdir ${path}.kept && find ${path} -mindepth 1 -maxdepth 1 ! -name lost+found -exec mv -t ${path}.kept -- {} +`
    : `mv ${path} ${path}.kept`;

export function judgeLocation({
  pool,
  image,
  damage,
  mounted,
  marked,
  trouble,
  master,
  isElsewhere,
  isEmpty,
  isUnmarked,
  isInTheWay,
  place,
  missing,
  isOther,
  lost,
  records,
}: PoolLocation): CheckResult {
  if (!pool && lost) {
    const what = `the record of the pool is lost; its place is "${lost.path}"`;
    return found([problem(what, REMEDY.recover)], '');
  }
  const init = isInTheWay ? `${putFilesAside(place, mounted)} && mayfly init` : 'mayfly init';
  if (!pool) return found([problem('there is no pool: all logins are refused', init)], '');
  const words = `${pool.backend} at ${pool.path}`;
  const inTheWay = pool.image !== undefined ? 'image' : isInTheWay ? 'files' : 'nothing';
  if (pool.image !== undefined && !image) {
    const what = `the image "${pool.image}" is missing: restore it, or create the pool again`;
    return found([problem(what, replacePool(pool, records, 'nothing'))], '');
  }
  if (damage) return found([problem(damage.what, damage.fix)], '');
  if (pool.image !== undefined && !mounted)
    return found([problem(`the image is not mounted at "${pool.path}"`, 'mayfly recover')], '');
  if (trouble) return found([problem(trouble.what, trouble.fix)], '');
  if (isOther) {
    const what = `another pool is at "${pool.path}", not the one of this machine: mount the right one, or take this one`;
    return found([problem(what, `rm -f ${records.join(' ')} && ${REMEDY.recover}`)], '');
  }
  if (isUnmarked)
    return found([problem(`the file that marks the pool at "${pool.path}" is missing`, REMEDY.recover)], '');
  if (!marked && !isElsewhere) {
    const what = `the pool at "${pool.path}" is gone, with all generations: restore it, or create it again`;
    return found([problem(what, replacePool(pool, records, inTheWay, mounted))], '');
  }
  if (!marked) {
    const what = `there is no pool at "${pool.path}"; its file system may not be mounted`;
    return found([problem(what, `mount ${pool.path} && mayfly recover`)], '');
  }
  if (missing !== undefined)
    return found([problem(`the directory "${missing}" of the pool is missing`, REMEDY.recover)], '');
  if (isEmpty) {
    const why =
      pool.backend === 'btrfs' && pool.image === undefined
        ? '; its file system was probably put back to a snapshot, which leaves out the subvolumes in it'
        : '';
    const what = `the generations on record are gone from the pool at "${pool.path}"${why}: restore it, or create it again`;
    return found([problem(what, replacePool(pool, records, inTheWay, mounted))], '');
  }
  const noMaster =
    'the volume of master is missing; the next update makes it again from the stable generation';
  return found(master ? [] : [problem(noMaster, 'mayfly update')], words);
}

async function gatherLocation(on: Subject): Promise<PoolLocation> {
  const { host, paths, backend } = on;
  const pool = readPool(host, paths);
  const place = pool?.path ?? on.config.pool.path;
  const isMarked = backend('btrfs').isThere?.(place) === true;
  const isInTheWay = !isMarked && host.list(place).some(name => name !== 'lost+found');
  const records = [paths.poolFile, paths.stable, `${paths.generations}/*`];
  const nothing = {
    image: true,
    damage: undefined,
    mounted: false,
    marked: false,
    trouble: undefined,
    master: false,
    isElsewhere: false,
    isEmpty: false,
    isUnmarked: false,
    isInTheWay,
    place,
    lost: undefined,
    records,
  };
  if (!pool) return { pool, ...nothing, mounted: isMounted(host, place), lost: await searchPool(on) };
  const onDevice = backend(pool.backend).open !== undefined;
  const trouble = onDevice ? (await poolUsage(on, pool))?.problem : readOnlyProblem(host, pool);
  if (trouble) return { pool, ...nothing, mounted: true, trouble };
  // A running update replaces master at its end, so master may be missing for a moment.
  const master =
    (await backend(pool.backend).identity(masterOf(pool))) !== undefined ||
    readRunning(host, paths) !== undefined;
  const isEmpty = !master && (await isWithoutVolumes(on, pool));
  if (onDevice) return { pool, ...nothing, marked: true, master, isEmpty };
  const marked = backend(pool.backend).isThere?.(pool.path, pool.id) === true;
  const hasImage = pool.image !== undefined && host.lstat(pool.image)?.kind === 'file';
  const replace = replacePool(pool, records, 'image');
  return {
    pool,
    image: pool.image === undefined || hasImage,
    damage: hasImage ? await imageProblem(host, pool.image ?? '', replace) : undefined,
    mounted: isMounted(host, pool.path),
    marked,
    trouble: undefined,
    master,
    isElsewhere: isOnUnmounted(host, pool),
    isEmpty,
    isUnmarked: !marked && ((await goodGenerations(on)).length > 0 || (await hasSealedGeneration(on, pool))),
    isInTheWay,
    place,
    isOther: !marked && isMarked,
    missing: marked
      ? LOGIN_DIRECTORIES.map(name => `${pool.path}/${name}`).find(path => host.lstat(path)?.kind !== 'dir')
      : undefined,
    lost: undefined,
    records,
  };
}

/** Whether generations are on record, and none is in the pool, which is there. */
async function isWithoutVolumes(on: Subject, pool: Pool): Promise<boolean> {
  const gone = await goneFrom(on, pool);
  return gone.size > 0 && gone.size === generationNumbers(on.host, on.paths).length;
}

/**
 * Whether the file system of a pool is not mounted: by the record of the pool or, if an earlier version wrote it, by
 * fstab(5), and where the empty mount point may be all that is there.
 */
function isOnUnmounted(host: Host, { path, mountPoint, image }: Pool): boolean {
  if (image !== undefined) return false; // the image is looked at itself
  if (mountPoint !== undefined) return mountPoint !== '/' && !isMounted(host, mountPoint);
  if (host.lstat(path)?.kind === 'dir' && !isHollow(host, path) && host.list(path).length === 0) return true;
  const places = (host.read('/etc/fstab') ?? '')
    .split('\n')
    .filter(line => !line.trimStart().startsWith('#'))
    .map(line => line.trim().split(/\s+/)[1] ?? '');
  return places.some(
    place => place.length > 1 && `${path}/`.startsWith(`${place}/`) && !isMounted(host, place),
  );
}

export const locationCheck = check({
  group: 'pool',
  title: 'location',
  gather: gatherLocation,
  evaluate: judgeLocation,
});
