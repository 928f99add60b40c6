/**
 * Separates, in one session, the user's numbers from other owners of the generation's files that have the same. An update
 * leaves no such numbers; they come up after it, when an account or a directory group is created, and in generations
 * that an earlier version has sealed. The login is not refused: that would shut out a whole group until the next update.
 */
import { MayflyError } from '../errors.ts';
import { namedNumbers, renumberLines } from '../linux/account-files.ts';
import { changeOwnersCommand, surveyCommand } from '../linux/ownership.ts';
import { readableGeneration } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { ownersPath } from '../state/owners.ts';
import type { Session } from '../state/sessions.ts';

/** The texts of the session's files. */
interface AccountTexts {
  readonly passwd: string;
  readonly group: string;
}

/** New numbers for `taken`: the last below 60000 that the account file `text` does not name and `others` do not have. */
export function freshNumbers(
  taken: readonly number[],
  text: string,
  others: readonly number[],
): ReadonlyMap<number, number> {
  const used = new Set([...namedNumbers(text).map(n => n.number), ...others]);
  const moves = new Map<number, number>();
  let next = 59999;
  for (const number of new Set(taken)) {
    while (used.has(next)) next -= 1;
    if (next < 1000)
      throw new MayflyError('refused', `no number is free for number ${number} in the session`);
    moves.set(number, next);
    next -= 1;
  }
  return moves;
}

/**
 * Gives the owners of `taken` other numbers in the session's tree, before anyone can enter it. Returns the texts of its
 * account files with these numbers. A generation of an earlier version has no list of owners: its first login looks at
 * all files, and leaves one.
 */
export async function giveOthersNewNumbers(
  on: Machine,
  s: Session,
  accounts: AccountTexts,
  taken: { readonly users: readonly number[]; readonly groups: readonly number[] },
): Promise<AccountTexts> {
  const { host, paths } = on;
  const list = ownersPath(paths, s.generation);
  if (!host.exists(list)) {
    const part = `${list}.${s.id}`;
    const describe = (): string[] => [`list the owners of the files of generation ${s.generation}`];
    await host.run({ ...surveyCommand(s.root, part), effect: 'write', describe, inheritFds: on.lockFds });
    if (host.exists(part)) host.rename(part, list); // in a dry run it is not there
  }
  const generation =
    readableGeneration(host, paths, s.generation) ??
    readableGeneration(host, paths, s.generation, 'candidate'); // in its trial
  const unnamed = (kind: 'users' | 'groups'): number[] =>
    Object.keys(generation?.unnamed?.[kind] ?? {}).map(Number);
  const gids = s.groups.map(g => g.gid);
  const moves = {
    users: freshNumbers(taken.users, accounts.passwd, [s.user.uid, ...unnamed('users')]),
    groups: freshNumbers(taken.groups, accounts.group, [...gids, ...unnamed('groups')]),
  };
  const known = host.exists(list) ? list : undefined; // an update may have removed an unfinished one
  await host.run({ ...changeOwnersCommand(s.root, moves, known), inheritFds: on.lockFds });
  const run = `${s.root}/run`;
  const isOwn = s.mounts.some(m => m.target === run && m.type === 'tmpfs'); // with what a boot of the generation creates
  if (isOwn) await host.run({ ...changeOwnersCommand(run, moves, undefined), inheritFds: on.lockFds });
  const of = (all: readonly number[]): string => all.join(', ');
  on.log('notice', `${s.id}: other owners of numbers of ${s.user.name} have new ones in this session`, {
    session: s.id,
    user: s.user.name,
    ...(taken.users.length > 0 ? { users: of(taken.users) } : {}),
    ...(taken.groups.length > 0 ? { groups: of(taken.groups) } : {}),
  });
  return {
    passwd: renumberLines(accounts.passwd, moves, 'passwd'),
    group: renumberLines(accounts.group, moves, 'group'),
  };
}
