/** Accounts and groups, as this host resolves them. Names are untrusted input and are checked first. */
import { hasCode, MayflyError } from '../errors.ts';
import { DIGITS, isMadeOf, isNumber, WORD } from '../names.ts';
import { OUT_OF_TIME } from './command.ts';
import type { Host } from './host.ts';

/** Whether `text` is the number of a user or group. The highest one is -1, with which chown(2) changes nothing. */
const isId = (text: string): boolean => isNumber(text, 10) && Number(text) < 0xffffffff;

/**
 * Parses an entry of passwd(5); undefined if it is malformed. Redundant slashes of the home directory are removed. A
 * directory may let users write their own comment and shell, and NSS passes on a ":" or a newline in them: such an entry
 * would have a home directory of the user's choice.
 */
export function parsePasswd(line: string): User | undefined {
  const [name, , uid, gid, gecos, home, shell, more] = line.split(':');
  if (!name || !uid || !gid || home === undefined || shell === undefined) return undefined;
  if (!isId(uid) || !isId(gid) || more !== undefined || line.includes('\n')) return undefined;
  return { name, uid: Number(uid), gid: Number(gid), gecos: gecos ?? '', home: withoutSlashes(home), shell };
}

/** Some directories of accounts have "/home/alice/" or "/home//alice". */
const withoutSlashes = (path: string): string =>
  path.includes('//') || path.endsWith('/') // nearly never, and V8 would compile the expressions in every hook
    ? path.replace(/\/{2,}/g, '/').replace(/(.)\/$/, '$1')
    : path;

/** Throws `bad-user` for an invalid user name, before it is used in a path, a file or a command. */
export function checkUserName(name: string): void {
  const bad =
    name === ''
      ? 'it is empty'
      : name.length > 256
        ? `it has ${name.length} characters`
        : name.startsWith('-') || name.startsWith('+') // in passwd(5), "+" begins an entry of nss_compat
          ? `it begins with "${name[0]}"`
          : name === '.' || name === '..'
            ? 'it is the name of a directory'
            : !isMadeOf(name, `${WORD}.-`) && // true for nearly all names; the expressions are for the others
                // biome-ignore lint/suspicious/noControlCharactersInRegex: it matches control characters to refuse them
                (/[/:,\u0000-\u001f\u007f-\u009f[\]]|[^\S ]/.test(name) || name.trim() !== name)
              ? 'it has a character that is not allowed in user names'
              : undefined;
  if (bad) {
    const shown = name.length > 40 ? `${name.slice(0, 40)}…` : name;
    throw new MayflyError('bad-user', `invalid user name ${JSON.stringify(shown)}: ${bad}`);
  }
}

/** The line of an account in /etc/passwd. Throws `bad-user`. */
function localLine(host: Host, name: string): string | undefined {
  checkUserName(name);
  return host
    .read('/etc/passwd')
    ?.split('\n')
    .find(line => line.startsWith(`${name}:`));
}

/** An account of this machine itself; undefined if there is none, whatever a directory says. Throws `bad-user`. */
export const localUser = (host: Host, name: string): User | undefined =>
  parsePasswd(localLine(host, name) ?? '');

/**
 * Looks up an account in /etc/passwd, then through NSS (LDAP, SSSD), with one process. The answer has the directory's
 * own spelling of the name. After `limit` milliseconds a directory knows nobody. Throws `bad-user`, `unknown-user` or
 * `timeout`.
 */
export async function lookupUser(host: Host, name: string, limit?: number): Promise<User> {
  const ask = isMadeOf(name, DIGITS) ? passwdOfNumber : passwdOf;
  const line = localLine(host, name) ?? (await ask(host, name, limit));
  const user = parsePasswd(line ?? '');
  if (line && !user) {
    const what = `the entry of "${name}" in passwd(5) is malformed: a field has ":" or a newline in it, or a number is invalid`;
    throw new MayflyError('bad-user', what, { user: name });
  }
  if (!user || (user.name !== name && isMadeOf(name, DIGITS)))
    throw new MayflyError('unknown-user', `there is no user "${name}" on this machine`, { user: name });
  checkUserName(user.name); // a directory may answer with another name than the one it was asked for
  return user;
}

/** Asks NSS about an account. Throws `timeout`; with a limit, silence is an empty answer. */
export async function askNss(
  host: Host,
  name: string,
  c: readonly string[],
  limit?: number,
): Promise<string> {
  const [file = '', ...args] = c;
  try {
    // 2: a key was not found
    const okCodes = [0, 2, OUT_OF_TIME];
    const out = await host.run({ file, args, effect: 'read', okCodes, ...(limit ? { limit } : {}) });
    return out.stdout;
  } catch (error) {
    if (!hasCode(error, 'timeout')) throw error;
    const what = `the directory of accounts did not answer in time about "${name}"`;
    throw new MayflyError('timeout', what, { hint: `getent passwd ${name}` }, { cause: error });
  }
}

async function passwdOf(host: Host, name: string, limit?: number): Promise<string> {
  const entry = await askNss(host, name, ['getent', '--', 'passwd', name], limit);
  return entry.endsWith('\n') ? entry.slice(0, -1) : entry;
}

/** Asks for a name made of digits, which getent(1) takes for a uid: it would answer with another account, or none. */
async function passwdOfNumber(host: Host, name: string, limit?: number): Promise<string | undefined> {
  const script = 'my @u = getpwnam $ARGV[0]; print join ":", $u[0], "x", @u[2, 3, 6 .. 8] if @u';
  const stdout = await askNss(host, name, ['perl', '-e', script, '--', name], limit);
  return stdout === '' ? undefined : stdout;
}

export interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** Whether a group may have this name; directories allow spaces and letters of any script. */
function isGroupName(name: string): boolean {
  return isMadeOf(name, `${WORD}.-`) || !/[/\p{Cc}]/u.test(name);
}

/** Parses group(5); lines that are malformed, or whose name has a slash or a control character, are skipped. */
export function parseGroups(text: string): Group[] {
  return text.split('\n').flatMap(line => {
    const [name, , gid, members] = line.split(':');
    if (!name || !gid || !isId(gid) || !isGroupName(name)) return [];
    return [{ name, gid: Number(gid), members: (members ?? '').split(',').filter(Boolean) }];
  });
}

/** The services, besides local files, from which nsswitch.conf(5) takes groups. */
export function directoryServices(nsswitch: string | undefined, database = 'group:'): string[] {
  const lines = (nsswitch ?? '').split('\n').map(line => line.trim());
  const found = lines.find(line => line.startsWith(database))?.slice(database.length) ?? 'files';
  const line = found.includes('[') ? found.replace(/\[[^\]]*\]/g, ' ') : found;
  const sources = line.replaceAll('\t', ' ').split(' ').filter(Boolean);
  return sources.filter(source => source !== 'files' && source !== 'systemd' && source !== 'compat');
}

/** Whether groups come from local files only. If not, only NSS knows a user's groups. */
export function groupsAreLocal(nsswitch: string | undefined): boolean {
  return ['group:', 'initgroups:'].every(database => directoryServices(nsswitch, database).length === 0);
}

/** Whether the host's group of this name has this number, and not only a directory's group with the same name. */
function isGroupOfName(text: string, { name, gid }: Group): boolean {
  const first = text.split('\n').find(line => line.startsWith(`${name}:`));
  return first === undefined || parseGroups(first)[0]?.gid === gid;
}

/**
 * The groups of a user on this host, including the primary group; `members` is left empty. A group without a name has the
 * name "": its number counts all the same. So does a directory's group if /etc/group has its name under another number: its
 * members are not those that the name stands for. /etc/group also counts where NSS leaves it out, as with "initgroups:" in
 * nsswitch.conf(5): its members are the administrator's choice.
 */
export async function groupsOf(host: Host, user: User): Promise<Group[]> {
  const text = host.read('/etc/group') ?? '';
  const candidates = text
    .split('\n')
    .filter(line => line.includes(user.name) || line.includes(`:${user.gid}:`));
  const own = parseGroups(candidates.join('\n')).filter(
    g => g.gid === user.gid || g.members.includes(user.name),
  );
  if (groupsAreLocal(host.read('/etc/nsswitch.conf'))) {
    const unnamed = own.some(g => g.gid === user.gid) ? [] : [unnamedGroup(user.gid)];
    return [...own, ...unnamed].map(g => ({ ...g, members: [] })); // a session's record does not need the other members
  }
  const local = parseGroups(text);
  const numbers = (await askNss(host, user.name, ['getent', '--', 'initgroups', user.name]))
    .slice(user.name.length)
    .trim();
  const all = [...numbers.split(/\s+/).filter(Boolean).map(Number), user.gid, ...own.map(g => g.gid)];
  const gids = [...new Set(all)];
  const others = gids.filter(gid => !local.some(g => g.gid === gid)).map(String);
  // One question for all groups: a person may be in hundreds, and each process takes 3 to 70 ms beside others.
  const named =
    others.length === 0
      ? []
      : parseGroups(await askNss(host, user.name, ['getent', '--', 'group', ...others]));
  return gids.flatMap(gid => {
    const known = [...local, ...named].find(g => g.gid === gid);
    return [known && isGroupOfName(text, known) ? { ...known, members: [] } : unnamedGroup(gid)];
  });
}

const unnamedGroup = (gid: number): Group => ({ name: '', gid, members: [] });

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly gecos: string;
  readonly home: string;
  readonly shell: string;
}
