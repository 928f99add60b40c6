/**
 * What a login tells of a new generation. That a session could be made proves nothing: its desktop may end at once. A
 * generation is proven when a session of it has lasted. It fails a person whose desktop has ended as soon as it had
 * started, which the session wrapper writes to the journal. Loaded on use: only while a generation is on probation.
 */
import { directoryServices, parseGroups, parsePasswd, type User } from '../linux/accounts.ts';
import { lookAt } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { bootId } from '../linux/process-id.ts';
import type { Machine } from '../state/machine.ts';
import { ENABLED_MARKER } from '../state/paths.ts';
import { readSessions, type Session } from '../state/sessions.ts';
import { inScope } from './scope.ts';

/**
 * How long a session must have lasted, in milliseconds. A desktop that ends within 20 seconds leaves a window for a minute,
 * and schroot may take as long to refuse.
 */
export const PROVEN_AFTER = 180_000;

/** Programs that open sessions without a desktop. They prove the desktop only where there is none. */
const TEXT_LOGINS = /^(?:sshd|login|su|sudo|cron|crond|atd|dropbear|agetty|systemd)(?:$|[^\w])/;

/** Whether one of the session's logins is at a display, as far as can be told. */
function isAtDisplay(host: Host, s: Session): boolean {
  return s.logins.some(({ adapter, display, caller }) => {
    if (adapter !== 'pam' && adapter !== 'wrapper') return true;
    return display !== undefined || !TEXT_LOGINS.test((host.read(`/proc/${caller.pid}/comm`) ?? '').trim());
  });
}

/** Whether this session proves its generation. */
export function hasLasted(host: Host, s: Session): boolean {
  if (s.kind !== 'login' || s.state === 'starting' || s.boot !== bootId(host)) return false;
  if (s.since === undefined || host.monotonic() - s.since < PROVEN_AFTER) return false;
  return !host.exists(ENABLED_MARKER) || isAtDisplay(host, s);
}

/** Whether a live session proves generation `number`. */
export function isProven({ host, paths }: Machine, number: number): boolean {
  return readSessions(host, paths).some(
    s => s.generation === number && s.state === 'live' && hasLasted(host, s),
  );
}

/** What the session wrapper logs about a desktop; its users can write it, too, but only as themselves. */
const CODE = 'MAYFLY-DESKTOP';

/** Whether the journal says that the person's desktop has ended as soon as it had started, since the session began. Pure. */
export function saysFailed(journal: string, since: number): boolean {
  return journal.split('\n').some(line => {
    try {
      const { MESSAGE, __MONOTONIC_TIMESTAMP } = JSON.parse(line) as Record<string, unknown>;
      return String(MESSAGE).includes(CODE) && Number(__MONOTONIC_TIMESTAMP) / 1000 >= since;
    } catch {
      return false; // the last line is empty
    }
  });
}

/** Seconds for the journal to answer. */
const ANSWER_WAIT = 5;

/** Whether the desktop of a session has ended as soon as it had started. False without a journal, and if it does not answer. */
export async function desktopFailed({ host }: Machine, s: Session): Promise<boolean> {
  if (s.since === undefined || s.boot !== bootId(host)) return false;
  if (lookAt(host, '/run/systemd/journal/socket') === undefined) return false;
  // The journal knows who wrote a line: nobody can write one for another person.
  const fields = ['SYSLOG_IDENTIFIER=mayfly', `_UID=${s.user.uid}`];
  const form = ['--output=json', '--output-fields=MESSAGE', '--lines=20', '--no-pager', '--quiet'];
  const args = ['-k', '1', String(ANSWER_WAIT), 'journalctl', '--boot', ...form, ...fields];
  try {
    return saysFailed((await host.run({ file: 'timeout', args, effect: 'read' })).stdout, s.since);
  } catch {
    return false;
  }
}

/** Shells of accounts that nobody logs in to. */
const NO_LOGIN = /\/(?:nologin|false|sync)$/;

/** Where systemd keeps accounts that are not in `/etc/passwd`. */
const USER_DATABASES = ['/var/lib/systemd/home', '/etc/userdb'];

/**
 * Whether nobody but this user can log in to a session, as far as the machine itself knows: then one person's failures are
 * all that there will ever be, and one who fails on purpose harms nobody else. A directory may have other people.
 */
export function isOnlyPerson({ host, config }: Pick<Machine, 'host' | 'config'>, user: User): boolean {
  const text = host.read('/etc/passwd') ?? '';
  const isElsewhere =
    directoryServices(host.read('/etc/nsswitch.conf'), 'passwd:').length > 0 ||
    /^\+/m.test(text) || // NIS, by "compat"
    USER_DATABASES.some(at => host.list(at).length > 0);
  if (isElsewhere) return false;
  const groups = parseGroups(host.read('/etc/group') ?? '');
  const people = text.split('\n').flatMap(line => {
    const u = parsePasswd(line);
    if (!u || NO_LOGIN.test(line)) return [];
    const own = groups.filter(g => g.gid === u.gid || g.members.includes(u.name));
    return inScope(config, u, own) ? [u] : [];
  });
  return people.length === 1 && people[0]?.uid === user.uid;
}
