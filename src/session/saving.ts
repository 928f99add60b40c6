/**
 * Waiting for what works on ending. A step of a teardown that has to wait throws `saving`, so that nobody holds the lock of
 * the user meanwhile; the record says what it waits for, and whoever ends the session tries again.
 */
import { hasCode, isErrno, MayflyError } from '../errors.ts';
import type { Log } from '../linux/log.ts';
import type { ProcessId } from '../linux/process-id.ts';
import { processName } from '../linux/processes.ts';
import type { Machine } from '../state/machine.ts';
import { readSession, type Saving, type Session, writeSession } from '../state/sessions.ts';

/** At most five, and how many more: "process 12 saver, process 13 sleep and 3 more". */
function listOf(all: readonly string[]): string {
  const more = all.length - 5;
  return all.slice(0, 5).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** Tells who was killed at work: they may have lost something. */
export function reportKilled(s: Session, log: Log, killed: readonly string[]): void {
  if (killed.length === 0) return;
  const message = `${s.id} of ${s.user.name}: killed while still at work on ending: ${listOf(killed)}`;
  log('warning', message, { killed: killed.join(', ') });
}

/**
 * Records what the teardown waits for, and throws `saving`. Without room for the record it returns false, because nobody
 * could tell later how long they had.
 */
export function saveWait(s: Session, on: Machine, wait: Omit<Saving, 'who'>, what?: string): false {
  const who = what ?? listOf(wait.processes.map(id => `process ${id.pid} ${processName(on.host, id.pid)}`));
  try {
    writeSession(on.host, on.paths, { ...s, saving: { ...wait, who } });
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS')) throw error;
    return false;
  }
  const message = `the last session of ${s.user.name} is still ending: ${who} at work`;
  on.log('info', `${s.id}: ${message}`);
  throw new MayflyError('saving', message, { session: s.id, user: s.user.name });
}

/** The session with the processes that its programs have become. */
export function stillSaving(s: Session, processes: readonly ProcessId[] | undefined): Session {
  return s.saving && processes ? { ...s, saving: { ...s.saving, processes } } : s;
}

/**
 * Repeats `attempt`, which ends the session, while it throws `saving`. In between it waits, without a lock, until what the
 * session waits for has ended, or its time is over; `attempt` gets what is left of it, and what that has started.
 */
export async function whileSaving(
  { host, paths }: Machine,
  id: string,
  attempt: (processes: readonly ProcessId[] | undefined) => Promise<void>,
): Promise<void> {
  for (let processes: readonly ProcessId[] | undefined; ; ) {
    try {
      return await attempt(processes);
    } catch (error) {
      if (!hasCode(error, 'saving')) throw error;
      const saving = readSession(host, paths, id)?.saving;
      const { waitForAll } = await import('../linux/terminate.ts');
      processes = saving && (await waitForAll(host, saving.processes, saving.until));
    }
  }
}
