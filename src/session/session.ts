/** Login, logout and recovery: one array of steps, forwards and backwards. */
import { isErrno, MayflyError, reasonOf } from '../errors.ts';
import { groupsOf, lookupUser, type User } from '../linux/accounts.ts';
import type { Fields } from '../linux/log.ts';
import { liveSessions } from '../linux/logind.ts';
import { bootId, isAlive } from '../linux/process-id.ts';
import { type Stopwatch, stopwatch } from '../linux/stopwatch.ts';
import { type Generation, isSealed, readStable } from '../state/generations.ts';
import { withLock } from '../state/locks.ts';
import { loginBlockReason } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories } from '../state/paths.ts';
import { readSession, readSessions, type Session, sessionIds, writeSession } from '../state/sessions.ts';
import { endedLogin, type HookCall, hasOwnProcess, isSameLogin, loginOf } from './hook-call.ts';
import { clearHostPass } from './outcome.ts';
import { planSession } from './plan.ts';
import { LOGIN_TRIES, loginSucceeded, mayTryAgain } from './probation.ts';
import { inScope } from './scope.ts';
import type { Step } from './steps/step.ts';
import { steps } from './steps.ts';

/** How long anything waits for another login or logout of the same person, in seconds. */
export const LOGIN_LOCK_WAIT = 25;

const fieldsOf = (s: Session): Fields => ({ session: s.id, user: s.user.name });

/** The machine as a step sees it: whatever it logs names session and step. */
function machineFor(step: Step, s: Session, on: Machine): Machine {
  return { ...on, log: on.log.child({ ...fieldsOf(s), step: step.name }) };
}

/**
 * One line for an administrator who asks where the time went, with the field MAYFLY_STEP. Throw-away sessions are part
 * of something else, and a dry run takes no time.
 */
function logTimes(on: Machine, s: Session, step: string, message: string, watch: Stopwatch): void {
  watch.enter();
  if (on.host.pretend) return;
  on.log(s.kind === 'login' ? 'info' : 'debug', `${s.id}: ${message} ${watch.words()}`, {
    ...fieldsOf(s),
    step,
  });
}

/**
 * A login: attaches to the person's living session, or makes a fresh one. Undefined where the person is out of
 * scope and belongs on the host. Rejects when no whole session could be made; then nothing of it is left, or a
 * record says what is.
 */
export async function login(on: Machine, call: HookCall): Promise<Session | undefined> {
  const watch = stopwatch(on.host);
  watch.enter('user');
  const user = await lookupUser(on.host, call.user);
  const groups = await groupsOf(on.host, user);
  watch.enter('lock');
  if (!inScope(on.config, user, groups)) return undefined;
  makeDirectories(on.host, on.paths);
  return withLock(on.host, on.paths, `user-${user.uid}`, LOGIN_LOCK_WAIT, async lock => {
    const locked = { ...on, lockFds: [lock.fd] };
    watch.enter('join');
    const joined = await joinExisting(locked, user, call);
    if (joined) {
      logTimes(on, joined, 'login', `${user.name} joined generation ${joined.generation} in`, watch);
      return joined;
    }
    const mine = loginOf(call, on.host.now());
    const who = { kind: 'login', user, groups, logins: [mine] } as const;
    for (let tries = 0; ; tries++) {
      let stable: Generation | undefined;
      try {
        stable = readStable(on.host, on.paths);
        const s = await runSteps(locked, planSession(locked, stable, who), stable, watch);
        loginSucceeded(locked, stable.number);
        return s;
      } catch (error) {
        if (tries < LOGIN_TRIES && (await mayTryAgain(locked, stable?.number, error))) continue;
        throw error;
      }
    }
  });
}

/** Joins the session this person has, and takes down what is left of earlier ones. */
async function joinExisting(on: Machine, user: User, call: HookCall): Promise<Session | undefined> {
  let joined: Session | undefined;
  for (const s of readSessions(on.host, on.paths, user.uid)) {
    if (s.kind !== 'login') continue;
    const isUp = s.boot === bootId(on.host) && s.state === 'live';
    // gdm's worker calls twice, by PAM and by its script.
    if (isUp && hasOwnProcess(call.adapter) && s.logins.some(l => isSameLogin(l, call))) return s;
    // A display can show one login; another on it, or a caller that is gone, means that logout never reached us.
    const others = s.logins.filter(l => !isSameLogin(l, call) && isAlive(on.host, l.caller));
    if (isUp && others.length > 0 && !joined) {
      joined = writeSession(on.host, on.paths, { ...s, logins: [...others, loginOf(call, on.host.now())] });
      continue;
    }
    if (s.stuck !== undefined && s.boot === bootId(on.host)) continue; // retried by `recover`; a login does not wait for it
    await stop(on, s).catch(error => {
      on.log('warning', `an earlier session, ${s.id}, is still stuck: ${reasonOf(error)}`, fieldsOf(s));
    });
  }
  return joined;
}

/** Runs the steps forwards. A failure runs them backwards and says both reasons if that fails too. */
export async function runSteps(
  on: Machine,
  planned: Session,
  generation: Generation,
  watch = stopwatch(on.host),
): Promise<Session> {
  let s = planned;
  try {
    for (const step of steps) {
      watch.enter(step.name);
      const here = machineFor(step, s, on);
      here.log('debug', `${s.id}: ${step.name}`);
      s = await step.up(s, here);
      if (step === steps[0]) await verifyGeneration(here, s, generation);
    }
    s = writeSession(on.host, on.paths, { ...s, state: 'live' });
    logTimes(on, s, 'login', `${s.user.name} logged in to generation ${s.generation} in`, watch);
    return s;
  } catch (error) {
    const step = watch.step ?? 'login';
    logTimes(on, s, step, `the login of ${s.user.name} failed in "${step}" after`, watch);
    if (error instanceof MayflyError && error.code === 'timeout') {
      // A storage command may still be at work: what it leaves is for `recover`, which waits for its lock.
      tryWriteRecord(on, { ...s, state: 'ending', stuck: reasonOf(error) });
      throw error;
    }
    await stop(on, s).catch(second => {
      on.log('err', `${s.id} is left for recovery: ${reasonOf(second)}`, fieldsOf(s));
    });
    throw error;
  }
}

/** The pin is written; is what it pins still there? (See state/generations.ts: who retires a generation looks after taking its file.) */
async function verifyGeneration(on: Machine, s: Session, generation: Generation): Promise<void> {
  const held = s.kind === 'login' ? loginBlockReason(on) : undefined;
  if (held !== undefined) throw new MayflyError('held', held);
  const identity = await on.backend(generation.volume.backend).identity(generation.volume);
  const sealed = isSealed(on.host, on.paths, generation.number);
  if (sealed && identity !== undefined && identity === generation.identity) return;
  const gone = identity === undefined ? 'its volume has vanished' : 'its volume was replaced';
  throw new MayflyError(
    'no-generation',
    `generation ${s.generation} can not be used: ${sealed ? gone : 'it was retired'}`,
    { generation: s.generation },
  );
}

export type LogoutResult = 'ended' | 'others remain' | 'not a logout';

/**
 * A logout as a display manager tells of it. `finish` does the teardown of the last one: here and now, or by
 * handing it to a service.
 */
export async function logout(
  on: Machine,
  call: HookCall,
  finish: (s: Session, on: Machine) => Promise<void>,
): Promise<LogoutResult> {
  const user = await lookupUser(on.host, call.user);
  clearHostPass(on.host, on.paths, user.uid);
  if (sessionIds(on.host, on.paths, user.uid).length === 0) return 'not a logout';
  return withLock(on.host, on.paths, `user-${user.uid}`, LOGIN_LOCK_WAIT, async lock => {
    const locked = { ...on, lockFds: [lock.fd] };
    for (const s of readSessions(on.host, on.paths, user.uid)) {
      // One whose end has begun is for `recover`; its logins are over and must not pass for a living one's.
      if (s.kind !== 'login' || s.state === 'ending') continue;
      const index = endedLogin(s.logins, call, liveSessions(on.host, user.uid));
      if (index === undefined) continue;
      const logins = s.logins.filter((_, i) => i !== index);
      if (logins.length > 0) {
        writeSession(on.host, on.paths, { ...s, logins });
        return 'others remain';
      }
      await finish(tryWriteRecord(on, { ...s, state: 'ending' }), locked);
      return 'ended';
    }
    return 'not a logout';
  });
}

/** Runs the steps backwards and halts at the first that fails: going on would delete beneath a live mount. */
export async function stop(on: Machine, session: Session): Promise<void> {
  const s = tryWriteRecord(on, { ...session, state: 'ending' });
  const watch = stopwatch(on.host);
  for (const step of [...steps].reverse()) {
    watch.enter(step.name);
    const here = machineFor(step, s, on);
    here.log('debug', `${s.id}: ${step.name} down`);
    try {
      await step.down(s, here);
    } catch (error) {
      // Once: what is stuck is tried again and again.
      if (s.stuck === undefined)
        logTimes(
          on,
          s,
          step.name,
          `the end of ${s.user.name}'s session failed in "${step.name}" after`,
          watch,
        );
      if (readSession(on.host, on.paths, s.id))
        tryWriteRecord(on, { ...s, stuck: `${step.name}: ${reasonOf(error)}` });
      throw error;
    }
  }
  logTimes(on, s, 'logout', `the session of ${s.user.name} ended in`, watch);
}

/** Writes a record where there is room: on a full disk the teardown, which makes room, must not wait for it. */
function tryWriteRecord(on: Machine, s: Session): Session {
  try {
    return writeSession(on.host, on.paths, s);
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS')) throw error;
    on.log('warning', `${s.id}: its record could not be written: ${reasonOf(error)}`, { session: s.id });
    return s;
  }
}
