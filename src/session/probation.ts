/** Automatic rollback of a new generation to which logins fail. */
import { hasCode, MayflyError, reasonOf } from '../errors.ts';
import {
  endProbation,
  markDemoted,
  probation,
  readableGeneration,
  stableNumber,
  whyDemoted,
  writeProbation,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';

/** Whether an error points to a fault of the generation, and not of the user, the pool or a passing condition. */
function blamesGeneration(error: MayflyError): boolean {
  return ['command', 'unsafe', 'corrupt', 'internal', 'missing-tool', 'no-generation'].includes(error.code);
}

/**
 * How many people must have failed at least. What happens to one person alone may be the fault of their account or home
 * directory, and nobody may roll the machine back by failing on purpose.
 */
const LEAST_PEOPLE = 2;

/** Seconds that a login takes at most of its time to demote the generation that fails it. */
const DEMOTION_WAIT = 5;

/** Logs another account in to the same generation and out again; rejects if that fails. */
type TrialLogin = () => Promise<unknown>;

/** Whom else the generation fails in the same way after so many failures, in words; undefined if it is one person alone. */
type Confirmation = (failures: number) => Promise<string | undefined>;

/**
 * Counts a failed login to a generation on probation. When logins of `check.demote_after` people have failed in the same
 * way, without a success, the generation is demoted and the previous one becomes stable again. A machine may have only
 * one person: after so many failures `confirm` decides whether they are enough. Two logins that fail at the same moment
 * may count as one; the rollback then takes one more.
 */
async function failedLogin(
  on: Machine,
  number: number,
  uid: number,
  error: { readonly code: string; readonly message: string },
  confirm: Confirmation,
): Promise<void> {
  const { host, paths, config, log } = on;
  const p = probation(host, paths);
  const enough = config.check.demote_after;
  if (p?.number !== number || enough === 0) return;
  const { isProven } = await import('./proof.ts');
  if (isProven(on, number)) return endProbation(host, paths);
  const people = { ...p.people, [uid]: error.code };
  const alike = Object.values(people).filter(code => code === error.code).length;
  const failures = p.failures + 1;
  writeProbation(host, paths, { ...p, failures, people });
  const isShared = alike >= Math.max(LEAST_PEOPLE, enough);
  if (!isShared && failures < enough) return;
  const who = isShared ? `${alike} users` : await confirm(failures);
  if (who === undefined) return;
  const reason = `the first logins of ${who} failed; the last error was: ${error.message}`;
  const { movePointer } = await import('../state/promotion-lock.ts');
  const o = { what: `the demotion of generation ${number}`, seconds: DEMOTION_WAIT };
  try {
    const isDemoted = await movePointer(on, o, point => {
      const good =
        readableGeneration(host, paths, p.previous) && whyDemoted(host, paths, p.previous) === undefined;
      if (!good || stableNumber(host, paths) !== number) return false;
      markDemoted(host, paths, number, reason);
      point(p.previous);
      endProbation(host, paths);
      return true;
    });
    if (isDemoted) log('err', `generation ${number} is demoted and ${p.previous} is stable again: ${reason}`);
  } catch (fault) {
    if (!hasCode(fault, 'locked', 'timeout')) throw fault;
    log('warning', `generation ${number} is not demoted before the next failure: ${reasonOf(fault)}`);
  }
}

/** The code of the error of a trial; undefined if it succeeded. */
async function codeOf(trial: TrialLogin): Promise<string | undefined> {
  try {
    await trial();
    return undefined;
  } catch (error) {
    return error instanceof MayflyError ? error.code : 'internal';
  }
}

/** How many times a login, or a session for a command, starts over because the stable generation changed meanwhile. */
export const LOGIN_TRIES = 3;

/**
 * Judges a generation on probation by a session of it that ends, before anything of it is taken down: it is proven if the
 * session has lasted, and has failed the person if their desktop did not. Never rejects: the teardown must go on.
 */
export async function judgeByLogin(on: Machine, s: Session): Promise<void> {
  const { host, paths } = on;
  const isOver = s.kind === 'login' && s.state !== 'starting' && s.stuck === undefined && !s.saving;
  if (!isOver || probation(host, paths)?.number !== s.generation) return;
  try {
    const { desktopFailed, hasLasted, isOnlyPerson } = await import('./proof.ts');
    if (hasLasted(host, s)) return endProbation(host, paths);
    if (!(await desktopFailed(on, s)) || stableNumber(host, paths) !== s.generation) return;
    const error = {
      code: 'desktop',
      message: `the desktop of ${s.user.name} ended as soon as it had started`,
    };
    // The account of the trial has no desktop. Where nobody else can log in, nobody else loses by a rollback.
    await failedLogin(on, s.generation, s.user.uid, error, async failures =>
      failures > 1 && isOnlyPerson(on, s.user) ? 'the only person of this machine' : undefined,
    );
  } catch (error) {
    on.log('warning', `generation ${s.generation} was not judged by ${s.id}: ${reasonOf(error)}`);
  }
}

/**
 * Whether a failed login can succeed now: the generation was retired or rolled back meanwhile, or this failure has
 * just demoted it. `number` is the generation that was tried, undefined if the login found none; `uid` is the user.
 * `tryOther` is called only to find out whether the generation fails everybody.
 */
export async function mayTryAgain(
  on: Machine,
  number: number | undefined,
  uid: number,
  error: unknown,
  tryOther: TrialLogin,
): Promise<boolean> {
  if (!(error instanceof MayflyError)) return false;
  if (number === undefined) {
    if (error.code === 'no-generation') await on.host.sleep(20); // a rollback may be putting its record back
    return error.code === 'no-generation';
  }
  if (error.facts.moved === true) return true;
  if (stableNumber(on.host, on.paths) === number && blamesGeneration(error))
    await failedLogin(on, number, uid, error, async () =>
      (await codeOf(tryOther)) === error.code ? `a user and of "${on.config.check.user}"` : undefined,
    );
  return stableNumber(on.host, on.paths) !== number;
}
