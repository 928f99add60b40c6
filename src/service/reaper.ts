/**
 * Ending sessions that are over, a few at a time and never one twice at once; what will not end is tried again, less
 * and less often. Each is judged once more under its person's lock: they may have come back meanwhile.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import { onStuck } from '../session/on-stuck.ts';
import { stop } from '../session/session.ts';
import { prepareSpare } from '../session/spare.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { readSession, type Session, writeSession } from '../state/sessions.ts';
import type { EndedLogins } from './liveness.ts';

export type FindEnded = (s: Session) => EndedLogins | undefined | Promise<EndedLogins | undefined>;

/** How many are taken down at the same time: each kills, unmounts and deletes. */
const AT_ONCE = 4;

/** How long a hook, a login or `mayfly end` at work on the same person is waited for, in seconds. */
const REAP_LOCK_WAIT = 10;

/** How long to wait after that many failures, in milliseconds. */
export function pauseAfter(failures: number): number {
  return ([0, 10, 30, 60][failures] ?? 300) * 1000;
}

/** Ends what is over of a session. Resolves with whether there was anything to do. */
export async function reap(on: Machine, s: Session, judge: FindEnded): Promise<boolean> {
  const done = await withLock(on.host, on.paths, lockNameOf(s), REAP_LOCK_WAIT, async lock => {
    const now = readSession(on.host, on.paths, s.id);
    const verdict = now && (await judge(now));
    if (!verdict) return 'nothing';
    const fields = { session: s.id, user: s.user.name };
    if (verdict.left.length > 0) {
      const left = `${verdict.left.length} of ${now.logins.length} logins are left`;
      on.log('notice', `${s.id} of ${s.user.name}: ${verdict.because}; ${left}`, fields);
      writeSession(on.host, on.paths, { ...now, logins: verdict.left });
      return 'dropped';
    }
    const again = now.stuck === undefined ? 'is over' : 'is tried again';
    on.log(
      now.stuck === undefined ? 'notice' : 'debug',
      `${s.id} of ${s.user.name} ${again}: ${verdict.because}`,
      fields,
    );
    await stop({ ...on, lockFds: [lock.fd] }, now);
    on.log('info', `${s.id} of ${s.user.name} has ended`, fields);
    return 'ended';
  }).catch(async error => {
    await onStuck(on, error);
    throw error;
  });
  if (done === 'ended') await prepareSpare(on);
  return done !== 'nothing';
}

interface RetryState {
  /** Not before, in milliseconds since the epoch. */
  due: number;
  failures: number;
  reason?: string;
}

export interface Reaper {
  /** Ends those that are due. Those not named any more are forgotten. */
  take(on: Machine, over: readonly Session[], judge: FindEnded): void;
  /** When the next one is due, in milliseconds since the epoch. */
  next(): number | undefined;
  busy(): boolean;
  /** Waits for what is being done. */
  drain(): Promise<void>;
}

/** `patience`: how long one whose end somebody else had begun is left to them. `onEnd` is called after each attempt, with whether it changed anything. */
export function reaper(patience: number, onEnd: (changed: boolean) => void): Reaper {
  const attempts = new Map<string, RetryState>();
  const running = new Map<string, Promise<void>>();

  async function endOne(on: Machine, s: Session, a: RetryState, judge: FindEnded): Promise<void> {
    let changed = false;
    try {
      changed = await reap(on, s, judge);
      attempts.delete(s.id);
    } catch (error) {
      if (error instanceof MayflyError && error.code === 'locked') {
        on.log('debug', `${s.id}: ${reasonOf(error)}`);
        a.due = on.host.now() + patience;
      } else fail(on, s, a, reasonOf(error));
    }
    running.delete(s.id);
    onEnd(changed);
  }

  function fail(on: Machine, s: Session, a: RetryState, reason: string): void {
    a.failures += 1;
    a.due = on.host.now() + pauseAfter(a.failures);
    const words = `${s.id} of ${s.user.name} can not be ended: ${reason}; next attempt in ${pauseAfter(a.failures) / 1000} s`;
    // Once for each reason: the record shows it for as long as it lasts.
    on.log(a.reason === reason ? 'debug' : 'err', words, { session: s.id, user: s.user.name });
    a.reason = reason;
  }

  return {
    take(on, over, judge) {
      const ids = new Set(over.map(s => s.id));
      for (const id of [...attempts.keys()]) if (!ids.has(id) && !running.has(id)) attempts.delete(id);
      for (const s of over) {
        const wait = s.state === 'ending' && s.stuck === undefined ? patience : 0;
        const a = attempts.get(s.id) ?? { due: on.host.now() + wait, failures: 0 };
        attempts.set(s.id, a);
        if (running.has(s.id) || running.size >= AT_ONCE || a.due > on.host.now()) continue;
        running.set(s.id, endOne(on, s, a, judge));
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
