/** Automatic rollback of a new generation to which logins fail. */
import { MayflyError } from '../errors.ts';
import {
  endProbation,
  markDemoted,
  pointStableAt,
  probation,
  readableGeneration,
  stableNumber,
  whyDemoted,
  writeProbation,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';

/** Whether an error points to a fault of the generation, and not of the user, the pool or a passing condition. */
function blamesGeneration(error: MayflyError): boolean {
  return ['command', 'unsafe', 'corrupt', 'internal', 'missing-tool', 'no-generation'].includes(error.code);
}

/**
 * Counts a failed login to a generation on probation. After `check.demote_after` failures without a success, the
 * generation is demoted and the previous one becomes stable again. Two logins that fail at the same moment may count
 * as one; the rollback then takes one more.
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
  const reason = `the first ${failures} logins failed; the last error was: ${error.message}`;
  markDemoted(host, paths, number, reason);
  pointStableAt(host, paths, p.previous);
  endProbation(host, paths);
  log('err', `generation ${number} is demoted and ${p.previous} is stable again: ${reason}`);
}

/** How many times a login starts over because the stable generation changed meanwhile. */
export const LOGIN_TRIES = 3;

/** Ends the probation of generation `number` after a successful login. */
export function loginSucceeded({ host, paths }: Machine, number: number): void {
  if (probation(host, paths)?.number === number) endProbation(host, paths);
}

/**
 * Whether a failed login can succeed now: the generation was retired or rolled back meanwhile, or this failure has
 * just demoted it. `number` is the generation that was tried, undefined if the login found none.
 */
export async function mayTryAgain(on: Machine, number: number | undefined, error: unknown): Promise<boolean> {
  if (!(error instanceof MayflyError)) return false;
  if (number === undefined) {
    if (error.code === 'no-generation') await on.host.sleep(20); // a rollback may be putting its record back
    return error.code === 'no-generation';
  }
  if (stableNumber(on.host, on.paths) === number && blamesGeneration(error)) failedLogin(on, number, error);
  return stableNumber(on.host, on.paths) !== number;
}
