/** A new generation nobody can log in to is taken back by itself; a generation is rolled back by an administrator. */
import { MayflyError } from './errors.ts';
import {
  clearDemoted,
  endProbation,
  generationNumbers,
  markDemoted,
  pointStableAt,
  probation,
  readableGeneration,
  readGeneration,
  stableNumber,
  whyDemoted,
  writeProbation,
} from './generations.ts';
import type { Host } from './host.ts';
import type { Paths } from './state.ts';
import type { Machine } from './steps.ts';

/** Whether a failed login speaks against the generation, not against the person, the pool or the moment. */
function blamesGeneration(error: MayflyError): boolean {
  return ['command', 'unsafe', 'corrupt', 'internal', 'missing-tool', 'no-generation'].includes(error.code);
}

/**
 * Counts a login that failed with a generation on probation. When none has succeeded and enough have failed, the
 * one before it becomes stable again. Two failing at the same moment may count as one: it then takes one more.
 */
function failedLogin({ host, paths, config, log }: Machine, number: number, error: MayflyError): void {
  const p = probation(host, paths);
  if (p?.number !== number || config.check.demote_after === 0) return;
  const failures = p.failures + 1;
  if (failures < config.check.demote_after) {
    writeProbation(host, paths, { ...p, failures });
    return;
  }
  const good =
    readableGeneration(host, paths, p.previous) && whyDemoted(host, paths, p.previous) === undefined;
  if (!good || stableNumber(host, paths) !== number) return;
  const reason = `the first ${failures} logins failed, the last because: ${error.message}`;
  markDemoted(host, paths, number, reason);
  pointStableAt(host, paths, p.previous);
  endProbation(host, paths);
  log('err', `generation ${number} is demoted and ${p.previous} is stable again: ${reason}`);
}

/** How often a login starts over because the stable generation changed under it. */
export const LOGIN_TRIES = 3;

/** The first login that succeeds ends a generation's probation. */
export function loginSucceeded({ host, paths }: Machine, number: number): void {
  if (probation(host, paths)?.number === number) endProbation(host, paths);
}

/**
 * Whether a failed login may succeed now: the generation was retired or rolled back meanwhile, or it has just been
 * demoted because nobody could log in to it.
 */
export async function mayTryAgain(on: Machine, number: number | undefined, error: unknown): Promise<boolean> {
  if (!(error instanceof MayflyError)) return false;
  if (number === undefined) {
    if (error.code === 'no-generation') await on.host.sleep(20); // rolled back to one that is just being put back
    return error.code === 'no-generation';
  }
  if (stableNumber(on.host, on.paths) === number && blamesGeneration(error)) failedLogin(on, number, error);
  return stableNumber(on.host, on.paths) !== number;
}

/**
 * Makes a kept generation stable at once: `number`, or the newest good one before the stable. It waits for no update
 * at work, which then leaves the pointer alone. Returns what is stable now, and what was.
 */
export function rollback(
  { host, paths, log }: Machine,
  number: number | undefined,
): { readonly from: number | undefined; readonly to: number } {
  const from = stableNumber(host, paths);
  const to = number ?? lastGoodBefore(host, paths, from);
  if (to === undefined) {
    throw new MayflyError(
      'no-generation',
      `there is no good generation before ${from ?? 'the first'} to go back to`,
    );
  }
  if (!readGeneration(host, paths, to)) {
    throw new MayflyError('no-generation', `there is no generation ${to}`, { generation: to });
  }
  if (from === to) return { from, to };
  pointStableAt(host, paths, to);
  // Whoever retires a generation looks at the pointer after taking its file; so we look at the file after pointing.
  if (!readGeneration(host, paths, to)) {
    if (from !== undefined) pointStableAt(host, paths, from);
    throw new MayflyError('no-generation', `generation ${to} is just being removed`, { generation: to });
  }
  clearDemoted(host, paths, to);
  if (from !== undefined && to < from) markDemoted(host, paths, from, `rolled back to generation ${to}`);
  endProbation(host, paths);
  log('notice', `generation ${to} is stable${from === undefined ? '' : `; it was ${from}`}`);
  return { from, to };
}

function lastGoodBefore(host: Host, paths: Paths, from: number | undefined): number | undefined {
  return generationNumbers(host, paths)
    .filter(n => (from === undefined || n < from) && whyDemoted(host, paths, n) === undefined)
    .filter(n => readableGeneration(host, paths, n) !== undefined)
    .at(-1);
}
