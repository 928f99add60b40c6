/**
 * Alerts about sessions on classic LVM whose snapshot fills up. When it is full, the kernel invalidates it: the changes of
 * the session can no longer be read, programs fail in odd ways, and only the kernel's log has the reason. So the user
 * is told.
 */
import { showMessage } from '../session/message.ts';
import type { Machine } from '../state/machine.ts';
import { readSession } from '../state/sessions.ts';
import type { Pool, SnapshotUsage } from '../volume/backend.ts';

/** Percent of the snapshot's size above which there is a warning. */
export const WARN_PERCENT = 80;

/** The alerts that were sent, by session: one when the snapshot is nearly full, one when it is full. */
export type AlertsSent = Map<string, 'nearly' | 'over'>;

/** The alerts to send now. Pure, except that it updates `sent`. */
export function newAlerts(
  sent: AlertsSent,
  snapshots: readonly SnapshotUsage[],
): { session: string; percent: number }[] {
  const now = new Map(snapshots.map(s => [s.session, s]));
  for (const session of [...sent.keys()]) if (!now.has(session)) sent.delete(session);
  return snapshots.filter(({ session, percent }) => {
    const alert = percent >= 100 ? 'over' : percent >= WARN_PERCENT ? 'nearly' : undefined;
    if (alert === undefined || sent.get(session) === alert || sent.get(session) === 'over') return false;
    sent.set(session, alert);
    return true;
  });
}

/** Checks all snapshots, logs new alerts, and shows the user of a full one a message. Updates `sent`. */
export async function alertSnapshots(on: Machine, pool: Pool, sent: AlertsSent): Promise<void> {
  const snapshots = await on.backend(pool.backend).snapshotUsage?.(pool.path);
  for (const { session, percent } of newAlerts(sent, snapshots ?? [])) {
    const s = readSession(on.host, on.paths, session);
    const whose = s ? `${session} of ${s.user.name}` : session;
    const fields = { session, ...(s ? { user: s.user.name } : {}) };
    if (percent < 100) {
      const message = `the snapshot of ${whose} is ${Math.floor(percent)} % full; when it is full, the session is lost`;
      on.log('warning', `${message} ("lvm.cow_size" sets the size for new sessions)`, fields);
      continue;
    }
    on.log('err', `the snapshot of ${whose} is full; the session can only be ended`, fields);
    if (s) await showMessage(on, s, 'Session out of space', MESSAGE);
  }
}

const MESSAGE =
  'This session has run out of space, and all changes outside your home directory are lost. Please save your work to your home directory, log out, and log in again.';
