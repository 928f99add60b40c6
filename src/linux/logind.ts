/**
 * The sessions of systemd-logind: on D-Bus, its public interface (org.freedesktop.login1(5)); and for hooks, from its
 * private state files, as libsystemd's sd-login(3) does, because that needs no bus and no child process.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from './host.ts';

export interface LogindSession {
  readonly id: string;
  readonly uid: number;
  /** `online`, `active`, `closing`, `opening`. */
  readonly state: string;
  readonly class: string;
  /** The PAM service: `lightdm`, `gdm-password`, `sshd`. */
  readonly service: string;
  readonly display: string;
  /** The process that opened it through PAM: gdm's worker, lightdm's child for the session. 0 if unknown. */
  readonly leader: number;
  /** Milliseconds on the monotonic clock; 0 if unknown. */
  readonly began: number;
}

const SESSION_FILES = '/run/systemd/sessions';

/** Parses a session file. Its values may be quoted. */
export function parseSession(id: string, text: string): LogindSession {
  const table = new Map<string, string>();
  for (const line of text.split('\n')) {
    const eq = line.indexOf('=');
    if (eq > 0 && !line.startsWith('#'))
      table.set(line.slice(0, eq), line.slice(eq + 1).replace(/^"(.*)"$/, '$1'));
  }
  const get = (key: string): string => table.get(key) ?? '';
  return {
    id,
    uid: Number(get('UID') || Number.NaN),
    state: get('STATE'),
    class: get('CLASS'),
    service: get('SERVICE'),
    display: get('DISPLAY'),
    leader: Number(get('LEADER')) || 0,
    began: Math.floor(Number(get('MONOTONIC')) / 1000) || 0,
  };
}

/** The sessions of all users, including closing ones; undefined without logind. */
export function shownSessions(host: Host, directory = SESSION_FILES): LogindSession[] | undefined {
  if (host.pathType(directory) !== 'dir') return undefined;
  return host
    .list(directory)
    .filter(name => !name.includes('.'))
    .map(name => parseSession(name, host.read(`${directory}/${name}`) ?? ''));
}

/**
 * Whether somebody works in it. Besides `user` there are `user-early` (root's, on a console or over ssh), `user-light`
 * (without a manager) and `user-incomplete` (while a home directory is locked), and there will be others. Those of
 * greeters, lock screens, managers and cron jobs have other names (org.freedesktop.login1(5)).
 */
export function isOfPerson(s: Pick<LogindSession, 'class'>): boolean {
  return s.class.startsWith('user');
}

/** The user's sessions that are not closing. */
export function liveSessions(host: Host, uid: number): LogindSession[] {
  const shown = shownSessions(host) ?? [];
  return shown.filter(s => s.uid === uid && isOfPerson(s) && s.state !== 'closing');
}

/** A source of logind's sessions, and a directory that changes whenever they do. */
export interface LogindSource {
  readonly directory: string;
  /**
   * The sessions of these users, including closing ones; undefined without logind. Rejects if logind does not answer:
   * nothing is then known about any session.
   */
  sessions(host: Host, uids: ReadonlySet<number>): Promise<readonly LogindSession[] | undefined>;
}

/** Reads session files from a directory. */
export function logindFiles(directory: string): LogindSource {
  return { directory, sessions: async host => shownSessions(host, directory) };
}

/** Asks logind on D-Bus. */
export const logindBus: LogindSource = {
  directory: SESSION_FILES,
  async sessions(host, uids) {
    if (host.pathType(SESSION_FILES) !== 'dir') return undefined;
    if (uids.size === 0) return [];
    const mine = (await busSessions(host)).filter(s => uids.has(s.uid));
    const all = await Promise.all(mine.map(s => busSession(host, s.path)));
    if (all.every(s => s !== undefined)) return all;
    // A session ended between the two calls, or logind does not answer.
    const still = new Set((await busSessions(host)).map(s => s.path));
    const silent = mine.find((s, i) => all[i] === undefined && still.has(s.path));
    if (silent) throw new MayflyError('command', `logind does not answer about "${silent.path}"`);
    return all.filter(s => s !== undefined);
  },
};

/** Whether anyone is logged in to this machine, in any way. Rejects if logind does not answer. */
export async function isAnyoneLoggedIn(host: Host): Promise<boolean> {
  if (host.pathType(SESSION_FILES) !== 'dir') return false;
  const uids = new Set((await busSessions(host)).map(s => s.uid));
  const all = (await logindBus.sessions(host, uids)) ?? [];
  return all.some(s => isOfPerson(s) && s.state !== 'closing');
}

/** Seconds that logind has for an answer; it usually takes milliseconds. */
const BUS_TIMEOUT = 3;

/** Calls a method of logind. timeout(1) is needed because busctl(1) may wait for the bus without a limit. */
async function askBus(host: Host, path: string, call: readonly string[], okCodes: number[]): Promise<string> {
  const words = ['busctl', '--json=short', 'call', 'org.freedesktop.login1', path, ...call];
  const { stdout } = await host.run({
    ...{ file: 'timeout', args: ['-k', '1', String(BUS_TIMEOUT), ...words], effect: 'read', okCodes },
  });
  return stdout;
}

/** The object paths of all sessions. */
async function busSessions(host: Host): Promise<{ readonly uid: number; readonly path: string }[]> {
  const call = ['org.freedesktop.login1.Manager', 'ListSessions'];
  const text = await askBus(host, '/org/freedesktop/login1', call, [0]);
  return parseBusList(text);
}

/** The session at an object path; undefined if it no longer exists or logind does not answer. */
async function busSession(host: Host, path: string): Promise<LogindSession | undefined> {
  const call = ['org.freedesktop.DBus.Properties', 'GetAll', 's', 'org.freedesktop.login1.Session'];
  const text = await askBus(host, path, call, [0, 1]);
  return text === '' ? undefined : parseBusSession(text);
}

/** Parses the result of ListSessions, `a(susso)`: ID, uid, user, seat, object path. Pure. */
export function parseBusList(text: string): { readonly uid: number; readonly path: string }[] {
  const { data } = JSON.parse(text) as { data: [[string, number, string, string, string][]] };
  return data[0].map(([, uid, , , path]) => ({ uid, path }));
}

/** Parses a session's properties, `a{sv}`. Times are in microseconds. Pure. */
export function parseBusSession(text: string): LogindSession {
  const [properties] = (JSON.parse(text) as { data: [Record<string, { data: unknown }>] }).data;
  const get = (name: string): unknown => properties[name]?.data;
  return {
    id: String(get('Id')),
    uid: Number((get('User') as [number, string])[0]),
    state: String(get('State')),
    class: String(get('Class')),
    service: String(get('Service')),
    display: String(get('Display')),
    leader: Number(get('Leader')),
    began: Math.floor(Number(get('TimestampMonotonic')) / 1000),
  };
}
