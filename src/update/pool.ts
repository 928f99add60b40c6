/** The pool: mounting it, its space, sealing generations in it, and cleaning up after interrupted updates. */
import { REMEDY } from '../advice.ts';
import { type Config, limitsOf } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { isMounted } from '../linux/mounts.ts';
import { formatBytes, parseSize } from '../size.ts';
import { generationNumbers, readableGeneration } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Paths } from '../state/paths.ts';
import { imagePath } from '../state/pool.ts';
import type { Pool, Usage, Volume } from '../volume/backend.ts';
import { protectLayout, restoreMarker } from '../volume/directory-layout.ts';
import { admit, usageOf } from '../volume/usage.ts';
import { isUsable } from './health.ts';
import { cowReserve } from './pool-usage.ts';
import { staysMounted } from './read-only.ts';
import { prune } from './retention.ts';
import { hasSealedGeneration } from './seals.ts';

/** The record of the pool in which a generation's volume is, as `init` wrote it. */
export function poolOf(host: Host, paths: Paths, { backend, pool: path, fs }: Volume): Pool {
  const image = imagePath(paths);
  // An interrupted `init` may have left an image although the pool is a directory.
  const inImage =
    backend === 'btrfs' &&
    host.lstat(image)?.kind === 'file' &&
    (isMounted(host, path) || host.lstat(`${path}/.mayfly-pool`) === undefined);
  return { backend, path, ...(fs ? { fs } : {}), ...(inImage ? { image } : {}) };
}

/**
 * Makes the pool available: opens one on devices, mounts one in an image. Nothing else does so at boot. Then it and
 * the state directory are made accessible to root only. Throws `no-pool` if the image is missing, and `unsafe`.
 */
export async function mountPool(on: Machine, pool: Pool): Promise<void> {
  const { host, paths } = on;
  const { open } = on.backend(pool.backend);
  await open?.(pool.path);
  await mountImage(host, pool);
  host.own(paths.state, 0o700);
  if (open) return;
  const isLost = on.backend(pool.backend).isThere?.(pool.path) === false;
  if (isLost && (await hasOwnGeneration(on, pool))) restoreMarker(host, pool.path, pool.id);
  protectLayout(host, pool.path);
}

/** Whether a generation on record, or by its seal, is there as it was sealed: then this is the pool, whatever else is missing. */
async function hasOwnGeneration(on: Machine, pool: Pool): Promise<boolean> {
  for (const number of generationNumbers(on.host, on.paths)) {
    const g = readableGeneration(on.host, on.paths, number);
    if (g?.volume.pool === pool.path && (await isUsable(on, g))) return true;
  }
  return hasSealedGeneration(on, pool);
}

async function mountImage(host: Host, pool: Pool): Promise<void> {
  if (pool.image === undefined || (await staysMounted(host, pool))) return;
  if (host.lstat(pool.image)?.kind !== 'file') {
    throw new MayflyError('no-pool', `the pool's image "${pool.image}" is missing`, { path: pool.image });
  }
  // commit=5: btrfs cleans up deleted sessions at its next commit, and everything waits: half a second at the default.
  // subvolid=5: the pool is the top, whatever the default subvolume is. That one cannot be deleted, so it is set back.
  try {
    await host.run({
      file: 'mount',
      args: ['-o', 'loop,noatime,private,commit=5,subvolid=5', '--', pool.image, pool.path],
      effect: 'write',
    });
  } catch (error) {
    const { imageProblem } = await import('./pool-image.ts');
    const problem = await imageProblem(host, pool.image, REMEDY.examine);
    if (!problem) throw error;
    throw new MayflyError('refused', problem.what, { path: pool.image, hint: problem.fix }, { cause: error });
  }
  const args = ['subvolume', 'set-default', '5', pool.path];
  await host.run({ file: 'btrfs', args, effect: 'write', okCodes: [0, 1] });
}

/** Usage of the pool. An image is sparse, so the file system that holds it can fill up first. */
async function usageFor(on: Machine, pool: Pool): Promise<Usage> {
  const usage = await on.backend(pool.backend).usage(pool.path);
  if (pool.image === undefined) return usage;
  return { ...usage, free: Math.min(usage.free, (await usageOf(on.host, pool.image)).free) };
}

/**
 * Ensures that there is space for an update that starts from `source`, and prunes generations if there is too little.
 * Throws `full`.
 */
export async function ensureSpace(on: Machine, pool: Pool, source: Volume): Promise<void> {
  const backend = on.backend(pool.backend);
  const copies = (await backend.forkCost(source)) * 2;
  const needed = copies + (await cowReserve(on, pool)) + minFree(on.config);
  const isShort = async (): Promise<boolean> => {
    const { free, percent, problem } = await usageFor(on, pool);
    if (problem) return false; // removing generations does not fix it
    return free < needed || percent > fullAt(on, pool);
  };
  // The generation that the update starts from is not removed to make space for it.
  const kept = source.role === 'generation' ? Number(source.name) : undefined;
  if (await isShort()) await prune(on, pool, isShort, kept);
  const free = await admittedSpace(on, pool);
  if (free >= needed) return;
  throw new MayflyError(
    'full',
    `the pool "${pool.path}" has ${formatBytes(free)} left; an update needs ${formatBytes(needed)}`,
    { pool: pool.path, free, needed },
  );
}

/** Throws `full` if the pool has less free space than `admission.min_free`, which new sessions need. */
export async function requireSpace(on: Machine, pool: Pool): Promise<void> {
  const free = await admittedSpace(on, pool);
  if (free >= minFree(on.config)) return;
  throw new MayflyError('full', `the update left only ${formatBytes(free)} in the pool "${pool.path}"`, {
    pool: pool.path,
    free,
  });
}

const fullAt = (on: Machine, pool: Pool): number => limitsOf(on.config, pool.backend).full;

/** Free bytes of the pool. Throws `full` above the limit for logins: a full pool harms all sessions in it. */
async function admittedSpace(on: Machine, pool: Pool): Promise<number> {
  const usage = await usageFor(on, pool);
  admit(usage, pool.path, { max_used_percent: fullAt(on, pool), min_free: 0 });
  return usage.free;
}

function minFree(config: Config): number {
  return parseSize(config.admission.min_free);
}
