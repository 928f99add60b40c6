/**
 * Waiting for what works on ending. A step of a teardown that has to wait throws `saving`, so that nobody holds the lock of
 * the user meanwhile; the record says what it waits for, and whoever ends the session tries again.
 */
import { hasCode, isErrno, MayflyError } from '../errors.ts';
import type { Log } from '../linux/log.ts';
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

/** Tells what the teardown waits for. A record of a session may have no room for that. */
class StillSaving extends MayflyError {
  readonly wait: Saving;
  constructor(message: string, s: Session, wait: Saving) {
    super('saving', message, { session: s.id, user: s.user.name });
    this.wait = wait;
  }
}

/** What the teardown waits for that has thrown this; undefined for other errors. */
export function savingOf(error: unknown): Saving | undefined {
  return hasCode(error, 'saving') ? (error as Partial<StillSaving>).wait : undefined;
}

/**
 * Records what the teardown waits for, and throws `saving`. Without room for the record only whoever ends the session knows
 * (see {@link savingOf}). Others who try begin to count anew: homes may have room, so nobody is killed before the time is over.
 */
export function saveWait(s: Session, on: Machine, wait: Omit<Saving, 'who'>, what?: string): never {
  const who = what ?? listOf(wait.processes.map(id => `process ${id.pid} ${processName(on.host, id.pid)}`));
  const saving = { ...wait, who };
  try {
    writeSession(on.host, on.paths, { ...s, saving });
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS')) throw error;
  }
  const message = `the last session of ${s.user.name} is still ending: ${who} at work`;
  on.log('info', `${s.id}: ${message}`);
  throw new StillSaving(message, s, saving);
}

/** The session with what it waits for, and with the processes that its programs have become. */
export function stillSaving(s: Session, wait: Saving | undefined): Session {
  return wait ? { ...s, saving: { ...(s.saving ?? wait), processes: wait.processes } } : s;
}

/**
 * Repeats `attempt`, which ends the session, while it throws `saving`. In between it waits, without a lock, until what the
 * session waits for has ended, or its time is over; `attempt` gets what is left of it, and what that has started.
 */
export async function whileSaving(
  { host, paths }: Machine,
  id: string,
  attempt: (wait: Saving | undefined) => Promise<void>,
): Promise<void> {
  for (let wait: Saving | undefined; ; ) {
    try {
      return await attempt(wait);
    } catch (error) {
      if (!hasCode(error, 'saving')) throw error;
      wait = savingOf(error) ?? readSession(host, paths, id)?.saving;
      const { waitForAll } = await import('../linux/terminate.ts');
      if (wait) wait = { ...wait, processes: await waitForAll(host, wait.processes, wait.until) };
    }
  }
}
