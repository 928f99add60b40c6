/** A second login of a person who has a session. */
import { reasonOf } from '../errors.ts';
import type { User } from '../linux/accounts.ts';
import { bootId, isAlive } from '../linux/process-id.ts';
import type { Machine } from '../state/machine.ts';
import { readSessions, type Session, writeSession } from '../state/sessions.ts';
import { type HookCall, hasOwnProcess, isSameLogin, loginOf } from './hook-call.ts';
import { fieldsOf, stop } from './teardown.ts';

/** Joins the session this person has, and takes down what is left of earlier ones. */
export async function joinExisting(on: Machine, user: User, call: HookCall): Promise<Session | undefined> {
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
