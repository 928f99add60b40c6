/** Which pool this machine has: from its record or, if that is lost, from what is in the pool. */
import { hasCode, MayflyError } from '../errors.ts';
import { isMounted } from '../linux/mounts.ts';
import { generationNumbers, readableGeneration } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { imagePath, readPool, writePool } from '../state/pool.ts';
import { parseSeal } from '../state/seals.ts';
import type { BackendKind, FileSystem, Pool } from '../volume/backend.ts';
import { poolOf } from './pool.ts';
import { makePoolDirectory } from './pool-directory.ts';
import { withMountPoint } from './pool-place.ts';
import { hasSealedGeneration } from './seals.ts';

/** What is told about the search: what was written again, and what does not agree. */
export interface PoolSearch {
  readonly restored: (what: string) => void;
  readonly wrong: (what: string) => void;
}

/**
 * The recorded pool. If the record is missing or corrupt, it is restored from the record of a generation, or from the pool
 * that is where the configuration says; throws `corrupt` if nothing tells. Undefined if there is none, and also if the
 * record names a pool in which no generation is: what is in there may be another Mayfly's.
 */
export async function poolOnRecord(on: Machine, o: PoolSearch): Promise<Pool | undefined> {
  const { host, paths } = on;
  const known = generationNumbers(host, paths).flatMap(n => readableGeneration(host, paths, n)?.volume ?? []);
  const [first] = known;
  const restore = async (found: Pool, what: string): Promise<Pool> => {
    if (found.image !== undefined) makePoolDirectory(host, found.path, paths.state); // it may be lost with the state
    const pool = await withMountPoint(host, found);
    writePool(host, paths, pool);
    o.restored(what);
    return pool;
  };
  try {
    const pool = readPool(host, paths);
    if (pool === undefined) {
      const found = first ? poolOf(host, paths, first) : await findPool(on);
      return found && (await restore(found, `the record of the pool "${found.path}"`));
    }
    const isKnown = known.some(v => v.pool === pool.path && v.backend === pool.backend);
    if (isKnown || first === undefined) return pool;
    o.wrong(
      `"${paths.poolFile}" names the pool "${pool.path}", but the generations are in "${first.pool}": one was changed by hand`,
    );
    return undefined;
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'corrupt') throw error;
    const found = first ? poolOf(host, paths, first) : await findPool(on);
    if (found) return await restore(found, `the corrupt file "${paths.poolFile}"`);
    const hint = `rm -f ${paths.poolFile} ${paths.stable} ${paths.generations}/* && mayfly init`; // creates a new pool
    throw new MayflyError('corrupt', `${error.message}, and so is the record of every generation`, { hint });
  }
}

/** Completes the record of an earlier version, while the pool is there. */
export async function noteMountPoint(on: Machine, pool: Pool): Promise<void> {
  const { host, paths } = on;
  const isComplete = pool.mountPoint !== undefined && pool.id !== undefined;
  if (isComplete || on.backend(pool.backend).isThere?.(pool.path) !== true) return;
  const now = await withMountPoint(host, pool);
  if (JSON.stringify(now) !== JSON.stringify(pool)) writePool(host, paths, now);
}

/** The pool that is where `init` makes one by the configuration, if it has volumes of ours. */
export async function findPool(on: Machine): Promise<Pool | undefined> {
  const { host, paths, config } = on;
  const { path } = config.pool;
  const image = imagePath(paths);
  const isThere = (kind: BackendKind): boolean => on.backend(kind).isThere?.(path) === true;
  if (host.lstat(image)?.kind === 'file' && (isMounted(host, path) || !isThere('btrfs'))) {
    return { backend: 'btrfs', path, image };
  }
  if (isThere('btrfs') || (await hasSealed(on, path))) {
    // On a btrfs, only subvolumes are volumes of the backend of that name; to the other one every directory is.
    for (const kind of ['btrfs', 'overlay'] as const) {
      const [one] = (await on.backend(kind).list(path)).volumes;
      if (one) return { backend: one.backend, path };
    }
    return undefined;
  }
  return config.lvm.group === '' ? undefined : findLvmPool(on);
}

/** Whether there is a sealed generation at `path`, although what marks a pool is missing. */
async function hasSealed(on: Machine, path: string): Promise<boolean> {
  for (const backend of ['btrfs', 'overlay'] as const)
    if (await hasSealedGeneration(on, { backend, path })) return true;
  return false;
}

async function findLvmPool({ config, backend }: Machine): Promise<Pool | undefined> {
  const path = `/dev/${config.lvm.group}/${config.lvm.name}`;
  for (const kind of ['lvm-thin', 'lvm'] as const) {
    try {
      const { volumes } = await backend(kind).list(path);
      if (volumes.length === 0) return undefined;
      // Both list the same; only a thin pool has a usage of its own.
      if (kind === 'lvm-thin' && (await backend(kind).usage(path)).total === 0) continue;
      return { backend: kind, path, fs: await fileSystemIn(backend(kind), path, config.lvm.fs) };
    } catch (error) {
      if (!hasCode(error, 'missing-tool', 'refused', 'command', 'corrupt')) throw error;
      return undefined; // no such group, or no LVM
    }
  }
  return undefined;
}

/** The file system of the volumes, as a seal names it. */
async function fileSystemIn(
  backend: ReturnType<Machine['backend']>,
  path: string,
  otherwise: FileSystem,
): Promise<FileSystem> {
  for (const [number, text] of await backend.seals(path)) {
    const fs = parseSeal(text, number)?.fs;
    if (fs !== undefined) return fs;
  }
  return otherwise;
}
