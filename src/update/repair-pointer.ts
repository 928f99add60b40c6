/** The pointer to the stable generation, where it is lost or names a generation that is gone. */
import {
  generationNumbers,
  readableGeneration,
  stableNumber,
  whyDemoted,
  writeProbation,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { movePointer } from '../state/promotion-lock.ts';
import type { Pool } from '../volume/backend.ts';
import { isUsable } from './health.ts';

/** Seconds that recovery waits for logins before it moves the pointer. It is tried again. */
const POINTER_WAIT = 10;

/**
 * Moves the pointer to the newest usable generation if there is no pointer, or if what it names has no good record, or is
 * gone from the pool. A generation that is there and is another than the one that was sealed stays stable, and refused.
 * Whether the new one was demoted may be forgotten with the state, so it is on probation if there is one before it. Returns
 * its number.
 */
export async function repairPointer(on: Machine, pool: Pool): Promise<number | undefined> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const isNeeded = async (): Promise<boolean> => {
    const stable = stableNumber(host, paths);
    if (stable === undefined || !readableGeneration(host, paths, stable)) return true;
    const { volumes } = await backend.list(pool.path);
    return !volumes.some(v => v.role === 'generation' && v.name === String(stable));
  };
  if (!(await isNeeded())) return undefined;
  const usable: number[] = [];
  for (const number of generationNumbers(host, paths).reverse())
    if (await isUsable(on, readableGeneration(host, paths, number))) usable.push(number);
  const good = usable.filter(number => whyDemoted(host, paths, number) === undefined);
  const [newest = usable[0], previous] = good; // one that was demoted is better than none
  if (newest === undefined) return undefined;
  const before = stableNumber(host, paths);
  const o = { what: `the recovery of generation ${newest}`, seconds: POINTER_WAIT };
  const isMoved = await movePointer(on, o, point => {
    if (stableNumber(host, paths) !== before || !readableGeneration(host, paths, newest)) return false;
    if (previous !== undefined) writeProbation(host, paths, { number: newest, previous, failures: 0 });
    point(newest);
    return true;
  });
  if (!isMoved) return undefined;
  on.log(
    'notice',
    `generation ${newest} is stable now: what the pointer named is gone, or has no good record`,
  );
  return newest;
}
