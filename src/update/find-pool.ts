/** Which pool this machine has: from its record or, if that is lost, from what is in the pool. */
import { hasCode, MayflyError } from '../errors.ts';
import { fileSystemType } from '../linux/file-system-type.ts';
import type { Host } from '../linux/host.ts';
import { isMounted } from '../linux/mounts.ts';
import { type Generation, generationNumbers, readableGeneration } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { imagePath, readPool, writePool } from '../state/pool.ts';
import { parseSeal } from '../state/seals.ts';
import type { BackendKind, FileSystem, Pool } from '../volume/backend.ts';
import { addPoolId, poolId } from '../volume/directory-layout.ts';
import { isUsable } from './health.ts';
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
      const found = await searchPool(on);
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
    const found = await searchPool(on);
    if (found) return await restore(found, `the corrupt file "${paths.poolFile}"`);
    const hint = `rm -f ${paths.poolFile} ${paths.stable} ${paths.generations}/* && mayfly init`; // creates a new pool
    throw new MayflyError('corrupt', `${error.message}, and so is the record of every generation`, { hint });
  }
}

/** What the record of the pool would be, if it is lost: by the record of a generation or, without one, by what is in the pool. */
export async function searchPool(on: Machine): Promise<Pool | undefined> {
  const { host, paths } = on;
  const [first] = generationNumbers(host, paths).flatMap(
    n => readableGeneration(host, paths, n)?.volume ?? [],
  );
  return first ? poolOf(host, paths, first) : findPool(on);
}

/** Completes the record of an earlier version, while the pool is there. */
export async function noteMountPoint(on: Machine, pool: Pool): Promise<void> {
  const { host, paths } = on;
  const { isThere } = on.backend(pool.backend);
  const isComplete = (): boolean => pool.mountPoint !== undefined && pool.id === poolId(host, pool.path);
  if ((isComplete() && pool.id !== undefined) || isThere?.(pool.path) !== true) return;
  const numbers = generationNumbers(host, paths);
  const known = numbers.flatMap(number => readableGeneration(host, paths, number) ?? []);
  if (known.length > 0 && !(await anyIsUsable(on, known))) return; // it may be another pool
  addPoolId(host, pool.path);
  if (isComplete()) return;
  const now = await withMountPoint(host, pool);
  if (JSON.stringify(now) !== JSON.stringify(pool)) writePool(host, paths, now);
}

async function anyIsUsable(on: Machine, generations: readonly Generation[]): Promise<boolean> {
  for (const g of generations) if (await isUsable(on, g)) return true;
  return false;
}

/**
 * The pool that is where `init` makes one by the configuration, if it has volumes of ours; on LVM in the volume group
 * `group` or, without one, in any. Nothing is changed.
 */
export async function findPool(on: Machine, group?: string): Promise<Pool | undefined> {
  const { host, paths, config } = on;
  const { path } = config.pool;
  const image = imagePath(paths);
  const isThere = (kind: BackendKind): boolean => on.backend(kind).isThere?.(path) === true;
  if (host.lstat(image)?.kind === 'file' && (isMounted(host, path) || !isThere('btrfs'))) {
    return { backend: 'btrfs', path, image };
  }
  if (isThere('btrfs') || (await hasSealed(on, path))) {
    // On a btrfs, only subvolumes are volumes of the backend of that name; to the other one every directory is.
    const isBtrfs = (await fileSystemType(host, path)) === 'btrfs';
    for (const kind of isBtrfs ? (['btrfs', 'overlay'] as const) : (['overlay'] as const)) {
      const { volumes } = await on.backend(kind).list(path);
      // Of a session nothing may be left but an empty directory, after a boot.
      if (volumes.some(v => v.role !== 'session')) return { backend: kind, path };
    }
    return undefined;
  }
  const chosen = group ?? config.lvm.group;
  for (const name of chosen === '' ? await volumeGroups(host) : [chosen]) {
    const found = await findLvmPool(on, name);
    if (found) return found;
  }
  return undefined;
}

/** The names of all volume groups; none without LVM. */
async function volumeGroups(host: Host): Promise<string[]> {
  const args = ['--noheadings', '-o', 'vg_name'];
  try {
    const { stdout } = await host.run({ file: 'vgs', args, effect: 'read', okCodes: [0, 5] });
    return stdout
      .split('\n')
      .map(line => line.trim())
      .filter(line => line !== '');
  } catch (error) {
    if (!hasCode(error, 'missing-tool', 'command', 'timeout')) throw error;
    return [];
  }
}

/** Whether there is a sealed generation at `path`, although what marks a pool is missing. */
async function hasSealed(on: Machine, path: string): Promise<boolean> {
  for (const backend of ['btrfs', 'overlay'] as const)
    if (await hasSealedGeneration(on, { backend, path })) return true;
  return false;
}

async function findLvmPool({ config, backend }: Machine, group: string): Promise<Pool | undefined> {
  const path = `/dev/${group}/${config.lvm.name}`;
  for (const kind of ['lvm-thin', 'lvm'] as const) {
    try {
      const { volumes } = await backend(kind).list(path);
      if (volumes.length === 0) return undefined;
      if ((await backend(kind).isOwnKind?.(path)) === false) continue; // both list the same
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
