/** Ends a session by its ID. */
import { MayflyError } from '../errors.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { deleteSession, readSession } from '../state/sessions.ts';
import { applyRebootPolicy } from './reboot-policy.ts';
import { LOGIN_LOCK_WAIT, stop } from './session.ts';
import { prepareSpare } from './spare-snapshot.ts';

/**
 * Ends a session by its ID, also while it is in use, and waits up to {@link LOGIN_LOCK_WAIT} seconds for its lock.
 * Throws `unknown-session` without such a session, `locked` if the lock stays taken, and `stuck` if the volume
 * cannot be released; after `stuck`, {@link applyRebootPolicy} has applied `logout.on_stuck`.
 */
export async function end(on: Machine, id: string): Promise<void> {
  const s = readSession(on.host, on.paths, id);
  if (!s) throw new MayflyError('unknown-session', `there is no session "${id}"`, { session: id });
  await withLock(on.host, on.paths, lockNameOf(s), LOGIN_LOCK_WAIT, async lock => {
    // It may have ended while this call waited for the lock.
    const now = readSession(on.host, on.paths, id);
    if (now) await stop({ ...on, lockFds: [lock.fd] }, now);
    else deleteSession(on.host, on.paths, id);
    await prepareSpare(on);
  }).catch(async error => {
    await applyRebootPolicy(on, error);
    throw error;
  });
}
