/** The promotion: the candidate becomes the stable generation by one rename. */
import { pointStableAt, stableNumber, writeProbation } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { writeIntent } from './adopt.ts';
import { acceptCandidate } from './pool.ts';

/** `kept`: the pointer was moved by somebody else meanwhile, and stays where it is. */
interface Promotion {
  readonly result: 'promoted' | 'kept';
  readonly generation: number;
  readonly reason?: string;
}

/**
 * Promotes a candidate. The rename of its record is the commit point; `recover` completes the rest after a crash.
 * Logins are not blocked: each gets the old or the new generation, and both exist.
 */
export function promote(on: Machine, number: number, before: number | undefined): Promotion {
  const { host, paths } = on;
  writeIntent(host, paths, number, before);
  acceptCandidate(on, number);
  const now = stableNumber(host, paths);
  if (now !== before) {
    const reason = `generation ${now} became stable meanwhile`;
    return { result: 'kept', generation: number, reason };
  }
  if (before !== undefined) writeProbation(host, paths, { number, previous: before, failures: 0 });
  pointStableAt(host, paths, number);
  return { result: 'promoted', generation: number };
}
