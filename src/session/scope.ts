/** Who gets a session of their own, and whom a list of the configuration names. */
import { type Config, isPerson } from '../config/config.ts';
import type { Group, User } from '../linux/accounts.ts';

/** Whether a list of the configuration ("alice", "@staff", "*") names this user. */
export function isMember(list: readonly string[], user: User, groups: readonly Group[]): boolean {
  return list.some(
    entry =>
      entry === '*' ||
      entry === user.name ||
      (entry.startsWith('@') && groups.some(g => g.name === entry.slice(1))),
  );
}

/** Whether this person's logins get a session of their own, or the host. */
export function inScope(config: Config, user: User, groups: readonly Group[]): boolean {
  if (!isPerson(config, user.uid)) return false;
  return isMember(config.include, user, groups) && !isMember(config.exclude, user, groups);
}
