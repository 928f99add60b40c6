/** Places where a pool, or a directory of users, does not work in sessions although it works on the host. */
import { REMEDY } from '../advice.ts';
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Machine } from '../state/machine.ts';
import type { Pool, Problem } from '../volume/backend.ts';
import { poolId } from '../volume/directory-layout.ts';
import { IN_MEMORY } from '../volume/overlay-trial.ts';
import { MAX_POOL_PATH } from './pool-directory.ts';

/** The mount that a path is on, as findmnt(8) shows it. */
export interface MountPlace {
  readonly at: string;
  readonly type: string;
  readonly options: readonly string[];
  readonly propagation: string;
}

/** The mount of an existing path; undefined if it cannot be found. */
export async function mountPlace(host: Host, path: string): Promise<MountPlace | undefined> {
  const columns = 'TARGET,FSTYPE,VFS-OPTIONS,PROPAGATION';
  const args = ['--noheadings', '--raw', '--output', columns, '--target', path];
  const { stdout } = await host.run({ file: 'findmnt', args, effect: 'read', okCodes: [0, 1] });
  const [at, type = '', options = '', propagation = ''] = stdout.trim().split('\n').at(-1)?.split(' ') ?? [];
  return at ? { at, type, options: options.split(','), propagation } : undefined;
}

/** The record of a pool with the mount point of its file system and its ID: by these one that is not mounted is known. */
export async function withMountPoint(host: Host, pool: Pool): Promise<Pool> {
  if (pool.path.startsWith('/dev/')) return pool;
  const at = pool.image === undefined ? (await mountPlace(host, pool.path))?.at : undefined;
  const id = pool.id ?? poolId(host, pool.path);
  return { ...pool, ...(at === undefined ? {} : { mountPoint: at }), ...(id === undefined ? {} : { id }) };
}

/** Throws `refused` if the file system of a pool is not mounted, or if another pool is there: what is not seen is not gone. */
export function requireThere(on: Machine, { backend, path, id }: Pool): void {
  if (on.backend(backend).isThere?.(path, id) === false)
    throw new MayflyError('refused', `the pool is not at "${path}"; its file system may not be mounted`, {
      path,
      hint: REMEDY.examine,
    });
}

/** Whether another pool is where that of this machine should be: its volumes are not ours to list, to end or to remove. */
export function isAnotherPool({ backend }: Machine, { backend: kind, path, id }: Pool): boolean {
  const { isThere } = backend(kind);
  return isThere?.(path) === true && isThere(path, id) === false;
}

/**
 * What is wrong with the place of a pool that is not in an image; undefined if nothing is. On btrfs, a session is a bind
 * mount of the pool, with the options of the pool's mount. An overlay is a mount of its own, with its own options.
 */
export function poolPlaceProblem(
  { backend, path, image }: Pick<Pool, 'backend' | 'path' | 'image'>,
  place: MountPlace | undefined,
  upper: 'disk' | 'tmpfs',
): Problem | undefined {
  if (image !== undefined || (backend !== 'btrfs' && backend !== 'overlay')) return undefined;
  if (path.length > MAX_POOL_PATH) {
    const what = `the path of the pool has ${path.length} characters; mount(8) allows at most ${MAX_POOL_PATH}`;
    return { what: `${what}: "${path}"`, fix: 'set a shorter "pool.path"' };
  }
  if (backend === 'overlay') {
    if (place?.type !== 'overlay' || upper === 'tmpfs') return undefined;
    return {
      what: `the pool is on an overlay ("${place.at}"), so no session can be created`,
      fix: IN_MEMORY,
    };
  }
  const bad = ['nosuid', 'noexec'].filter(option => place?.options.includes(option));
  if (place === undefined || bad.length === 0) return undefined;
  const without = bad.map(option => option.slice(2)).join(',');
  return {
    what: `"${place.at}" is mounted with ${bad.join(' and ')}, and so is every session: sudo, screen lockers and other programs fail; change /etc/fstab as well`,
    fix: `mount -o remount,${without} ${place.at}`,
  };
}

/** The directories of the host that a session shows with the mounts that come later, each with its mount. */
export async function propagationOf({ host, config }: Machine): Promise<[string, MountPlace | undefined][]> {
  const all: [string, MountPlace | undefined][] = [];
  for (const path of config.mounts.rbind)
    if (host.pathType(path) === 'dir') all.push([path, await mountPlace(host, path)]);
  return all;
}

/** What is wrong with these directories; undefined if mounts that come later arrive in sessions. */
export function propagationProblem(
  all: readonly (readonly [path: string, place: MountPlace | undefined])[],
): Problem | undefined {
  const isPrivate = (m: MountPlace | undefined): boolean =>
    m !== undefined && !/shared|slave/.test(m.propagation);
  const bad = all.filter(([, place]) => isPrivate(place));
  if (bad.length === 0) return undefined;
  const paths = bad.map(([path]) => `"${path}"`).join(', ');
  const mounts = [...new Set(bad.map(([, place]) => place?.at ?? ''))];
  return {
    what: `what is mounted below ${paths} during a session, such as a USB stick or a home directory, does not appear in it: ${mounts.join(', ')} is mounted private; this is needed at every boot`,
    fix: mounts.map(at => `mount --make-rshared ${at}`).join(' && '),
  };
}
