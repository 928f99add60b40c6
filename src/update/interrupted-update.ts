/** What an update or a removal leaves when it dies, completed or reverted. The caller holds the lock `update`. */
import { generationNumbers, generationPath, stableNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { dropUnused } from '../state/owners.ts';
import { numberInMark, parseSeal } from '../state/seals.ts';
import { readSession } from '../state/sessions.ts';
import { generationOf, type Pool, workOf } from '../volume/backend.ts';
import { completePromotion, keepLastTree, readIntent } from './adopt.ts';
import { requireThere } from './pool-place.ts';
import { dropRenumbering } from './renumber.ts';
import { repairPointer } from './repair-pointer.ts';
import { pins, retire } from './retention.ts';
import { dropCandidate } from './sealing.ts';
import { adoptSealed, type TryEach } from './seals.ts';
import { isStableUsable, type SeenTrees, unrecorded } from './unrecorded.ts';
import { unmountLeftovers } from './volume-tree.ts';

/** What was done, as text. */
export interface Cleanup {
  readonly swept: string[];
  readonly adopted: string[];
  /** What is neither on record nor removed. */
  readonly kept: string[];
}

/**
 * Completes or reverts an interrupted update. Its commit point is the seal that says proven: before it, everything is
 * dropped; after it, everything is completed. Nothing is dropped without a better one. Throws `refused` if the pool is not
 * there.
 */
export async function finishInterruptedUpdate(
  on: Machine,
  pool: Pool,
  tryEach: TryEach,
  done: Cleanup = { swept: [], adopted: [], kept: [] },
): Promise<void> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const { swept } = done;
  requireThere(on, pool);
  host.mkdir(paths.generations, 0o700); // it may be lost
  await tryEach('a mounted tree', () => unmountLeftovers(on, pool));
  const seen: SeenTrees = new Map();
  await tryEach('the seals', () => adoptSealed(on, pool, tryEach, done.adopted, seen));
  const intent = readIntent(host, paths);
  if (intent !== undefined) {
    const { number } = intent;
    await tryEach(`generation ${number}`, async () => {
      if (await completePromotion(on, pool, intent))
        swept.push(`leftovers of the promotion of generation ${number}, which was completed`);
    });
  }
  await tryEach('the pointer to the stable generation', async () => {
    const number = await repairPointer(on, pool);
    if (number !== undefined) done.adopted.push(`generation ${number}, which is stable now`);
  });
  const pinned = pins(on);
  const inUse = (number: number): boolean => pinned === undefined || pinned.has(number);
  await tryEach('removals', () => completeRemovals(on, tryEach, done));
  await tryEach('candidates', () => dropCandidates(on, pool, tryEach, done, inUse));

  const { volumes, leftovers, spares } = await backend.list(pool.path);
  const stable = stableNumber(host, paths);
  const stale = [...spares].filter(([number]) => number !== stable).map(([, name]) => name);
  for (const name of [...leftovers, ...stale]) {
    // While a session has a record, its `stop` removes its leftovers, under its own lock.
    const id = /^sessions\/\.[a-z]+-(.*)$/.exec(name)?.[1];
    if (id !== undefined && readSession(host, paths, id)) continue;
    await tryEach(name, async () => {
      await backend.sweep(pool.path, name);
      swept.push(name);
    });
  }
  const isWorking = volumes.some(v => v.role === 'work');
  if (!isWorking) dropRenumbering(host, paths);
  const all = (['candidate', 'proven', 'retired'] as const).flatMap(s => generationNumbers(host, paths, s));
  dropUnused(host, paths, all);
  await tryEach('generations that are not on record', async () => {
    for (const { volume, action, why } of await unrecorded(on, pool, seen)) {
      const what = `generation ${volume.name}`;
      if (action === 'keep') done.kept.push(`${what} in the pool is not on record and is kept: ${why}`);
      if (action !== 'remove' || inUse(Number(volume.name))) continue;
      await tryEach(what, async () => {
        await backend.remove(volume);
        swept.push(what);
      });
    }
  });
  const there = volumes.filter(v => v.role === 'generation').map(v => Number(v.name));
  await tryEach('seals without a generation', () => sweepSeals(on, pool, [...there, ...all]));
  if (!isWorking || readIntent(host, paths) !== undefined) return;
  await tryEach('work', async () => {
    if (await keepLastTree(on, pool)) return;
    await backend.remove(workOf(pool));
    dropRenumbering(host, paths);
    swept.push('work work');
  });
}

/** Completes removals while another generation is stable and usable: they may be those of another day. */
async function completeRemovals(on: Machine, tryEach: TryEach, done: Cleanup): Promise<void> {
  const numbers = generationNumbers(on.host, on.paths, 'retired');
  if (numbers.length === 0) return;
  const isSpare = await isStableUsable(on);
  for (const number of numbers)
    await tryEach(`generation ${number}`, async () => {
      if (!isSpare) done.kept.push(`generation ${number} is being removed, but there is no usable one`);
      else if (await retire(on, number, 'its removal was interrupted'))
        done.swept.push(`generation ${number}`);
    });
}

/**
 * Drops candidates that have not passed their checks, by their seals. A seal that cannot be read, and one that says proven
 * although its tree is not whole, say nothing against a generation.
 */
async function dropCandidates(
  on: Machine,
  pool: Pool,
  tryEach: TryEach,
  done: Cleanup,
  inUse: (number: number) => boolean,
): Promise<void> {
  const { host, paths } = on;
  const numbers = generationNumbers(host, paths, 'candidate').filter(n => !inUse(n)); // a trial session may be stuck
  if (numbers.length === 0) return;
  const backend = on.backend(pool.backend);
  const seals = await backend.seals(pool.path);
  const hasBetter = await isStableUsable(on);
  const whyKept = (number: number): string | undefined => {
    const seal = parseSeal(seals.get(number), number);
    if (seal?.proven) return 'its tree is not the one that has passed its checks';
    if (seals.has(number) && !seal) return 'its seal is damaged';
    if (!seal && numberInMark(backend.readMark?.(generationOf(pool, number))) === number)
      return 'its seal is lost';
    return hasBetter ? undefined : 'it has not passed its checks, and there is none that has';
  };
  for (const number of numbers)
    await tryEach(`generation ${number}`, async () => {
      if (generationNumbers(host, paths).includes(number)) {
        host.unlink(generationPath(paths, number, 'candidate')); // of another day
        return;
      }
      const why = whyKept(number);
      if (why !== undefined) {
        done.kept.push(`generation ${number} is a candidate and is kept: ${why}`);
        return;
      }
      await dropCandidate(on, pool, number);
      done.swept.push(`generation ${number}, which was never completed`);
    });
}

/** Removes seals of generations that were begun and never made. */
async function sweepSeals(on: Machine, pool: Pool, known: readonly number[]): Promise<void> {
  const backend = on.backend(pool.backend);
  for (const [number, text] of await backend.seals(pool.path))
    if (!known.includes(number) && parseSeal(text, number)?.proven === false)
      await backend.remove(generationOf(pool, number));
}
