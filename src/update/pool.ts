/** The pool as a whole: having it there, room in it, and taking out what interrupted updates left. */
import { type Config, limitsOf } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { isMounted } from '../linux/mounts.ts';
import { formatBytes, parseSize } from '../size.ts';
import {
  changeState,
  forgetGeneration,
  type Generation,
  type GenerationState,
  generationNumbers,
  pointStableAt,
  readGeneration,
  stableNumber,
  whyDemoted,
  writeGeneration,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Paths } from '../state/paths.ts';
import { readSession } from '../state/sessions.ts';
import { generationOf, masterOf, type Pool, type Usage, type Volume, workOf } from '../volume/backend.ts';
import { admit, usageOf } from '../volume/usage.ts';
import { cowReserve } from './pool-usage.ts';
import { pins, prune, retire } from './retention.ts';
import { unmountLeftovers } from './volume-tree.ts';

/** Whether a generation's volume is there and is the one that was sealed. */
export async function isUsable(on: Machine, g: Generation | undefined): Promise<boolean> {
  return g !== undefined && (await on.backend(g.volume.backend).identity(g.volume)) === g.identity;
}

/** Where the embedded pool's image is, if there is one. */
export function imagePath(paths: Paths): string {
  return `${paths.state}/pool.img`;
}

/** The pool a generation's volume is in, as `init` wrote it down. */
export function poolOf(host: Host, paths: Paths, { backend, pool: path, fs }: Volume): Pool {
  const image = imagePath(paths);
  // An image that a death of `init` left may lie beside a pool that is in a directory.
  const inImage =
    backend === 'btrfs' &&
    host.lstat(image)?.kind === 'file' &&
    (isMounted(host, path) || host.lstat(`${path}/.mayfly-pool`) === undefined);
  return { backend, path, ...(fs ? { fs } : {}), ...(inImage ? { image } : {}) };
}

/** Has the pool there: mounts the embedded one where it is an image, opens one on devices. At boot nobody else does. */
export async function mountPool(on: Machine, pool: Pool): Promise<void> {
  await on.backend(pool.backend).open?.(pool.path);
  if (pool.image === undefined) return;
  const { host } = on;
  if (isMounted(host, pool.path)) return;
  if (host.lstat(pool.image)?.kind !== 'file') {
    throw new MayflyError('no-pool', `the pool's image "${pool.image}" is not there`, { path: pool.image });
  }
  // commit: btrfs takes the deleted sessions apart when it next wakes up for a commit, and everybody waits for a
  // heap of them; a room's of 30 seconds, the default, kept logins waiting for half a second (measured).
  await host.run({
    file: 'mount',
    args: ['-o', 'loop,noatime,private,commit=5', '--', pool.image, pool.path],
    effect: 'write',
  });
}

/** What an update is about to make stable, and its working copy master; written before it does either. */
function intentPath(paths: Paths): string {
  return `${paths.state}/adopt`;
}

export function writeIntent(host: Host, paths: Paths, number: number, before: number | undefined): void {
  host.write(intentPath(paths), `${number} ${before ?? 0}\n`, { mode: 0o600, durable: true });
}

function readIntent(
  host: Host,
  paths: Paths,
): { readonly number: number; readonly before: number } | undefined {
  const [number, before] = (host.read(intentPath(paths)) ?? '').trim().split(' ').map(Number);
  return number && before !== undefined ? { number, before } : undefined;
}

/** The working copy becomes master; done again after a death, it goes on where that was. */
export async function adopt(on: Machine, pool: Pool): Promise<void> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const work = workOf(pool);
  if ((await backend.identity(work)) !== undefined) {
    await backend.remove(masterOf(pool));
    await backend.rename(work, masterOf(pool));
  }
  host.unlink(intentPath(paths));
}

/** Does one piece of tidying; it decides whether a failure ends the rest. */
export type TryEach = (what: string, act: () => Promise<void>) => Promise<void>;

/**
 * Finishes or takes back what an update that died had begun. Its commit point is the renaming of the candidate to
 * proven: before it everything is dropped, after it everything is finished. Only while holding the lock `update`.
 */
export async function finishInterruptedUpdate(
  on: Machine,
  pool: Pool,
  attempt: TryEach,
  swept: string[],
): Promise<void> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  await attempt('a tree', () => unmountLeftovers(on, pool));
  const meant = readIntent(host, paths);
  if (meant !== undefined) {
    const { number, before } = meant;
    await attempt(`generation ${number}`, async () => {
      if (!readGeneration(host, paths, number)) return host.unlink(intentPath(paths));
      const untouched = (stableNumber(host, paths) ?? 0) === before;
      if (untouched && whyDemoted(host, paths, number) === undefined) pointStableAt(host, paths, number);
      await adopt(on, pool);
      swept.push(`the work left of generation ${number}, whose promotion was finished`);
    });
  }
  for (const number of generationNumbers(host, paths, 'retired'))
    await attempt(`generation ${number}`, async () => {
      if (await retire(on, number, 'its removal was interrupted')) swept.push(`generation ${number}`);
    });
  const pinned = pins(on);
  const inUse = (number: number): boolean => pinned === undefined || pinned.has(number);
  for (const number of generationNumbers(host, paths, 'candidate'))
    await attempt(`generation ${number}`, async () => {
      if (inUse(number)) return; // its trial session is stuck, and stands on it
      await dropCandidate(on, pool, number);
      swept.push(`generation ${number}, which was never proven`);
    });

  const { volumes, leftovers: litter, spares } = await backend.list(pool.path);
  const stable = stableNumber(host, paths);
  const stale = [...spares].filter(([number]) => number !== stable).map(([, name]) => name);
  for (const name of [...litter, ...stale]) {
    // What a session leaves is removed by its `stop`, under its lock, for as long as there is a record.
    const id = /^sessions\/\.[a-z]+-(.*)$/.exec(name)?.[1];
    if (id !== undefined && readSession(host, paths, id)) continue;
    await attempt(name, async () => {
      await backend.sweep(pool.path, name);
      swept.push(name);
    });
  }
  const sealed = new Set(generationNumbers(host, paths).map(String));
  for (const v of volumes) {
    const halfMade = v.role === 'generation' && !sealed.has(v.name) && !inUse(Number(v.name));
    const left = v.role === 'work' && readIntent(host, paths) === undefined;
    if (!halfMade && !left) continue;
    await attempt(`${v.role} ${v.name}`, async () => {
      await backend.remove(v);
      swept.push(`${v.role} ${v.name}`);
    });
  }
}

/** Makes an immutable copy of the working copy generation `number`. The lock's descriptors go with the storage command. */
export async function seal(
  on: Machine,
  pool: Pool,
  g: Pick<Generation, 'number' | 'origin'>,
  standing: GenerationState,
  fds: readonly number[],
): Promise<Generation> {
  const backend = on.backend(pool.backend);
  const volume = generationOf(pool, g.number);
  await backend.fork(workOf(pool), volume, { lockFds: fds });
  const identity = await backend.identity(volume);
  if (identity === undefined)
    throw new MayflyError('internal', `generation ${g.number} is not there after it was made`);
  const generation: Generation = { ...g, volume, identity, created: new Date(on.host.now()).toISOString() };
  writeGeneration(on.host, on.paths, generation, standing);
  return generation;
}

/** A generation that did not prove itself, whole or in part. */
async function dropCandidate(on: Machine, pool: Pool, number: number): Promise<void> {
  const { host, paths } = on;
  await on.backend(pool.backend).remove(generationOf(pool, number));
  forgetGeneration(host, paths, number);
}

/** A candidate that proved itself; from here on it may be promoted. */
export function acceptCandidate({ host, paths }: Machine, number: number): void {
  changeState(host, paths, number, 'candidate', 'proven');
}

/** An image is sparse: what holds it can be full before it is. */
async function usageFor(on: Machine, pool: Pool): Promise<Usage> {
  const usage = await on.backend(pool.backend).usage(pool.path);
  if (pool.image === undefined) return usage;
  return { ...usage, free: Math.min(usage.free, usageOf(on.host, pool.image).free) };
}

/** Room for an update, made by collecting generations where there is too little. Throws `full`. */
export async function ensureSpace(on: Machine, pool: Pool): Promise<void> {
  const backend = on.backend(pool.backend);
  const copies = (await backend.forkCost(masterOf(pool))) * 2;
  const needed = copies + (await cowReserve(on, pool)) + minFree(on.config);
  const isShort = async (): Promise<boolean> => {
    const { free, percent, problem } = await usageFor(on, pool);
    if (problem) return false; // which no removal mends
    return free < needed || percent > fullAt(on, pool);
  };
  if (await isShort()) await prune(on, pool, isShort);
  const free = await admitted(on, pool);
  if (free >= needed) return;
  throw new MayflyError(
    'full',
    `the pool "${pool.path}" has ${formatBytes(free)} left; an update needs ${formatBytes(needed)}`,
    { pool: pool.path, free, needed },
  );
}

/** Throws `full` where the pool has less room than sessions are promised. */
export async function requireSpace(on: Machine, pool: Pool): Promise<void> {
  const free = await admitted(on, pool);
  if (free >= minFree(on.config)) return;
  throw new MayflyError('full', `the update left only ${formatBytes(free)} in the pool "${pool.path}"`, {
    pool: pool.path,
    free,
  });
}

const fullAt = (on: Machine, pool: Pool): number => limitsOf(on.config, pool.backend).full;

/** Bytes that are left. An update has to leave room as a login has: a full pool hurts everybody who is in. */
async function admitted(on: Machine, pool: Pool): Promise<number> {
  const usage = await usageFor(on, pool);
  admit(usage, pool.path, { max_used_percent: fullAt(on, pool), min_free: 0 });
  return usage.free;
}

function minFree(config: Config): number {
  return parseSize(config.admission.min_free);
}
