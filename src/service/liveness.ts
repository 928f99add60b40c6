/**
 * Finds logins that logind has listed and no longer lists. If logind once listed a session that is certainly that of a
 * login, the end of that session is the end of the login, whether or not a hook reports it. A session that logind never
 * listed proves nothing: there may be no logind, or no pam_systemd in the display manager's PAM stack.
 *
 * A live login must never be taken for a dead one. So each login is bound to one logind session, which began after it.
 * The login is live while that session is, while another session may be its own, and while the process that opened the
 * session (PAM's leader) runs. logind never leaves the state `closing` (session_get_state() in logind-session.c).
 */
import { lookAt } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isOfPerson, type LogindSession } from '../linux/logind.ts';
import { isMounted } from '../linux/mounts.ts';
import { bootId, childrenOf, identify, isAlive, type ProcessId } from '../linux/process-id.ts';
import { isUsed } from '../linux/processes.ts';
import { overBecause } from '../session/end-reason.ts';
import { hasOwnProcess } from '../session/hook-call.ts';
import type { Paths } from '../state/paths.ts';
import type { Login, Session } from '../state/sessions.ts';

export interface LoginBinding {
  /** logind's ID of this login's session. */
  readonly session: string;
  readonly leader?: ProcessId;
  /** When it was first seen missing or closing, on the monotonic clock. */
  readonly missing?: number;
}

/** The key is from {@link bindingKey}. */
export type LoginBindings = Readonly<Record<string, LoginBinding>>;

/** How long a session must have been missing, in milliseconds; normally its hook ends it in this time. */
export const END_GRACE = 1000;

/** After how many milliseconds a login without any trace counts as abandoned. */
const ABANDONED_AFTER = 60_000;

/** Identifies a login, also among later ones of the same user on the same display. */
export function bindingKey(id: string, l: Login): string {
  return [id, l.adapter, l.display ?? '', l.caller.pid, l.caller.start, l.since].join(' ');
}

/** Whether `a` may be the session of the login. True in case of doubt, because that keeps the login alive. */
function mayBe(uid: number, l: Login, a: LogindSession, others: readonly Login[]): boolean {
  if (a.uid !== uid || !isOfPerson(a)) return false;
  // With PAM, the caller is the leader by definition; the service may be any.
  if (l.adapter === 'pam') return a.leader === l.caller.pid;
  if (!a.service.startsWith(l.adapter)) return false;
  if (a.display !== '' && l.display !== undefined && a.display !== l.display) return false;
  // gdm opens each session from a separate worker: a session opened by the worker of another login belongs to that login.
  return !(hasOwnProcess(l.adapter) && others.some(o => o !== l && o.caller.pid === a.leader));
}

/** Whether `a` is certainly the session of the login. */
function isOwn(s: Session, l: Login, a: LogindSession): boolean {
  if (a.state === 'closing' || !mayBe(s.user.uid, l, a, s.logins)) return false;
  if (hasOwnProcess(l.adapter)) return a.leader === l.caller.pid;
  const isOnly = s.logins.filter(o => o.adapter === l.adapter).length === 1;
  return a.began >= l.since && (isOnly || (a.display !== '' && a.display === l.display));
}

function isLive(host: Host, s: Session): boolean {
  return s.kind === 'login' && s.state === 'live' && s.boot === bootId(host);
}

/** Updates the bindings from logind's sessions. `shown` is undefined without logind, which proves nothing. */
export function bindLogins(
  host: Host,
  before: LoginBindings,
  sessions: readonly Session[],
  shown: readonly LogindSession[] | undefined,
): LoginBindings {
  const after: Record<string, LoginBinding> = {};
  const now = host.monotonic();
  for (const s of sessions) {
    if (!isLive(host, s)) continue;
    for (const l of s.logins) {
      const key = bindingKey(s.id, l);
      const known = before[key] ?? bind(host, s, l, shown ?? []);
      if (!known) continue;
      const { missing = now, ...binding } = known;
      const gone = shown !== undefined && !isShown(s, l, known, shown);
      // An earlier version saved times of the other clock, which all seem to be in the future.
      after[key] = gone ? { ...binding, missing: Math.min(missing, now) } : binding;
    }
  }
  return after;
}

function bind(host: Host, s: Session, l: Login, shown: readonly LogindSession[]): LoginBinding | undefined {
  const [own, ...more] = shown.filter(a => isOwn(s, l, a));
  if (!own || more.length > 0) return undefined; // if two match, neither is certain
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

/** The logins of a session that have ended. */
export interface EndedLogins {
  readonly because: string;
  /** The remaining logins; empty if the session is over. */
  readonly left: readonly Login[];
}

/** Whether the session or some of its logins have ended; undefined if that is not certain. */
export async function findEnded(
  host: Host,
  s: Session,
  bindings: LoginBindings,
  shown: readonly LogindSession[] | undefined,
): Promise<EndedLogins | undefined> {
  const because = overBecause(host, s);
  if (because !== undefined) return { because, left: [] };
  if (!isLive(host, s)) return undefined;
  if (shown && (await isAbandoned(host, s, bindings, shown)))
    return { because: 'its login ended before logind listed it', left: [] };
  const left = s.logins.filter(
    l => isAlive(host, l.caller) && !hasEnded(host, bindings[bindingKey(s.id, l)]),
  );
  if (left.length === s.logins.length) return undefined;
  return { because: 'the login has ended according to logind', left };
}

/**
 * Whether the login that started the session never completed: logind never listed it, no process is in the session, and
 * lightdm's child process for it is gone. The last condition is necessary because a login that is still in PAM also
 * meets the others. lightdm has a child for each login, named like the daemon, from before its hook runs until after
 * the login is closed; the child of the next greeter is younger than the hook. An old child of another seat only delays
 * the result until that child exits.
 */
async function isAbandoned(
  host: Host,
  s: Session,
  bindings: LoginBindings,
  shown: readonly LogindSession[],
): Promise<boolean> {
  const [l, ...others] = s.logins;
  if (!l || others.length > 0 || hasOwnProcess(l.adapter)) return false;
  // The child of a login that joined later cannot be identified.
  if (s.since === undefined || l.since > s.since) return false;
  if (host.monotonic() - s.since < ABANDONED_AFTER || bindings[bindingKey(s.id, l)]) return false;
  if (shown.some(a => a.state !== 'closing' && mayBe(s.user.uid, l, a, s.logins))) return false;
  const name = host.read(`/proc/${l.caller.pid}/comm`);
  const isOld = (child: ProcessId): boolean => Number(child.start) <= Number(s.starter.start);
  if (childrenOf(host, l.caller.pid).some(c => isOld(c) && host.read(`/proc/${c.pid}/comm`) === name))
    return false;
  const root = isMounted(host, s.root) ? lookAt(host, s.root)?.dev : undefined;
  return root !== undefined && !(await isUsed(host, new Set([root]), s.user.uid));
}

function hasEnded(host: Host, seen: LoginBinding | undefined): boolean {
  if (seen?.missing === undefined || host.monotonic() - seen.missing < END_GRACE) return false;
  return seen.leader === undefined || !isAlive(host, seen.leader);
}

/** The processes whose death ends a login and causes no event. */
export function watchedProcesses(sessions: readonly Session[], bindings: LoginBindings): ProcessId[] {
  const callers = sessions.flatMap(s =>
    s.state === 'starting' ? [s.starter] : s.state === 'live' ? s.logins.map(l => l.caller) : [],
  );
  const leaders = Object.values(bindings).flatMap(binding =>
    binding.missing !== undefined && binding.leader ? [binding.leader] : [],
  );
  const processes = new Map([...callers, ...leaders].map(id => [`${id.pid} ${id.start}`, id]));
  return [...processes.values()];
}

interface SavedBindings {
  readonly boot: string;
  readonly sightings: LoginBindings;
}

/** Reads the bindings of an earlier run of the service, so that it also notices logins that end while it restarts. */
export function readBindings(host: Host, paths: Paths): LoginBindings {
  try {
    const saved = JSON.parse(host.read(paths.bindings) ?? '{}') as Partial<SavedBindings>;
    return saved.boot === bootId(host) ? (saved.sightings ?? {}) : {};
  } catch {
    return {}; // truncated by a full disk; sessions that logind still lists will be bound again
  }
}

/** Saves the bindings if they have changed. */
export function writeBindings(host: Host, paths: Paths, before: LoginBindings, after: LoginBindings): void {
  const text = (sightings: LoginBindings): string =>
    JSON.stringify({ boot: bootId(host), sightings } satisfies SavedBindings);
  if (text(before) === text(after)) return;
  if (Object.keys(after).length === 0) host.unlink(paths.bindings);
  else host.write(paths.bindings, text(after), { mode: 0o600 });
}
