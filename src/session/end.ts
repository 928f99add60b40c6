/** Ends a session by its ID. */
import { MayflyError } from '../errors.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { deleteSession, readSession } from '../state/sessions.ts';
import { applyRebootPolicy } from './reboot-policy.ts';
import { stillSaving, whileSaving } from './saving.ts';
import { LOGIN_LOCK_WAIT, stop } from './session.ts';
import { prepareSpare } from './spare-snapshot.ts';

/**
 * Ends a session by its ID, also while it is in use. Waits for programs that work on ending, and up to
 * {@link LOGIN_LOCK_WAIT} seconds for the session's lock. Throws `unknown-session` without such a session, `locked` if the
 * lock stays taken, and `stuck` if the volume cannot be released; after `stuck`, {@link applyRebootPolicy} has applied
 * `logout.on_stuck`.
 */
export async function end(on: Machine, id: string): Promise<void> {
  const s = readSession(on.host, on.paths, id);
  if (!s) throw new MayflyError('unknown-session', `there is no session "${id}"`, { session: id });
  await whileSaving(on, id, wait =>
    withLock(on.host, on.paths, lockNameOf(s), LOGIN_LOCK_WAIT, async lock => {
      // It may have ended while this call waited.
      const now = readSession(on.host, on.paths, id);
      if (!now) deleteSession(on.host, on.paths, id);
      else await stop({ ...on, lockFds: [lock.fd] }, stillSaving(now, wait));
      await prepareSpare(on);
    }).catch(async error => {
      await applyRebootPolicy(on, id, error);
      throw error;
    }),
  );
}
