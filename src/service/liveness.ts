/**
 * Which logins logind has shown and shows no more. The end of a session that logind once showed as a login's own is
 * the end of that login, whether or not a hook tells of it. What logind never showed proves nothing: there may be no
 * logind, or no pam_systemd in that display manager's PAM.
 *
 * A living login must never be taken for a dead one. So a login is bound to one session of logind's, which began
 * after it; it lives while that one does, while any other session might be its own, and while the process that
 * opened the session (PAM's leader) runs. logind never takes `closing` back (session_get_state() in logind-session.c).
 */
import type { Host } from '../linux/host.ts';
import type { LogindSession } from '../linux/logind.ts';
import { isMounted } from '../linux/mounts.ts';
import { bootId, childrenOf, identify, isAlive, type ProcessId } from '../linux/process-id.ts';
import { isUsed } from '../linux/processes.ts';
import { hasOwnProcess } from '../session/hook-call.ts';
import { overBecause } from '../session/over.ts';
import type { Paths } from '../state/paths.ts';
import type { Login, Session } from '../state/sessions.ts';

export interface LoginBinding {
  /** logind's id of the session that is this login's. */
  readonly session: string;
  readonly leader?: ProcessId;
  /** Since when it is missing or closing, in milliseconds since the epoch. */
  readonly missing?: number;
}

/** By {@link bindingKey}. */
export type LoginBindings = Readonly<Record<string, LoginBinding>>;

/** How long an end must have been seen, in milliseconds: the hook that comes with it does the work, where it comes. */
export const END_GRACE = 1000;

/** How long a login of which there is no trace is believed in, in milliseconds. */
const ABANDONED_AFTER = 60_000;

/** A login by all that tells it from the next one of the same person on the same display. */
export function bindingKey(id: string, l: Login): string {
  return [id, l.adapter, l.display ?? '', l.caller.pid, l.caller.start, l.since].join(' ');
}

/** Whether this may be the login's, as far as it can be told. Generous: what it says yes to keeps a login alive. */
function mayBe(uid: number, l: Login, a: LogindSession, others: readonly Login[]): boolean {
  if (a.uid !== uid || !a.class.startsWith('user')) return false;
  // PAM's caller is the leader, by definition; its service may be any.
  if (l.adapter === 'pam') return a.leader === l.caller.pid;
  if (!a.service.startsWith(l.adapter)) return false;
  if (a.display !== '' && l.display !== undefined && a.display !== l.display) return false;
  // gdm opens each session from a worker of its own: one that another login's worker opened is that login's.
  return !(hasOwnProcess(l.adapter) && others.some(o => o !== l && o.caller.pid === a.leader));
}

/** Whether this is the login's without a doubt. */
function isOwn(s: Session, l: Login, a: LogindSession): boolean {
  if (a.state === 'closing' || !mayBe(s.user.uid, l, a, s.logins)) return false;
  if (hasOwnProcess(l.adapter)) return a.leader === l.caller.pid;
  const alone = s.logins.filter(o => o.adapter === l.adapter).length === 1;
  return a.began >= l.since && (alone || (a.display !== '' && a.display === l.display));
}

function isLive(host: Host, s: Session): boolean {
  return s.kind === 'login' && s.state === 'live' && s.boot === bootId(host);
}

/** What is known after another look. `shown` is undefined where there is no logind, which proves nothing. */
export function bindLogins(
  host: Host,
  before: LoginBindings,
  sessions: readonly Session[],
  shown: readonly LogindSession[] | undefined,
): LoginBindings {
  const after: Record<string, LoginBinding> = {};
  for (const s of sessions) {
    if (!isLive(host, s)) continue;
    for (const l of s.logins) {
      const key = bindingKey(s.id, l);
      const known = before[key] ?? bind(host, s, l, shown ?? []);
      if (!known) continue;
      const { missing = host.now(), ...sighting } = known;
      const gone = shown !== undefined && !isShown(s, l, known, shown);
      after[key] = gone ? { ...sighting, missing } : sighting;
    }
  }
  return after;
}

function bind(host: Host, s: Session, l: Login, shown: readonly LogindSession[]): LoginBinding | undefined {
  const [own, ...more] = shown.filter(a => isOwn(s, l, a));
  if (!own || more.length > 0) return undefined; // two that could be it: neither is without a doubt
  const leader = own.leader > 0 ? identify(host, own.leader) : undefined;
  return { session: own.id, ...(leader ? { leader } : {}) };
}

function isShown(s: Session, l: Login, known: LoginBinding, shown: readonly LogindSession[]): boolean {
  return shown.some(
    a =>
      a.state !== 'closing' &&
      ((a.id === known.session && a.uid === s.user.uid) || mayBe(s.user.uid, l, a, s.logins)),
  );
}

/** What is to be done about a session; undefined where nothing is certain. */
export interface EndedLogins {
  readonly because: string;
  /** The logins that are left; none where the whole session is over. */
  readonly left: readonly Login[];
}

export function findEnded(
  host: Host,
  s: Session,
  sightings: LoginBindings,
  shown: readonly LogindSession[] | undefined,
): EndedLogins | undefined {
  const because = overBecause(host, s);
  if (because !== undefined) return { because, left: [] };
  if (!isLive(host, s)) return undefined;
  if (shown && isAbandoned(host, s, sightings, shown))
    return { because: 'its login ended before logind showed it', left: [] };
  const left = s.logins.filter(
    l => isAlive(host, l.caller) && !hasEnded(host, sightings[bindingKey(s.id, l)]),
  );
  if (left.length === s.logins.length) return undefined;
  return { because: 'logind says that the login has ended', left };
}

/**
 * Whether the login that made the session came to nothing: logind never showed it, nobody is inside, and what
 * lightdm began for it is gone. For a login in PAM looks the same but for the last: lightdm has a child for each
 * login, with the daemon's own name, from before its hook is run until after the login is closed; the next greeter's
 * is younger than the hook. One of another seat that is older too has us wait until it goes.
 */
function isAbandoned(
  host: Host,
  s: Session,
  sightings: LoginBindings,
  shown: readonly LogindSession[],
): boolean {
  const [l, ...others] = s.logins;
  if (!l || others.length > 0 || hasOwnProcess(l.adapter)) return false;
  // Of one that joined later it is not known which child is its own.
  if (l.since > s.created || host.now() - s.created < ABANDONED_AFTER || sightings[bindingKey(s.id, l)])
    return false;
  if (shown.some(a => a.state !== 'closing' && mayBe(s.user.uid, l, a, s.logins))) return false;
  const name = host.read(`/proc/${l.caller.pid}/comm`);
  const isOld = (child: ProcessId): boolean => Number(child.start) <= Number(s.starter.start);
  if (childrenOf(host, l.caller.pid).some(c => isOld(c) && host.read(`/proc/${c.pid}/comm`) === name))
    return false;
  const root = isMounted(host, s.root) ? host.lstat(s.root)?.dev : undefined;
  return root !== undefined && !isUsed(host, new Set([root]));
}

function hasEnded(host: Host, seen: LoginBinding | undefined): boolean {
  if (seen?.missing === undefined || host.now() - seen.missing < END_GRACE) return false;
  return seen.leader === undefined || !isAlive(host, seen.leader);
}

/** Processes whose death changes a verdict, and which nothing tells of. */
export function watchedProcesses(sessions: readonly Session[], sightings: LoginBindings): ProcessId[] {
  const callers = sessions.flatMap(s =>
    s.state === 'starting' ? [s.starter] : s.state === 'live' ? s.logins.map(l => l.caller) : [],
  );
  const leaders = Object.values(sightings).flatMap(seen =>
    seen.missing !== undefined && seen.leader ? [seen.leader] : [],
  );
  const marks = new Map([...callers, ...leaders].map(mark => [`${mark.pid} ${mark.start}`, mark]));
  return [...marks.values()];
}

interface SavedBindings {
  readonly boot: string;
  readonly sightings: LoginBindings;
}

/** What an earlier run of the service has seen: a login that ends while it restarts is found out all the same. */
export function readBindings(host: Host, paths: Paths): LoginBindings {
  try {
    const kept = JSON.parse(host.read(paths.bindings) ?? '{}') as Partial<SavedBindings>;
    return kept.boot === bootId(host) ? (kept.sightings ?? {}) : {};
  } catch {
    return {}; // cut by a full disk: what is still shown will be seen again
  }
}

/** Writes them down where they have changed. */
export function writeBindings(host: Host, paths: Paths, before: LoginBindings, after: LoginBindings): void {
  const text = (sightings: LoginBindings): string =>
    JSON.stringify({ boot: bootId(host), sightings } satisfies SavedBindings);
  if (text(before) === text(after)) return;
  if (Object.keys(after).length === 0) host.unlink(paths.bindings);
  else host.write(paths.bindings, text(after), { mode: 0o600 });
}
