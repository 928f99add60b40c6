/**
 * The volumes of ended sessions that are still being erased. A logout discards the volume, which takes no time, and starts
 * a process that erases it. This is for what that process did not do: it was killed, or power failed.
 */
import { type Discarded, type Pool, UNSEEN } from '../volume/backend.ts';
import type { Machine } from './machine.ts';

/** After how many milliseconds something is wrong: btrfs frees space at a commit, every 30 seconds by default. */
export const DISCARD_TIMEOUT = 600_000;

/** Completes what is left to do about discarded volumes, one after the other; each may take long. */
export async function eraseDiscarded(
  { backend }: Machine,
  pool: Pool,
  tryEach: (what: string, act: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const all = (await backend(pool.backend).list(pool.path)).discarded;
  const [deleted] = all.filter(d => d.deleted); // one look at the list of btrfs is for all of them
  for (const { name } of [...all.filter(d => !d.deleted), ...(deleted ? [deleted] : [])])
    await tryEach(name, () => backend(pool.backend).sweep(pool.path, name));
}

/** Why a discarded volume is still there, if it should not be; undefined otherwise. Pure. */
export function overdueReason({ session, age, deleted }: Discarded): string | undefined {
  if (age < DISCARD_TIMEOUT) return undefined;
  const since = `for more than ${DISCARD_TIMEOUT / 60_000} minutes`;
  return deleted
    ? `${session} has ended, but its space has not been freed ${since}: ${UNSEEN}`
    : `${session} has ended, but its volume has not been erased ${since}`;
}

/** How many volumes wait for what, as text; undefined if none does. Pure. */
export function describeDiscarded(all: readonly Discarded[]): string | undefined {
  const count = (n: number, what: string): string[] =>
    n === 0 ? [] : [`${n} volume${n === 1 ? '' : 's'} of ended sessions ${what}`];
  const deleted = all.filter(d => d.deleted).length;
  const words = [
    ...count(all.length - deleted, 'being erased'),
    ...count(deleted, 'whose space is not free yet'),
  ];
  return words.length === 0 ? undefined : words.join(', ');
}
