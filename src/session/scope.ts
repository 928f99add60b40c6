/** Decides which users get a session, and matches users against lists in the configuration. */
import { type Config, isPerson } from '../config/config.ts';
import type { Group, User } from '../linux/accounts.ts';

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
