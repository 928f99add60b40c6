/** Applies `logout.on_stuck` to a session that cannot be ended. */
import { MayflyError } from '../errors.ts';
import { bootId } from '../linux/process-id.ts';
import type { Machine } from '../state/machine.ts';
import { readSessions } from '../state/sessions.ts';
import { rebootIfIdle } from './idle-reboot.ts';

/**
 * Applies `logout.on_stuck` after an `error` from a teardown: "keep" does nothing, and the service retries; "reboot"
 * reboots the machine, but never while anyone is logged in, and it logs the reason first. At the end of a login, logind
 * may still list the user who leaves: then the service, which tries again, reboots. Errors other than `stuck` are
 * ignored.
 */
export async function applyRebootPolicy(on: Machine, error: unknown): Promise<void> {
  if (on.config.logout.on_stuck !== 'reboot') return;
  if (!(error instanceof MayflyError) || error.code !== 'stuck') return;
  const reboots = await rebootIfIdle(on, {
    when: 'now',
    reason: 'a session is stuck',
    blocked: 'this machine is about to reboot; try again in a few minutes',
    sessions: () => sessionsInUse(on),
    announce: () =>
      on.log('err', `rebooting because a session is stuck (on_stuck = "reboot"): ${error.message}`),
  });
  if (!reboots) on.log('warning', 'not rebooting for a stuck session: the machine is in use');
}

/** The IDs of the sessions that are not about to end. */
function sessionsInUse({ host, paths }: Machine): string[] {
  return readSessions(host, paths)
    .filter(s => s.state !== 'ending' && s.boot === bootId(host))
    .map(s => s.id);
}
