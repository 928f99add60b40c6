/** The directory layout of a pool, shared by the overlay and btrfs backends. */
import { isErrno, MayflyError } from '../errors.ts';
import { sweepTemporary } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isNumber } from '../names.ts';
import {
  type BackendKind,
  type Discarded,
  isVolumeName,
  type Listing,
  type Role,
  requireVolumeName,
  type Volume,
  type VolumeBackend,
} from './backend.ts';
import type { Erasable, EraseOptions } from './eraser.ts';
import { readMarkIn, readSealTexts, sealDirectory, writeMarkIn, writeSealText } from './seal-files.ts';

/** Prefixes of volumes that are being created or removed. One rename makes a directory a volume or a leftover. */
const NEW = '.new-';

const OLD = '.old-';

function directoryOf(v: Volume): string {
  switch (v.role) {
    case 'master':
    case 'work':
      return v.pool;
    case 'generation':
      return `${v.pool}/generations`;
    case 'session':
      return `${v.pool}/sessions`;
  }
}

/** Directory of the spare, ready or in the making, for the next session from `origin`. Throws `unsafe`. */
export function sparePath(origin: Volume): string {
  volumePath(origin);
  return `${origin.pool}/sessions/.spare-${origin.name}`;
}

/** Path of a volume. Throws `unsafe` if the name is not valid for its role. */
export function volumePath(v: Volume): string {
  requireVolumeName(v);
  return `${directoryOf(v)}/${v.name}`;
}

/** Path of a volume while it is being created (`new`) or removed (`old`). Throws `unsafe`. */
export function asidePath(v: Volume, as: 'new' | 'old'): string {
  volumePath(v);
  return `${directoryOf(v)}/${as === 'new' ? NEW : OLD}${v.name}`;
}

/**
 * Renames a volume to a name under which it waits to be erased, and returns its path. The IDs of sessions are random:
 * should one come again while its first volume still waits, the second volume gets another name. A rename can need room, and
 * taking away must not: without any, the volume stays where it is, its path is returned, and the caller waits until it is
 * erased there. Throws `stuck` if something is mounted there.
 */
export function moveAside(host: Host, v: Volume): string {
  const first = asidePath(v, 'old');
  for (let n = 1; ; n++) {
    const path = n === 1 ? first : `${first}.${n}`;
    if (host.lstat(path)) continue;
    try {
      host.rename(volumePath(v), path);
      return path;
    } catch (error) {
      if (isErrno(error, 'ENOTEMPTY', 'EEXIST')) continue;
      if (isErrno(error, 'ENOSPC', 'EDQUOT')) return volumePath(v);
      if (!isErrno(error, 'EBUSY')) throw error;
      const what = `the volume "${volumePath(v)}" is in use`;
      throw new MayflyError('stuck', what, { path: volumePath(v) }, { cause: error });
    }
  }
}

/** Erases what nobody can reach any more; absent is success. */
export async function runEraser(host: Host, what: Erasable, path: string, o?: EraseOptions): Promise<void> {
  const { eraseCommand } = await import('./eraser.ts'); // no login needs it
  await host.run(eraseCommand(what, path, o));
}

/** The discarded volume at `path`. If it is deleted, there are only numbers left of it, see `eraser.ts`. */
function discardedAt(host: Host, path: string, name: string, session: string): Discarded {
  const inside = host.list(path);
  const deleted = inside.length > 0 && inside.every(entry => isNumber(entry, 20));
  return { name, session, age: Math.max(0, host.now() - (host.lstat(path)?.ctimeMs ?? 0)), deleted };
}

/** How many discarded volumes of a user's sessions there are, from one look at a directory. */
export function countDiscarded(host: Host, pool: string, uid: number): number {
  return host.list(`${pool}/sessions`).filter(name => name.startsWith(`${OLD}u${uid}-`)).length;
}

/** The directories in a pool. */
const layoutOf = (pool: string): string[] => [`${pool}/generations`, `${pool}/sessions`];

const markerOf = (pool: string): string => `${pool}/.mayfly-pool`;

/** Whether the directory is a pool: its marker belongs to root. */
function isMarked(host: Host, pool: string): boolean {
  const marker = host.lstat(markerOf(pool));
  return marker?.kind === 'file' && marker.uid === 0;
}

function requireEmpty(host: Host, pool: string): void {
  const foreign = host.list(pool).filter(name => name !== 'lost+found');
  if (foreign.length === 0) return;
  const what = `"${pool}" is not empty (it holds "${foreign[0]}"); a pool needs an empty directory`;
  throw new MayflyError('unsafe', what, { path: pool });
}

/**
 * Makes the directories of a pool accessible to root only: its volumes have set-user-ID programs and the files of
 * other people; and makes those that are missing. Does nothing if there is no pool at `pool`. Throws `unsafe`.
 */
export function protectLayout(host: Host, pool: string): void {
  if (!isMarked(host, pool)) return;
  for (const path of [pool, ...layoutOf(pool)]) {
    host.mkdir(path, 0o700); // one that is missing would refuse every login
    host.own(path, 0o700);
  }
  const seals = sealDirectory(pool); // made with the first seal: on a full disk there is no room for it
  if (host.lstat(seals)?.kind !== 'dir') return;
  host.own(seals, 0o700);
  sweepTemporary(host, seals); // of a write that was killed
}

/** The ID of the pool in the file that marks it; undefined if there is none, or if an earlier version made the pool. */
export function poolId(host: Host, pool: string): string | undefined {
  return isMarked(host, pool) ? /^ID ([0-9a-f]+)$/m.exec(host.read(markerOf(pool)) ?? '')?.[1] : undefined;
}

/** Gives a pool that an earlier version made an ID. */
export function addPoolId(host: Host, pool: string): void {
  if (isMarked(host, pool) && poolId(host, pool) === undefined) restoreMarker(host, pool);
}

/** Marks a pool that is new, or that was recognized otherwise and had this ID. */
export function restoreMarker(host: Host, pool: string, id?: string): void {
  host.own(pool, 0o700);
  const text = 'This is a pool of mayfly(8). Do not change its volumes by hand.\n';
  const own = id ?? Array.from({ length: 4 }, () => host.random()).join('');
  host.write(markerOf(pool), `${text}ID ${own}\n`, { mode: 0o600, durable: true });
}

/** Creates a pool's directories and marker. Throws `unsafe` if the directory holds other files. Safe to repeat. */
export function prepareLayout(host: Host, pool: string): void {
  host.mkdir(pool, 0o700);
  if (!isMarked(host, pool)) {
    sweepTemporary(host, pool);
    requireEmpty(host, pool); // first: a directory of somebody else keeps its owner
    host.own(pool, 0o700);
    requireEmpty(host, pool); // nobody but root can put anything in it any more
    restoreMarker(host, pool);
  }
  protectLayout(host, pool);
}

/** The reverse of {@link prepareLayout}; the pool must have no volumes. Throws `refused` if it holds what is not ours. */
export function dissolveLayout(host: Host, pool: string): void {
  for (const directory of ['generations', 'sessions'].map(name => `${pool}/${name}`)) {
    const [foreign] = host.list(directory);
    if (foreign === undefined) continue;
    const what = `"${directory}" holds "${foreign}", which is no volume of Mayfly`;
    throw new MayflyError('refused', what, {
      path: directory,
      hint: `mv ${directory}/${foreign} ${pool}/${foreign}`,
    });
  }
  const seals = sealDirectory(pool);
  if (host.lstat(seals)?.kind === 'dir') for (const name of host.list(seals)) host.unlink(`${seals}/${name}`);
  else host.unlink(seals);
  for (const name of ['seals', 'generations', 'sessions']) host.rmdir(`${pool}/${name}`);
  host.unlink(markerOf(pool));
}

/**
 * Lists every volume under a valid name, and leftovers and spares. `isVolume` decides whether a path is a volume, and
 * `isLeftover` whether it is what is left of one.
 */
export function listLayout(
  host: Host,
  kind: BackendKind,
  pool: string,
  isVolume: (path: string, role: Role) => boolean,
  isLeftover: (path: string) => boolean = () => false,
): Listing {
  const volumes: Volume[] = [];
  const leftovers: string[] = [];
  const discarded: Discarded[] = [];
  const spares = new Map<number, string>();
  const scan = (directory: string, roles: readonly Role[]): void => {
    for (const name of host.list(directory)) {
      const path = `${directory}/${name}`;
      const relative = path.slice(pool.length + 1);
      const spare = /^\.spare-([1-9]\d{0,8})$/.exec(name)?.[1];
      if (spare !== undefined && host.lstat(path)?.kind === 'dir') spares.set(Number(spare), relative);
      const aside = name.startsWith(NEW) || name.startsWith(OLD);
      const bare = aside ? name.slice(NEW.length).replace(/\.\d+$/, '') : name;
      const role = roles.find(r => isVolumeName(r, bare));
      if (role === undefined) continue;
      if (!aside && isVolume(path, role)) volumes.push({ backend: kind, pool, role, name });
      else if (!aside && isLeftover(path)) leftovers.push(relative);
      if (!aside || host.lstat(path)?.kind !== 'dir') continue;
      if (role === 'session' && name.startsWith(OLD)) discarded.push(discardedAt(host, path, relative, bare));
      else leftovers.push(relative);
    }
  };
  scan(pool, ['master', 'work']);
  scan(`${pool}/generations`, ['generation']);
  scan(`${pool}/sessions`, ['session']);
  return { volumes, leftovers, discarded, spares };
}

/** Methods of the backends whose pool is a directory. */
export function sealsInDirectory(
  host: Host,
): Pick<VolumeBackend, 'seals' | 'writeSeal'> &
  Required<Pick<VolumeBackend, 'readMark' | 'writeMark' | 'isThere'>> {
  return {
    seals: async pool => readSealTexts(host, pool),
    async writeSeal(v, text) {
      writeSealText(host, v, text);
    },
    readMark: v => readMarkIn(host, volumePath(v)),
    writeMark: (v, text) => writeMarkIn(host, volumePath(v), text),
    isThere: (pool, id) => {
      const own = poolId(host, pool);
      return isMarked(host, pool) && (id === undefined || own === undefined || own === id);
    },
  };
}

/** Throws `exists` if there is anything at the path of `v`. */
export function mustBeAbsent(host: Host, v: Volume): void {
  const path = volumePath(v);
  if (host.lstat(path)) throw new MayflyError('exists', `the volume "${path}" already exists`, { path });
}
