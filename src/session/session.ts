/** Login, logout and recovery: one array of steps, run forwards and backwards. */
import { hasCode, MayflyError, reasonOf } from '../errors.ts';
import { groupsOf, lookupUser, type User } from '../linux/accounts.ts';
import { liveSessions } from '../linux/logind.ts';
import { bootId, isAlive } from '../linux/process-id.ts';
import { stopwatch } from '../linux/stopwatch.ts';
import { type Generation, readStable } from '../state/generations.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories } from '../state/paths.ts';
import { readSession, readSessions, type Session, sessionIds, writeSession } from '../state/sessions.ts';
import { admitUser } from './admission.ts';
import { hasTime, loginsBeside } from './end-reason.ts';
import { checkHome } from './home-path.ts';
import { endedLogin, type HookCall, hasOwnProcess, isSameLogin, loginOf } from './hook-call.ts';
import { uidOfLogout } from './logout-user.ts';
import { clearHostPass } from './outcome.ts';
import { leaveWhatMayHang, needsOwnProcess } from './own-process.ts';
import { judgeByLogin, LOGIN_TRIES, mayTryAgain } from './probation.ts';
import { tryWriteRecord } from './record.ts';
import { getsSession, isLeftAlone } from './scope.ts';
import { planSession, verifyGeneration } from './session-plan.ts';
import { fieldsOf, logTimes, machineFor } from './step-log.ts';
import { steps } from './steps.ts';

/** Seconds to wait for another login or logout of the same user. */
export const LOGIN_LOCK_WAIT = 25;

/** Ends a session that is marked `ending`, at once or by another process. */
export type Finish = (s: Session, on: Machine) => Promise<void>;

/**
 * Handles a login: joins the user's live session, or creates a new one. An earlier session in which programs still save is
 * left to `finish`. Returns undefined if the user is out of scope and gets a host session. Throws if no complete session
 * could be created (`unknown-user`, `unknown-group`, `bad-user`, `unsafe`, `locked`, `saving`, `held`, `stuck`, `no-stable`,
 * `no-generation`, `full`, or whatever a step throws); then nothing of it remains, or a record with `stuck` says what does.
 */
export async function login(
  on: Machine,
  call: HookCall,
  finish: Finish = async () => undefined,
): Promise<Session | undefined> {
  const watch = stopwatch(on.host);
  watch.enter('user');
  const user = await lookupUser(on.host, call.user);
  if (isLeftAlone(on.host, on.config, user)) return undefined;
  const groups = await groupsOf(on.host, user);
  if (!(await getsSession(on.host, on.config, user, groups))) return undefined;
  watch.enter('lock');
  if (groups.some(g => g.name === '' && g.gid === user.gid)) {
    const { requireGroupName } = await import('./primary-group.ts');
    await requireGroupName(on.host, user);
  }
  const places = await checkHome(on, user, groups);
  makeDirectories(on.host, on.paths);
  return withLock(on.host, on.paths, `user-${user.uid}`, LOGIN_LOCK_WAIT, async lock => {
    const locked = { ...on, lockFds: [lock.fd] };
    watch.enter('join');
    const { joined, stuck } = await joinExisting(locked, user, call, finish);
    if (joined) {
      logTimes(on, joined, 'login', `${user.name} joined the session in`, watch);
      return joined;
    }
    const logins = [loginOf(call, on.host.monotonic())];
    const who = { kind: 'login', user, groups, logins, fromStable: true } as const;
    for (let tries = 0; ; tries++) {
      let stable: Generation | undefined;
      try {
        stable = readStable(on.host, on.paths);
        await admitUser(locked, user, stuck, stable.volume);
        return await runSteps(locked, await planSession(locked, stable, who, places), stable, watch);
      } catch (error) {
        const tryOther = async (): Promise<void> => {
          if (stable) await tryAsOther(locked, stable, user);
        };
        if (tries < LOGIN_TRIES && (await mayTryAgain(locked, stable?.number, user.uid, error, tryOther)))
          continue;
        throw error;
      }
    }
  });
}

/** Logs the account `check.user` in to a generation, and out again. Does nothing if that is the user's own account. */
async function tryAsOther(on: Machine, generation: Generation, { uid }: User): Promise<void> {
  const user = await lookupUser(on.host, on.config.check.user);
  if (user.uid === uid) return;
  const groups = await groupsOf(on.host, user);
  const who = { kind: 'run', user, groups, logins: [], fromStable: true } as const;
  const s = await planSession(on, generation, who, []);
  await withLock(on.host, on.paths, lockNameOf(s), LOGIN_LOCK_WAIT, async lock => {
    const locked = { ...on, lockFds: [lock.fd] };
    await stop(locked, await runSteps(locked, s, generation));
  });
}

/**
 * Joins the user's live session if there is one, and takes down what is left of earlier ones. Returns also those that
 * cannot be ended.
 */
async function joinExisting(
  on: Machine,
  user: User,
  call: HookCall,
  finish: Finish,
): Promise<{ joined?: Session; stuck: readonly Session[] }> {
  let joined: Session | undefined;
  const stuck: Session[] = [];
  for (const s of readSessions(on.host, on.paths, user.uid)) {
    if (s.kind !== 'login') continue;
    const isUp = s.boot === bootId(on.host) && s.state === 'live';
    // gdm's worker calls twice: through PAM and through its script.
    if (isUp && hasOwnProcess(call.adapter) && s.logins.some(l => isSameLogin(l, call)))
      return { joined: s, stuck };
    // A display shows one login at a time. A recorded login on this display, or with a dead caller, has lost its
    // logout.
    const others = s.logins.filter(l => !isSameLogin(l, call) && isAlive(on.host, l.caller));
    if (isUp && others.length === 0) others.push(...(await loginsBeside(on.host, s)));
    if (isUp && others.length > 0 && !joined) {
      joined = writeSession(on.host, on.paths, {
        ...s,
        logins: [...others, loginOf(call, on.host.monotonic())],
      });
      continue;
    }
    if (s.stuck !== undefined && s.boot === bootId(on.host)) {
      stuck.push(s); // the service retries it; a login does not wait
      continue;
    }
    if (s.saving && hasTime(on.host, s)) {
      stuck.push({ ...s, stuck: `it waits for ${s.saving.who}` });
      await finish(s, on);
      continue;
    }
    await stop(on, s).catch(async error => {
      if (needsOwnProcess(error)) throw error;
      stuck.push({ ...s, stuck: reasonOf(error) });
      if (hasCode(error, 'saving')) return finish(s, on);
      on.log('warning', `earlier session ${s.id} is still stuck: ${reasonOf(error)}`, fieldsOf(s));
    });
  }
  return joined ? { joined, stuck } : { stuck };
}

/**
 * Runs the steps forwards and returns the session in state `live`. If a step fails, runs the steps backwards and
 * throws its error; an error of the way back is only logged. After `timeout` nothing is taken down: see below.
 */
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
      if (step === steps[0]) await verifyGeneration(on, s, generation);
    }
    s = writeSession(on.host, on.paths, { ...s, state: 'live' });
    logTimes(on, s, 'login', `${s.user.name} logged in to generation ${s.generation} in`, watch);
    return s;
  } catch (error) {
    const step = watch.step ?? 'login';
    logTimes(on, s, step, `login of ${s.user.name} failed in "${step}" after`, watch);
    if (error instanceof MayflyError && error.code === 'timeout') {
      // A storage command may still be running and keeps the lock. `recover` waits for the lock and removes the rest.
      tryWriteRecord(on, { ...s, state: 'ending', stuck: reasonOf(error) });
      throw error;
    }
    await stop(on, s).catch(second => {
      if (needsOwnProcess(second)) throw second; // which takes it down, tries again, and says why
      on.log('err', `${s.id} is left for recovery: ${reasonOf(second)}`, fieldsOf(s));
    });
    throw error;
  }
}

export type LogoutResult = 'ended' | 'others remain' | 'not a logout';

/**
 * Handles a logout reported by a display manager. When the user's last login ends, the record is marked `ending` and
 * `finish` does the teardown, at once or through a service. Throws `unknown-user`, `bad-user`, `locked`, and whatever
 * `finish` throws.
 */
export async function logout(on: Machine, call: HookCall, finish: Finish): Promise<LogoutResult> {
  const uid = await uidOfLogout(on, call);
  clearHostPass(on.host, on.paths, uid);
  if (sessionIds(on.host, on.paths, uid).length === 0) return 'not a logout';
  return withLock(on.host, on.paths, `user-${uid}`, LOGIN_LOCK_WAIT, async lock => {
    const locked = { ...on, lockFds: [lock.fd] };
    for (const s of readSessions(on.host, on.paths, uid)) {
      // A session that is ending belongs to `recover`. Its logins are over and must not match this call.
      if (s.kind !== 'login' || s.state === 'ending') continue;
      const index = endedLogin(s.logins, call, liveSessions(on.host, uid));
      if (index === undefined) continue;
      const logins = s.logins.filter((l, i) => i !== index && isAlive(on.host, l.caller));
      if (logins.length === 0) logins.push(...(await loginsBeside(locked.host, s)));
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

/**
 * Runs the steps backwards and stops at the first that fails, because continuing would delete beneath a live mount.
 * That step's error is thrown and kept in the record as `stuck`. Throws `saving` if programs work on ending and have time:
 * the record says which, and the call must be repeated.
 */
export async function stop(on: Machine, session: Session): Promise<void> {
  leaveWhatMayHang(on); // root in the session can mount what hangs
  const s = tryWriteRecord(on, { ...session, state: 'ending' });
  await judgeByLogin(on, session);
  const watch = stopwatch(on.host);
  for (const step of [...steps].reverse()) {
    watch.enter(step.name);
    const here = machineFor(step, s, on);
    here.log('debug', `${s.id}: ${step.name} down`);
    try {
      await step.down(s, here);
    } catch (error) {
      if (hasCode(error, 'saving')) throw error;
      // Only for the first attempt: a stuck session is tried again and again.
      const message = `logout of ${s.user.name} failed in "${step.name}" after`;
      if (s.stuck === undefined) logTimes(on, s, step.name, message, watch);
      if (readSession(on.host, on.paths, s.id))
        tryWriteRecord(on, {
          ...{ ...s, stuck: `${step.name}: ${reasonOf(error)}` },
          stuckSince: s.stuckSince ?? on.host.monotonic(),
        });
      throw error;
    }
  }
  logTimes(on, s, 'logout', `session of ${s.user.name} ended in`, watch);
}
