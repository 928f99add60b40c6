/** A new generation nobody can log in to is taken back by itself. */
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
