/**
 * Having a volume's tree at hand. The trees of overlay and btrfs lie in directories; one on a device is mounted for as
 * long as it is needed, among the mount points of sessions, where no other namespace gets a copy of it. Only while
 * holding the lock `update`: there is one mount point for each role.
 */
import { reasonOf } from '../errors.ts';
import { makeMountOps, mountCommand } from '../linux/mount-program.ts';
import { detach } from '../linux/mounts.ts';
import { readableGeneration, stableNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { ensureMountRoot } from '../state/mount-root.ts';
import { generationOf, masterOf, type Pool, type Volume, workOf } from '../volume/backend.ts';

function treeMountPoint({ paths }: Machine, v: Volume): string {
  return `${paths.roots}/tree-${v.role}`;
}

/** Runs `act` with the directory that shows the tree of a master, work or generation volume. */
export async function withMountedVolume<T>(
  on: Machine,
  v: Volume,
  act: (tree: string) => Promise<T>,
): Promise<T> {
  const backend = on.backend(v.backend);
  const tree = backend.path(v);
  if (tree !== undefined) return act(tree);
  const place = treeMountPoint(on, v);
  await ensureMountRoot(on);
  await detach(on.host, place, false);
  on.host.mkdir(place, 0o755);
  const leave = async (): Promise<void> => {
    await detach(on.host, place, false);
    await backend.detachTree?.(v); // proves that it is unmounted, and so written out
  };
  let result: T;
  try {
    const mount = await backend.attachTree?.(v, place);
    if (mount) await on.host.run(mountCommand([makeMountOps()(mount)], on.lockFds));
    result = await act(place);
  } catch (error) {
    await leave().catch(second => on.log('warning', `${place} is left for recovery: ${reasonOf(second)}`));
    throw error;
  }
  await leave();
  return result;
}

/** Unmounts what a death left at hand. */
export async function unmountLeftovers(on: Machine, pool: Pool): Promise<void> {
  const { host, paths } = on;
  const stable = stableNumber(host, paths);
  // Of generations only the stable one is ever read from.
  const last = stable === undefined ? undefined : readableGeneration(host, paths, stable)?.volume;
  for (const v of [workOf(pool), masterOf(pool), last ?? generationOf(pool, 1)]) {
    if (host.lstat(treeMountPoint(on, v)) === undefined) continue;
    await detach(host, treeMountPoint(on, v), false);
    await on.backend(pool.backend).detachTree?.(v);
  }
}
