/**
 * Gives access to a volume's tree. With overlay and btrfs it is a directory. A volume on a device is mounted while it
 * is needed, among the mount points of sessions, where no other namespace gets a copy of the mount. Callers must hold
 * the lock `update`, because there is one mount point per volume.
 */
import { reasonOf } from '../errors.ts';
import { makeMountOps, mountCommand } from '../linux/mount-program.ts';
import { detach } from '../linux/mounts.ts';
import { readableGeneration } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { ensureMountRoot } from '../state/mount-root.ts';
import { generationOf, masterOf, type Pool, type Volume, workOf } from '../volume/backend.ts';

function treeMountPoint({ paths }: Machine, v: Volume): string {
  return `${paths.roots}/tree-${v.role}${v.role === 'generation' ? `-${v.name}` : ''}`;
}

/**
 * Runs `act` with the directory that holds the tree of a master, work or generation volume; returns its result.
 * Throws `stuck` if the volume cannot be unmounted afterwards.
 */
export async function withMountedVolume<T>(
  on: Machine,
  v: Volume,
  act: (tree: string) => Promise<T>,
): Promise<T> {
  const backend = on.backend(v.backend);
  const tree = backend.path(v);
  if (tree !== undefined) return act(tree);
  const mountPoint = treeMountPoint(on, v);
  await ensureMountRoot(on);
  await detach(on.host, mountPoint, false);
  on.host.mkdir(mountPoint, 0o755);
  const leave = async (): Promise<void> => {
    await detach(on.host, mountPoint, false);
    await backend.detachTree?.(v); // proves that it is unmounted and therefore written to the device
  };
  let result: T;
  try {
    const mount = await backend.attachTree?.(v, mountPoint);
    if (mount) await on.host.run(mountCommand([makeMountOps()(mount)], on.lockFds));
    result = await act(mountPoint);
  } catch (error) {
    await leave().catch(second =>
      on.log('warning', `${mountPoint} is left for recovery: ${reasonOf(second)}`),
    );
    throw error;
  }
  await leave();
  return result;
}

/** Unmounts the trees that a crash left mounted. */
export async function unmountLeftovers(on: Machine, pool: Pool): Promise<void> {
  const { host, paths } = on;
  const generations = host
    .list(paths.roots)
    .flatMap(name => /^tree-generation-(\d{1,9})$/.exec(name)?.[1] ?? [])
    .map(n => readableGeneration(host, paths, Number(n))?.volume ?? generationOf(pool, Number(n)));
  for (const v of [workOf(pool), masterOf(pool), ...generations]) {
    if (host.lstat(treeMountPoint(on, v)) === undefined) continue;
    await detach(host, treeMountPoint(on, v), false);
    await on.backend(pool.backend).detachTree?.(v);
  }
}
