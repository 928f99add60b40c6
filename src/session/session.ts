/** Login, logout and recovery: one array of steps, forwards and backwards. */
import { isErrno, MayflyError, reasonOf } from '../errors.ts';
import { groupsOf, lookupUser, type User } from '../linux/accounts.ts';
import type { Fields } from '../linux/log.ts';
import { liveSessions } from '../linux/logind.ts';
import { bootId, identify, isAlive } from '../linux/process-id.ts';
import { newSessionId } from '../names.ts';
import { type Generation, isSealed, readGeneration, readStable } from '../state/generations.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import { loginBlockReason } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories } from '../state/paths.ts';
import {
  deleteSession,
  type Login,
  readSession,
  readSessions,
  type Session,
  sessionIds,
  writeSession,
} from '../state/sessions.ts';
import { sessionOf } from '../volume/backend.ts';
import { endedLogin, type HookCall, hasOwnProcess, isSameLogin, loginOf } from './hook-call.ts';
import { existingMounts, planMounts } from './mount-plan.ts';
import { clearHostPass } from './outcome.ts';
import { LOGIN_TRIES, loginSucceeded, mayTryAgain } from './probation.ts';
import { inScope, isMember } from './scope.ts';
import { steps } from './steps.ts';

/** How long anything waits for another login or logout of the same person, in seconds. */
const LOGIN_LOCK_WAIT = 25;

/**
 * A login: attaches to the person's living session, or makes a fresh one. Undefined where the person is out of
 * scope and belongs on the host. Rejects when no whole session could be made; then nothing of it is left, or a
 * record says what is.
 */
export async function login(on: Machine, call: HookCall): Promise<Session | undefined> {
  const user = await lookupUser(on.host, call.user);
  const groups = await groupsOf(on.host, user);
  if (!inScope(on.config, user, groups)) return undefined;
  makeDirectories(on.host, on.paths);
  return withLock(on.host, on.paths, `user-${user.uid}`, LOGIN_LOCK_WAIT, async lock => {
    const locked = { ...on, lockFds: [lock.fd] };
    const joined = await joinExisting(locked, user, call);
    if (joined) return joined;
    const mine = loginOf(call, on.host.now());
    const who = { kind: 'login', user, groups, logins: [mine] } as const;
    for (let tries = 0; ; tries++) {
      let stable: Generation | undefined;
      try {
        stable = readStable(on.host, on.paths);
        const s = await runSteps(locked, planSession(locked, stable, who), stable);
        loginSucceeded(locked, stable.number);
        return s;
      } catch (error) {
        if (tries < LOGIN_TRIES && (await mayTryAgain(locked, stable?.number, error))) continue;
        throw error;
      }
    }
  });
}

/** A throw-away session for a command, from the stable or another generation, or for the trial of a candidate. */
export async function startRunSession(
  on: Machine,
  userName: string,
  caller: Login,
  which?: number | Generation,
): Promise<Session> {
  const user = await lookupUser(on.host, userName);
  const groups = await groupsOf(on.host, user);
  makeDirectories(on.host, on.paths);
  const generation =
    typeof which === 'number'
      ? readGeneration(on.host, on.paths, which)
      : (which ?? readStable(on.host, on.paths));
  if (!generation)
    throw new MayflyError('no-generation', `there is no generation ${which}`, { generation: Number(which) });
  const s = planSession(on, generation, { kind: 'run', user, groups, logins: [caller] });
  return withLock(on.host, on.paths, lockNameOf(s), LOGIN_LOCK_WAIT, lock =>
    runSteps({ ...on, lockFds: [lock.fd] }, s, generation),
  );
}

/** Everything about a new session that can be known before the first effect. */
function planSession(
  on: Machine,
  generation: Generation,
  who: Pick<Session, 'kind' | 'user' | 'groups' | 'logins'>,
): Session {
  const { host, config, paths } = on;
  const id = newSessionId(who.user.uid, host.random());
  const root = `${paths.roots}/${id}`;
  const ephemeral = isMember(config.ephemeral_home, who.user, who.groups);
  const starter = identify(host, host.pid);
  if (!starter) throw new MayflyError('internal', 'this process does not find itself in /proc');
  return {
    ...who,
    id,
    generation: generation.number,
    volume: sessionOf(generation.volume, id),
    root,
    mounts: existingMounts(
      host,
      planMounts(config, root, { path: who.user.home, ephemeral, uid: who.user.uid, gid: who.user.gid }),
    ),
    boot: bootId(host),
    starter,
    created: host.now(),
    state: 'starting',
    devices: [],
  };
}

const fieldsOf = (s: Session): Fields => ({ session: s.id, user: s.user.name });

/** Runs the steps forwards. A failure runs them backwards and says both reasons if that fails too. */
async function runSteps(on: Machine, planned: Session, generation: Generation): Promise<Session> {
  let s = planned;
  try {
    for (const step of steps) {
      on.log('debug', `${s.id}: ${step.name}`, fieldsOf(s));
      s = await step.up(s, on);
      if (step === steps[0]) await verifyGeneration(on, s, generation);
    }
    return writeSession(on.host, on.paths, { ...s, state: 'live' });
  } catch (error) {
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

/** Runs the steps backwards and halts at the first that fails: going on would delete beneath a live mount. */
export async function stop(on: Machine, session: Session): Promise<void> {
  const s = tryWriteRecord(on, { ...session, state: 'ending' });
  for (const step of [...steps].reverse()) {
    on.log('debug', `${s.id}: ${step.name} down`, fieldsOf(s));
    try {
      await step.down(s, on);
    } catch (error) {
      if (readSession(on.host, on.paths, s.id))
        tryWriteRecord(on, { ...s, stuck: `${step.name}: ${reasonOf(error)}` });
      throw error;
    }
  }
}

/**
 * What the administrator wants done about a session that can not be ended: nothing (it is kept and retried), or a
 * reboot, which ends everything. Never while anybody else is logged in; the reason is logged first.
 */
export async function onStuck(on: Machine, error: unknown): Promise<void> {
  if (on.config.logout.on_stuck !== 'reboot') return;
  if (!(error instanceof MayflyError) || error.code !== 'stuck') return;
  const living = readSessions(on.host, on.paths).filter(
    s => s.state === 'live' && s.boot === bootId(on.host),
  );
  if (living.length > 0) {
    on.log('warning', `not rebooting for a stuck session while ${living.length} others are in use`);
    return;
  }
  on.log('err', `rebooting, as configured, because a session is stuck: ${error.message}`);
  await on.host.run({ file: 'shutdown', args: ['-r', 'now', 'mayfly: a session is stuck'], effect: 'write' });
}

/**
 * Makes the next login quicker: of the stable generation, or of one that is about to be. Whatever keeps it from being
 * made keeps no logout from having ended. A hook only starts it: the command keeps the lock, and what it makes is
 * whole or not there.
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
    on.log('debug', `no spare for the next login: ${reasonOf(error)}`);
  }
}

/** Ends a session by its id, whoever is in it. */
export async function end(on: Machine, id: string): Promise<void> {
  const s = readSession(on.host, on.paths, id);
  if (!s) throw new MayflyError('unknown-session', `there is no session "${id}"`, { session: id });
  await withLock(on.host, on.paths, lockNameOf(s), LOGIN_LOCK_WAIT, async lock => {
    // Somebody else may have ended it while we waited.
    const now = readSession(on.host, on.paths, id);
    if (now) await stop({ ...on, lockFds: [lock.fd] }, now);
    else deleteSession(on.host, on.paths, id);
    await prepareSpare(on);
  }).catch(async error => {
    await onStuck(on, error);
    throw error;
  });
}
