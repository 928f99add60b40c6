/**
 * Ends sessions that are over: a few at a time, and never the same one twice at once. Sessions that cannot be ended are
 * tried again at growing intervals. Each session is checked again under its user's lock, because the user may have
 * logged in again.
 */
import { hasCode, reasonOf } from '../errors.ts';
import { hasTime, loginsBeside } from '../session/end-reason.ts';
import { applyRebootPolicy } from '../session/reboot-policy.ts';
import { savingOf, stillSaving } from '../session/saving.ts';
import { stop } from '../session/session.ts';
import { prepareSpare } from '../session/spare-snapshot.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { readSession, type Saving, type Session, writeSession } from '../state/sessions.ts';
import type { EndedLogins } from './liveness.ts';

export type FindEnded = (s: Session) => EndedLogins | undefined | Promise<EndedLogins | undefined>;

/** How many sessions are ended at the same time; each kills processes, unmounts and deletes. */
const AT_ONCE = 4;

/** How long to wait for the lock of a user, which a hook or `mayfly end` may hold, in seconds. */
const REAP_LOCK_WAIT = 10;

/** The pause before the next attempt after so many failures, in milliseconds. */
export function pauseAfter(failures: number): number {
  return ([0, 10, 30, 60][failures] ?? 300) * 1000;
}

/**
 * Ends a session, or removes the logins from its record that have ended. Resolves with whether there was anything to
 * do. `wait`: what it waited for at the last attempt. Throws `locked`, and the errors of `stop` such as `stuck`.
 */
export async function reap(on: Machine, s: Session, findEnded: FindEnded, wait?: Saving): Promise<boolean> {
  const done = await withLock(on.host, on.paths, lockNameOf(s), REAP_LOCK_WAIT, async lock => {
    const now = readSession(on.host, on.paths, s.id);
    const ended = now && (await findEnded(now));
    if (!ended) return 'nothing';
    const fields = { session: s.id, user: s.user.name };
    const left = ended.left.length > 0 ? ended.left : await loginsBeside(on.host, now);
    if (left.length > 0) {
      const which =
        ended.left.length > 0
          ? `${left.length} of ${now.logins.length} logins remain`
          : `${left.length} that no hook has announced keep it`;
      on.log('notice', `${s.id} of ${s.user.name}: ${ended.because}; ${which}`, fields);
      writeSession(on.host, on.paths, { ...now, logins: left });
      return 'dropped';
    }
    const state = now.stuck === undefined ? 'is over' : 'is stuck, trying again';
    on.log(
      now.stuck === undefined ? 'notice' : 'debug',
      `${s.id} of ${s.user.name} ${state}: ${ended.because}`,
      fields,
    );
    await stop({ ...on, lockFds: [lock.fd] }, stillSaving(now, wait));
    return 'ended';
  }).catch(async error => {
    await applyRebootPolicy(on, s.id, error);
    throw error;
  });
  if (done === 'ended') await prepareSpare(on);
  return done !== 'nothing';
}

interface RetryState {
  /** When to try again, on the monotonic clock. */
  due: number;
  failures: number;
  /** It waits for programs that work on ending, because of this service. */
  waits?: boolean;
  /** What for, if the record had no room for that. */
  wait?: Saving | undefined;
  reason?: string;
}

export interface Reaper {
  /** Starts to end the sessions that are due. `over`: all that are over; the reaper forgets all others. */
  take(on: Machine, over: readonly Session[], findEnded: FindEnded): void;
  /** When the next one is due, on the monotonic clock; undefined if none is waiting. */
  next(): number | undefined;
  busy(): boolean;
  /** Waits until no session is being ended. */
  drain(): Promise<void>;
}

/**
 * `handoverWait`: how long, in milliseconds, to leave a session alone that another process is ending. `onEnd` is called
 * after each attempt, with whether it changed anything.
 */
export function reaper(handoverWait: number, onEnd: (changed: boolean) => void): Reaper {
  const attempts = new Map<string, RetryState>();
  const running = new Map<string, Promise<void>>();

  async function endOne(on: Machine, s: Session, a: RetryState, findEnded: FindEnded): Promise<void> {
    let changed = false;
    try {
      changed = await reap(on, s, findEnded, s.saving ? undefined : a.wait);
      attempts.delete(s.id);
    } catch (error) {
      if (hasCode(error, 'locked', 'saving')) {
        on.log('debug', `${s.id}: ${reasonOf(error)}`);
        a.waits = hasCode(error, 'saving');
        a.wait = savingOf(error) ?? a.wait;
        a.due = on.host.monotonic() + handoverWait;
      } else fail(on, s, a, reasonOf(error));
    }
    running.delete(s.id);
    onEnd(changed);
  }

  function fail(on: Machine, s: Session, a: RetryState, reason: string): void {
    a.failures += 1;
    a.due = on.host.monotonic() + pauseAfter(a.failures);
    const message = `cannot end ${s.id} of ${s.user.name}: ${reason}; next attempt in ${pauseAfter(a.failures) / 1000} s`;
    // Each reason is logged once; the record has it as long as the session is stuck.
    on.log(a.reason === reason ? 'debug' : 'err', message, { session: s.id, user: s.user.name });
    a.reason = reason;
  }

  return {
    take(on, over, findEnded) {
      const ids = new Set(over.map(s => s.id));
      for (const id of [...attempts.keys()]) if (!ids.has(id) && !running.has(id)) attempts.delete(id);
      for (const s of over) {
        const wait = s.state === 'ending' && s.stuck === undefined ? handoverWait : 0;
        const a = attempts.get(s.id) ?? { due: on.host.monotonic() + wait, failures: 0 };
        attempts.set(s.id, a);
        // Another process waits for its programs, and ends it then.
        if (s.saving && hasTime(on.host, s) && !a.waits) a.due = s.saving.until + handoverWait;
        if (running.has(s.id) || running.size >= AT_ONCE || a.due > on.host.monotonic()) continue;
        running.set(s.id, endOne(on, s, a, findEnded));
      }
    },
    next() {
      const due = [...attempts].filter(([id]) => !running.has(id)).map(([, a]) => a.due);
      return due.length === 0 || running.size >= AT_ONCE ? undefined : Math.min(...due);
    },
    busy: () => running.size > 0,
    async drain() {
      await Promise.allSettled(running.values());
    },
  };
}
