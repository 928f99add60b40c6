/** Ending a session by its ID. */
import { MayflyError } from '../errors.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { deleteSession, readSession } from '../state/sessions.ts';
import { onStuck } from './on-stuck.ts';
import { LOGIN_LOCK_WAIT, stop } from './session.ts';
import { prepareSpare } from './spare.ts';

/** Ends a session by its id, whoever is in it. */
export async function end(on: Machine, id: string): Promise<void> {
  const s = readSession(on.host, on.paths, id);
  if (!s) throw new MayflyError('unknown-session', `there is no session "${id}"`, { session: id });
  await withLock(on.host, on.paths, lockNameOf(s), LOGIN_LOCK_WAIT, async lock => {
    // Somebody else may have ended it while we waited.
    const now = readSession(on.host, on.paths, id);
    if (now) await stop({ ...on, lockFds: [lock.fd] }, now);
    else deleteSession(on.host, on.paths, id);
    await prepareSpare(on);
  }).catch(async error => {
    await onStuck(on, error);
    throw error;
  });
}
