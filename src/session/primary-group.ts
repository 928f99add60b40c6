/** Whether the primary group of an account has a name. Loaded on use. */
import { MayflyError } from '../errors.ts';
import type { User } from '../linux/accounts.ts';
import type { Host } from '../linux/host.ts';

/**
 * Throws `refused` if NSS knows no name for the user's primary group, as where a directory has not that group, or filters
 * it: schroot starts for nobody without one.
 */
export async function requireGroupName(host: Host, { name, gid }: User): Promise<void> {
  // 2: it is not known
  const args = ['--', 'group', `${gid}`];
  const { stdout } = await host.run({ file: 'getent', args, effect: 'read', okCodes: [0, 2] });
  if (stdout.includes(`:${gid}:`)) return;
  const what = `the primary group ${gid} of "${name}" has no name on this machine, without which schroot lets nobody in`;
  throw new MayflyError('refused', what, { user: name, hint: `groupadd --gid ${gid} group${gid}` });
}
