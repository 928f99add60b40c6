/** Login, logout and recovery: one array of steps, forwards and backwards. */
import { groupsOf, lookupUser } from '../linux/accounts.ts';
import { liveSessions } from '../linux/logind.ts';
import { type Generation, readStable } from '../state/generations.ts';
import { withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories } from '../state/paths.ts';
import { readSessions, type Session, sessionIds, writeSession } from '../state/sessions.ts';
import { endedLogin, type HookCall, loginOf } from './hook-call.ts';
import { joinExisting } from './join.ts';
import { clearHostPass } from './outcome.ts';
import { planSession } from './plan.ts';
import { LOGIN_TRIES, loginSucceeded, mayTryAgain } from './probation.ts';
import { inScope } from './scope.ts';
import { runSteps } from './setup.ts';
import { LOGIN_LOCK_WAIT, tryWriteRecord } from './teardown.ts';

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
