/** Decides which users get a session, and matches users against lists in the configuration. */
import { type Config, isPerson } from '../config/config.ts';
import { type Group, groupsAreLocal, localUser, parseGroups, type User } from '../linux/accounts.ts';
import type { Host } from '../linux/host.ts';

/**
 * Whether a list of the configuration ("alice", "@staff", "*") matches this user. An account called "@staff" is not the
 * group: what is a pattern in a list never stands for a name. Pure.
 */
export function isMember(list: readonly string[], user: User, groups: readonly Group[]): boolean {
  return list.some(entry => {
    if (entry === '*') return true;
    return entry.startsWith('@') ? groups.some(g => g.name === entry.slice(1)) : entry === user.name;
  });
}

/** Whether this user's logins get a session (true) or the host (false). Pure. */
export function inScope(config: Config, user: User, groups: readonly Group[]): boolean {
  if (!isPerson(config, user.uid)) return false;
  return isMember(config.include, user, groups) && !isMember(config.exclude, user, groups);
}

/**
 * Whether the machine's own files say that an account gets the host: those of the system, and its own people whom `exclude`
 * names. Whoever repairs the machine is one of them, and must not wait for a directory that does not answer.
 */
export function isLeftAlone(host: Host, config: Config, user: User): boolean {
  if (!isPerson(config, user.uid)) return true;
  if (groupsAreLocal(host.read('/etc/nsswitch.conf')) || !localUser(host, user.name)) return false;
  const local = parseGroups(host.read('/etc/group') ?? '');
  const own = local.filter(g => g.gid === user.gid || g.members.includes(user.name));
  return isMember(config.exclude, user, own);
}

/**
 * Whether a login of this user gets a session. Unlike {@link inScope}, it asks again about the groups of a directory before
 * it says that somebody gets the host. Throws `unknown-group` if nobody can tell, and `timeout`.
 */
export async function getsSession(
  host: Host,
  config: Config,
  user: User,
  groups: readonly Group[],
): Promise<boolean> {
  if (inScope(config, user, groups)) return true;
  if (!isPerson(config, user.uid) || isMember(config.exclude, user, groups)) return false;
  if (!config.include.some(entry => entry.startsWith('@'))) return false;
  const { isInByNumber } = await import('./unknown-groups.ts');
  return isInByNumber(host, config, user, groups);
}
