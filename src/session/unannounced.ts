/**
 * Logins that no hook announces: a remote desktop (x2go, VNC, xrdp while it is not enabled), or a shell over ssh. The
 * session wrapper lets them into the session that their user has at the time. As long as one lives, the session does,
 * although the logins that hooks have announced are over.
 *
 * What has let a login in is schroot: it runs until the login's first program has ended. A logind session tells whose it
 * is. Everything here is the user's own, who could also stay logged in: nothing of it needs to be proven. Only files of
 * the kernel and of logind are read, so nothing can hang: no link in /proc is followed, whose file system may not answer.
 */
import { groupOf } from '../linux/cgroup.ts';
import type { Host } from '../linux/host.ts';
import { isOfPerson, type LogindSession, shownSessions } from '../linux/logind.ts';
import { bootId, identify } from '../linux/process-id.ts';
import { type MountLine, mountLines } from '../linux/processes.ts';
import type { Login, Session } from '../state/sessions.ts';
import { DISPLAY_MANAGERS } from './ended-scopes.ts';
import { hasOwnProcess } from './hook-call.ts';

/**
 * How a command line of schroot enters the session `id`: as the session wrapper does it, as somebody typed it, or not at
 * all. Pure.
 */
export function entryOf(words: readonly string[], id: string): 'wrapper' | 'typed' | undefined {
  const [, ...options] = words;
  if (options[0] === '-c' && options[1] === id && options[2] === '-d' && options[4] === '-p')
    return options[5] === '--' ? 'wrapper' : 'typed';
  const end = options.indexOf('--');
  const before = end < 0 ? options : options.slice(0, end);
  const names = [id, `chroot:${id}`].flatMap(name => [name, `-c${name}`, `--chroot=${name}`]);
  return before.some(word => names.includes(word)) ? 'typed' : undefined;
}

/** Whether a hook has announced this logind session: its caller opened it, or its display manager has scripts. */
function isAnnounced(s: Pick<Session, 'logins'>, a: LogindSession): boolean {
  if (/^(?:lightdm|gdm)/.test(a.service)) return true;
  return s.logins.some(l => hasOwnProcess(l.adapter) && l.adapter !== 'wrapper' && l.caller.pid === a.leader);
}

/**
 * Whether an entry is a login of its own. `a` is the logind session in whose control group it is, if that is the user's;
 * `shares`: it is in the group of a display manager. A login over ssh may end and leave a desktop behind (VNC, x2go). A
 * program that somebody has left behind is none. Pure.
 */
export function isLogin(
  s: Pick<Session, 'logins'>,
  entry: 'wrapper' | 'typed',
  a: LogindSession | undefined,
  shares: boolean,
): boolean {
  if (a === undefined) return entry === 'wrapper' && !shares;
  if (!isOfPerson(a) || isAnnounced(s, a)) return false;
  return a.state !== 'closing' || (entry === 'wrapper' && !DISPLAY_MANAGERS.test(a.service));
}

/** The session IDs of logind in a path of control groups, for this user only. */
function scopeIn(group: string, uid: number): string | undefined {
  return new RegExp(`/user-${uid}\\.slice/session-([^/]+)\\.scope`).exec(group)?.[1];
}

/** Whether the root directory of a process is that of the session, by the mount tables. */
function isInside(host: Host, pid: number, s: Session): boolean {
  const at = (place: string, lines: readonly MountLine[]): string | undefined => {
    const m = lines.filter(line => line.place === place).at(-1);
    return m && `${m.device} ${m.root}`;
  };
  const its = at('/', mountLines(host, pid));
  return its !== undefined && its === at(s.root, mountLines(host, 'self'));
}

/**
 * The logins in a live session that no hook has announced. None without logind: there, what is left of a login looks like
 * one.
 */
export function unannouncedLogins(host: Host, s: Session): Login[] {
  const shown = s.kind === 'login' && s.boot === bootId(host) ? shownSessions(host) : undefined;
  if (shown === undefined) return [];
  const { uid } = s.user;
  const pids = host.list('/proc').flatMap(name => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || host.read(`/proc/${pid}/comm`) !== 'schroot\n') return [];
    // schroot is set-uid: its real user is whoever has called it. A command line is read from the memory of a process,
    // which can hang with one that is the user's own.
    const isTheirs = new RegExp(`^Uid:\\t${uid}\\t0\\t`, 'm').test(host.read(`/proc/${pid}/status`) ?? '');
    if (!isTheirs) return [];
    const entry = entryOf((host.read(`/proc/${pid}/cmdline`) ?? '').split('\0'), s.id);
    const group = groupOf(host, pid);
    if (entry === undefined || group === undefined) return [];
    const id = scopeIn(group, uid);
    const a = shown.find(one => one.id === id && one.uid === uid);
    // Without pam_systemd, what a display manager starts stays in its own group.
    const shares = s.logins.some(l => groupOf(host, l.caller.pid) === group);
    const isOfManager = group.includes(`/user@${uid}.service`);
    return !isOfManager && isLogin(s, entry, a, shares) ? [pid] : [];
  });
  const leaders = shown
    .filter(a => a.uid === uid && a.leader > 0 && a.state !== 'closing' && isLogin(s, 'typed', a, false))
    .filter(a => isInside(host, a.leader, s))
    .map(a => a.leader);
  return [...new Set([...pids, ...leaders])]
    .flatMap(pid => identify(host, pid) ?? [])
    .map(caller => ({ adapter: 'wrapper', caller, since: host.monotonic() }) as const);
}
