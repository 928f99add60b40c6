/** Looks at the home directory of a user before a login does anything. */
import { MayflyError } from '../errors.ts';
import type { Group, User } from '../linux/accounts.ts';
import { lookAt } from '../linux/files.ts';
import { mayHang } from '../linux/remote.ts';
import type { Machine } from '../state/machine.ts';
import { homeProblem } from './home-problem.ts';
import { leaveWhatMayHang } from './own-process.ts';
import { isMember } from './scope.ts';

/**
 * Throws `unsafe` if no session can have the user's home directory, or the directory where its symlinks lead, and
 * `timeout` if its file server does not answer. Returns the directories of the host that the session must show for it, see
 * `home-places.ts`; nearly always none. It is called before anything is done, so that the error of one account counts
 * against no generation. root has /root, which is not mounted. A home directory of the host that an ephemeral one replaces
 * is not looked at.
 */
export async function checkHome(
  on: Pick<Machine, 'host' | 'config' | 'paths' | 'client' | 'unsure'>,
  user: User,
  groups: readonly Group[],
): Promise<readonly string[]> {
  const { host, config, paths } = on;
  const { name, uid, home } = user;
  if (uid === 0 && home === '/root') return [];
  const problem = homeProblem(home, config, paths);
  if (problem !== undefined) {
    const message = `the home directory "${home}" of "${name}" ${problem}; a session cannot use it`;
    throw new MayflyError('unsafe', message, { path: home });
  }
  if (isMember(config.ephemeral_home, user, groups)) return []; // nothing of the host is mounted there
  leaveWhatMayHang(on, [home]);
  const isBelow = (share: string): boolean =>
    home.lastIndexOf('/') === share.length && home.startsWith(share);
  const isSafe = on.client !== undefined || !mayHang(host);
  if (config.mounts.rbind.some(isBelow) && isSafe && lookAt(host, home)?.kind === 'dir') return [];
  const { homePlaces } = await import('./home-places.ts');
  return homePlaces(on, user);
}
