/** Accounts and groups, as this host resolves them. Names come from people: they are checked first. */
import { MayflyError } from '../errors.ts';
import { isMadeOf, isNumber, WORD } from '../names.ts';
import type { Host } from './host.ts';

/** A passwd(5) line as a user; undefined where it is not whole. */
export function parsePasswd(line: string): User | undefined {
  const [name, , uid, gid, gecos, home, shell] = line.split(':');
  if (!name || !uid || !gid || home === undefined || shell === undefined) return undefined;
  if (!isNumber(uid, 10) || !isNumber(gid, 10)) return undefined;
  return { name, uid: Number(uid), gid: Number(gid), gecos: gecos ?? '', home, shell };
}

/** Refuses what can not be the name of an account, before it gets near a path, a file or a command. */
export function checkUserName(name: string): void {
  const bad =
    name === ''
      ? 'it is empty'
      : name.length > 256
        ? `it has ${name.length} characters`
        : name.startsWith('-')
          ? 'it begins with "-"'
          : name === '.' || name === '..'
            ? 'it is a directory'
            : !isMadeOf(name, `${WORD}.-`) && // as nearly all are; the expression is for the others
                // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
                /[/:,\s\u0000-\u001f\u007f[\]]/.test(name)
              ? 'it has a character no account name may have'
              : undefined;
  if (bad) {
    const shown = name.length > 40 ? `${name.slice(0, 40)}…` : name;
    throw new MayflyError('bad-user', `${JSON.stringify(shown)} is not a user name: ${bad}`);
  }
}

/**
 * The account, from /etc/passwd in-process, else through NSS (getent(1): LDAP, SSSD). Throws `bad-user` or
 * `unknown-user`.
 */
export async function lookupUser(host: Host, name: string): Promise<User> {
  checkUserName(name);
  const local = host
    .read('/etc/passwd')
    ?.split('\n')
    .find(line => line.startsWith(`${name}:`));
  const line = local ?? (await getent(host, 'passwd', name));
  const user = line === undefined ? undefined : parsePasswd(line);
  if (!user)
    throw new MayflyError('unknown-user', `there is no user "${name}" on this machine`, { user: name });
  return user;
}

async function getent(host: Host, database: string, key: string): Promise<string | undefined> {
  // 2: the key was not found
  const out = await host.run({
    file: 'getent',
    args: ['--', database, key],
    effect: 'read',
    okCodes: [0, 2],
  });
  return out.code === 0 ? out.stdout.split('\n')[0] : undefined;
}

export interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

export function parseGroups(text: string): Group[] {
  return text.split('\n').flatMap(line => {
    const [name, , gid, members] = line.split(':');
    if (!name || !gid || !isNumber(gid, 10)) return [];
    return [{ name, gid: Number(gid), members: (members ?? '').split(',').filter(Boolean) }];
  });
}

/** Whether groups can come from more than files: then only NSS knows a user's groups. */
export function groupsAreLocal(nsswitch: string | undefined): boolean {
  const lines = (nsswitch ?? '').split('\n').map(line => line.trim());
  const found = lines.find(line => line.startsWith('group:'))?.slice('group:'.length) ?? 'files';
  const line = found.includes('[') ? found.replace(/\[[^\]]*\]/g, ' ') : found;
  const sources = line.replaceAll('\t', ' ').split(' ').filter(Boolean);
  return sources.every(source => source === 'files' || source === 'systemd' || source === 'compat');
}

/** The groups of a user on this host, the primary one included. */
export async function groupsOf(host: Host, user: User): Promise<Group[]> {
  const text = host.read('/etc/group') ?? '';
  if (groupsAreLocal(host.read('/etc/nsswitch.conf'))) {
    const near = text.split('\n').filter(line => line.includes(user.name) || line.includes(`:${user.gid}:`));
    const mine = parseGroups(near.join('\n')).filter(
      g => g.gid === user.gid || g.members.includes(user.name),
    );
    return mine.map(g => ({ ...g, members: [] })); // who else is in it is no business of a session's record
  }
  const local = parseGroups(text);
  const out = await host.run({
    file: 'getent',
    args: ['--', 'initgroups', user.name],
    effect: 'read',
    okCodes: [0, 2],
  });
  const gids = new Set(out.stdout.trim().split(/\s+/).slice(1).map(Number)).add(user.gid);
  const groups: Group[] = [];
  for (const gid of gids) {
    const known =
      local.find(g => g.gid === gid) ?? parseGroups((await getent(host, 'group', String(gid))) ?? '')[0];
    if (known) groups.push({ ...known, members: [] });
  }
  return groups;
}

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly gecos: string;
  readonly home: string;
  readonly shell: string;
}
