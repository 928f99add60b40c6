/**
 * Groups that `include` names and that this machine does not know: those of a directory that cannot be asked now, and
 * mistakes in typing. Nobody can tell the one from the other, nor who is in such a group. Loaded on use: only for people
 * who would get the host.
 */
import type { Config } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import { askNss, type Group, localUser, parseGroups, type User } from '../linux/accounts.ts';
import type { Host } from '../linux/host.ts';
import { shellWord } from '../names.ts';

/** A line for each argument: the number and the members of the group, or nothing. getent(1) takes "2024" for a number. */
const GROUPS_PROGRAM = 'for (@ARGV) { my @g = getgrnam $_; print @g ? "$g[2] $g[3]" : "", "\\n" }';

/** The groups that a list of the configuration names. Pure. */
export const groupNames = (list: readonly string[]): string[] =>
  list.flatMap(entry => (entry.startsWith('@') ? entry.slice(1) : []));

/** Those of `names` that /etc/group does not have. */
export function notLocal(host: Host, names: readonly string[]): string[] {
  const local = new Set(parseGroups(host.read('/etc/group') ?? '').map(g => g.name));
  return names.filter(name => !local.has(name));
}

/**
 * What NSS answers about groups, with one process: the number and the text of the members, or undefined for a group that
 * it does not know. `why` is whom the question is about. Throws `timeout`; with a limit, silence means "not known".
 */
export async function lookupGroups(
  host: Host,
  names: readonly string[],
  why: string,
  limit?: number,
): Promise<({ readonly gid: number; readonly members: string } | undefined)[]> {
  if (names.length === 0) return [];
  const command = ['perl', '-e', GROUPS_PROGRAM, '--', ...names];
  const lines = (await askNss(host, why, command, limit)).split('\n');
  return names.map((_, i) => {
    const [, gid, members = ''] = /^(\d+) (.*)$/.exec(lines[i] ?? '') ?? [];
    return gid === undefined ? undefined : { gid: Number(gid), members };
  });
}

/**
 * Whether somebody whom no entry of `include` matches by name is in a group that it names all the same: one that has
 * another spelling in the directory, or whose name the directory did not tell. Throws `unknown-group` if NSS does not know
 * one of the groups: the person could be in it, and would get the host. Accounts of this machine itself are not refused,
 * because whoever repairs it has one; /etc says in which groups they are.
 */
export async function isInByNumber(
  host: Host,
  { include }: Pick<Config, 'include'>,
  user: User,
  groups: readonly Group[],
): Promise<boolean> {
  if (localUser(host, user.name)) return false;
  const names = notLocal(host, groupNames(include));
  const answers = await lookupGroups(host, names, user.name);
  // The members are separated by blanks, and names can have some: in doubt it is a member, and gets a session.
  const isIn = answers.some(
    a => a && (groups.some(g => g.gid === a.gid) || ` ${a.members} `.includes(` ${user.name} `)),
  );
  if (isIn) return true;
  const unknown = names.filter((_, i) => answers[i] === undefined);
  if (unknown.length === 0) return false;
  const named = unknown.map(name => `"@${name}"`).join(', ');
  const what = `nobody can tell whether "${user.name}" gets a session: this machine does not know ${named} in "include" now`;
  throw new MayflyError('unknown-group', what, {
    ...{ user: user.name, groups: unknown },
    hint: `getent group ${unknown.map(shellWord).join(' ')}`,
  });
}
