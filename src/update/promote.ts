/** The promotion: the candidate becomes the stable generation by one rename. */
import { hasCode, reasonOf } from '../errors.ts';
import { stableNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { movePointer } from '../state/promotion-lock.ts';
import { type Pool, workOf } from '../volume/backend.ts';
import { beginProbation, writeIntent } from './adopt.ts';
import { acceptCandidate } from './sealing.ts';

/** `kept`: the pointer was moved by somebody else meanwhile, and stays where it is; or, with `isPending`, not moved yet. */
interface Promotion {
  readonly result: 'promoted' | 'kept';
  readonly generation: number;
  readonly reason?: string;
  readonly isPending?: boolean;
}

/** Seconds that an update waits for logins. */
const PROMOTION_WAIT = 60;

/**
 * Promotes a candidate. The rename of its record is the commit point; `recover` completes the rest after a crash, and also
 * if logins keep the pointer from being moved in time.
 */
export async function promote(
  on: Machine,
  pool: Pool,
  number: number,
  before: number | undefined,
): Promise<Promotion> {
  const { host, paths } = on;
  const work = await on.backend(pool.backend).identity(workOf(pool));
  writeIntent(host, paths, number, before, work);
  await acceptCandidate(on, number);
  const o = { what: `the promotion of generation ${number}`, seconds: PROMOTION_WAIT };
  try {
    return await movePointer(on, o, (point): Promotion => {
      const now = stableNumber(host, paths);
      if (now !== before) {
        const reason = `generation ${now} became stable meanwhile`;
        return { result: 'kept', generation: number, reason };
      }
      if (before !== undefined) beginProbation(host, paths, number, before);
      point(number);
      return { result: 'promoted', generation: number };
    });
  } catch (error) {
    // The generation is proven: whatever the cause, there is nothing to take back, and `recover` completes it.
    if (!hasCode(error, 'locked', 'full', 'timeout', 'command', 'refused')) throw error;
    const reason = `${reasonOf(error)}; the service tries again within ten minutes`;
    return { result: 'kept', generation: number, reason, isPending: true };
  }
}
