/** Whether a user may have another session, besides those that cannot be ended. */
import type { User } from '../linux/accounts.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import type { Volume } from '../volume/backend.ts';
import { countDiscarded } from '../volume/directory-layout.ts';

/** Throws `stuck` if `stuck` and those of the user's sessions that are deleted but still held are too many. */
export async function admitUser(
  on: Machine,
  user: User,
  stuck: readonly Session[],
  volume: Volume,
): Promise<void> {
  // What is being erased, and what waits for the next commit of btrfs, does not count; usually there is not even that.
  const most = stuck.length + countDiscarded(on.host, volume.pool, user.uid);
  if (most < on.config.logout.max_stuck) return;
  const { requireFewStuck } = await import('./stuck-limit.ts');
  await requireFewStuck(on, user, stuck, volume);
}
