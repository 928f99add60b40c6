/** The steps backwards: logout, rollback of a failed login, and recovery are this one function. */
import { isErrno, MayflyError, reasonOf } from '../errors.ts';
import type { Fields } from '../linux/log.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { deleteSession, readSession, type Session, writeSession } from '../state/sessions.ts';
import { onStuck } from './on-stuck.ts';
import { prepareSpare } from './spare.ts';
import { steps } from './steps.ts';

/** How long anything waits for another login or logout of the same person, in seconds. */
export const LOGIN_LOCK_WAIT = 25;

export const fieldsOf = (s: Session): Fields => ({ session: s.id, user: s.user.name });

/** Writes a record where there is room: on a full disk the teardown, which makes room, must not wait for it. */
export function tryWriteRecord(on: Machine, s: Session): Session {
  try {
    return writeSession(on.host, on.paths, s);
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS')) throw error;
    on.log('warning', `${s.id}: its record could not be written: ${reasonOf(error)}`, { session: s.id });
    return s;
  }
}

/** Runs the steps backwards and halts at the first that fails: going on would delete beneath a live mount. */
export async function stop(on: Machine, session: Session): Promise<void> {
  const s = tryWriteRecord(on, { ...session, state: 'ending' });
  for (const step of [...steps].reverse()) {
    on.log('debug', `${s.id}: ${step.name} down`, fieldsOf(s));
    try {
      await step.down(s, on);
    } catch (error) {
      if (readSession(on.host, on.paths, s.id))
        tryWriteRecord(on, { ...s, stuck: `${step.name}: ${reasonOf(error)}` });
      throw error;
    }
  }
}

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
