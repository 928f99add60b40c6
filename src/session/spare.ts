/** Spares: snapshots made ahead of time, so that the next login need not wait for one. */
import { reasonOf } from '../errors.ts';
import { type Generation, readStable } from '../state/generations.ts';
import { withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';

/**
 * Makes the next login quicker: of the stable generation, or of one that is about to be. Whatever keeps it from being
 * made keeps no logout from having ended. A hook only starts it: the command keeps the lock, and what it makes is
 * whole or not there.
 */
export async function prepareSpare(
  on: Machine,
  how: 'start' | 'finish' = 'finish',
  origin?: Generation,
): Promise<void> {
  try {
    const { volume } = origin ?? readStable(on.host, on.paths);
    const backend = on.backend(volume.backend);
    if (!backend.spare) return;
    const make = backend.spare;
    await withLock(on.host, on.paths, 'spare', 0, lock => make(volume, [lock.fd], how === 'start'));
  } catch (error) {
    on.log('debug', `no spare for the next login: ${reasonOf(error)}`);
  }
}
