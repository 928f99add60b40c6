/** Limits how many sessions of one user may be stuck: each keeps its files, and nobody may fill the pool with them. */
import { MayflyError } from '../errors.ts';
import type { User } from '../linux/accounts.ts';
import { uidOfSession } from '../names.ts';
import { overdueReason } from '../state/discarded.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import type { Volume } from '../volume/backend.ts';

/**
 * Throws `stuck` if the user has `logout.max_stuck` sessions or more that cannot be ended: `stuck`, or deleted long ago
 * while their space is still held. `volume` is one in the pool.
 */
export async function requireFewStuck(
  { config, backend }: Machine,
  user: User,
  stuck: readonly Session[],
  { backend: kind, pool }: Pick<Volume, 'backend' | 'pool'>,
): Promise<void> {
  const most = config.logout.max_stuck;
  const reasons = stuck.map(s => `${s.id}: ${s.stuck}`);
  const { discarded } = await backend(kind).list(pool);
  const theirs = discarded.filter(d => d.deleted && uidOfSession(d.session) === user.uid);
  reasons.push(...theirs.flatMap(d => overdueReason(d) ?? []));
  if (reasons.length < most) return;
  const message = `${reasons.length} sessions of ${user.name} cannot be ended, and "logout.max_stuck" is ${most}; the first is ${reasons[0]}`;
  throw new MayflyError('stuck', message, { user: user.name });
}
