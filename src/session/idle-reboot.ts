/** Reboots of the machine by Mayfly: only while nobody uses it. */
import { reasonOf } from '../errors.ts';
import { isAnyoneLoggedIn } from '../linux/logind.ts';
import { blockLogins, unblockLogins } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';

interface Reboot {
  /** A time of shutdown(8). */
  readonly when: 'now' | '+1';
  /** Shown on all terminals. */
  readonly reason: string;
  /** Why logins are refused until then. */
  readonly blocked: string;
  /** The IDs of the sessions that count as use, now. */
  readonly sessions: () => readonly string[];
  /** Called immediately before the reboot. */
  readonly announce: () => void;
}

/**
 * Reboots with shutdown(8) if nobody uses the machine; logins are then blocked. Returns whether it does. Throws
 * `command` if shutdown(8) fails.
 */
export async function rebootIfIdle(on: Machine, o: Reboot): Promise<boolean> {
  if (await isInUse(on, o)) return false;
  blockLogins(on, o.blocked);
  try {
    if (await isInUse(on, o)) {
      unblockLogins(on);
      return false;
    }
    o.announce();
    await on.host.run({ file: 'shutdown', args: ['-r', o.when, `mayfly: ${o.reason}`], effect: 'write' });
    return true;
  } catch (error) {
    unblockLogins(on);
    throw error;
  }
}

/**
 * Whether anyone is logged in, in a session or on the host itself: on a console, over ssh. If logind does not answer,
 * someone may be.
 */
async function isInUse({ host, log }: Machine, { sessions }: Reboot): Promise<boolean> {
  if (sessions().length > 0) return true;
  try {
    return await isAnyoneLoggedIn(host);
  } catch (error) {
    log('warning', `not rebooting, because logind does not say who is logged in: ${reasonOf(error)}`);
    return true;
  }
}
