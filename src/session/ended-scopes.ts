/**
 * The control groups that logind made for the logins of a session. A sandbox may have its root, its program and all its
 * files outside the session's volume: only its group tells that it belongs to the session.
 */
import * as cgroup from '../linux/cgroup.ts';
import type { Host } from '../linux/host.ts';
import { isOfPerson, type LogindSession, shownSessions } from '../linux/logind.ts';
import { bootId } from '../linux/process-id.ts';
import type { Session } from '../state/sessions.ts';
import { hasOwnProcess } from './hook-call.ts';

/** The services of display managers and servers of remote desktops: what is left of such a login is no login of its own. */
export const DISPLAY_MANAGERS = /^(?:lightdm|gdm|sddm|greetd|xrdp|tigervnc)/;

/**
 * Whether logind's session was a login of this one, and is over. logind calls a login `closing` that is over and has
 * processes left. A login over ssh of the same user is none of ours. Pure.
 */
export function isEndedLogin(
  s: Pick<Session, 'user' | 'logins' | 'since' | 'saving'>,
  a: LogindSession,
): boolean {
  if (a.uid !== s.user.uid || !isOfPerson(a)) return false;
  // The leader opened the PAM session. At the end of it our hook runs before logind hears of it.
  if (s.logins.some(l => hasOwnProcess(l.adapter) && l.caller.pid === a.leader)) return true;
  if (a.state !== 'closing' || s.since === undefined || a.began < s.since) return false;
  // A login that began while this session waits for its programs has a session of its own.
  if (s.saving && a.began > s.saving.asked) return false;
  // Also if it is no longer on record, because another login has kept the session.
  return DISPLAY_MANAGERS.test(a.service);
}

/** The group of the user's service manager and of all that it has started; undefined if there is none. */
export function managerGroup(host: Host, root: string, s: Session): string | undefined {
  if (s.kind !== 'login' || s.boot !== bootId(host)) return undefined;
  const { uid } = s.user;
  const group = `${root}/user.slice/user-${uid}.slice/user@${uid}.service`;
  return host.exists(group) ? group : undefined;
}

/** The groups below `root`, the hierarchy's, of the session's logins that are over. */
export function endedScopes(host: Host, root: string, s: Session): string[] {
  if (s.kind !== 'login' || s.boot !== bootId(host)) return [];
  const slice = `${root}/user.slice/user-${s.user.uid}.slice`;
  return (shownSessions(host) ?? [])
    .filter(a => isEndedLogin(s, a))
    .map(a => `${slice}/session-${a.id}.scope`)
    .filter(path => cgroup.members(host, path).length > 0);
}
