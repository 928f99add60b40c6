/** Spares: snapshots made in advance, so that the next login does not wait for one. */
import { reasonOf } from '../errors.ts';
import { type Generation, readStable } from '../state/generations.ts';
import { withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';

/**
 * Makes a spare of the stable generation, or of `origin`, if the backend has spares. Never throws: a failure is
 * logged and must not fail the logout that asked for it. With 'start' it does not wait for the command, which keeps
 * the lock; that is safe because the spare exists completely or not at all.
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
    on.log('debug', `cannot create a snapshot for the next login: ${reasonOf(error)}`);
  }
}
