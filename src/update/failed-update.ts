/** What a failed update leaves: removed at once where that is possible, and left for recovery otherwise. */
import { reasonOf } from '../errors.ts';
import type { Machine } from '../state/machine.ts';
import type { Pool } from '../volume/backend.ts';
import { finishInterruptedUpdate } from './interrupted-update.ts';
import type { TryEach } from './seals.ts';

/**
 * Removes the leftovers of a failed update at once, because in a full pool they would prevent logins. What cannot be
 * removed now is left for `recover`, so that the caller can throw the reason of the failure itself.
 */
export async function dropWork(on: Machine, pool: Pool): Promise<void> {
  const tryEach = orLeaveToRecovery(on);
  await tryEach('the working copy', () => finishInterruptedUpdate(on, pool, tryEach));
}

/** Only logs a failure, unless it is fatal: one leftover that cannot be removed must not prevent a new generation. */
export function orLeaveToRecovery({ log }: Machine, isFatal = () => false): TryEach {
  return async (what, act) => {
    try {
      await act();
    } catch (error) {
      if (isFatal()) throw error;
      log('warning', `${what} is left for recovery: ${reasonOf(error)}`);
    }
  };
}
