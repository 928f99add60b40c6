/** Applies `logout.on_stuck` to a session that cannot be ended. */
import { MayflyError } from '../errors.ts';
import { bootId } from '../linux/process-id.ts';
import type { Machine } from '../state/machine.ts';
import { readSessions } from '../state/sessions.ts';

/**
 * Applies `logout.on_stuck` after an `error` from a teardown: "keep" does nothing, and the service retries; "reboot"
 * reboots the machine. It never reboots while another session is live, and it logs the reason first. Errors other
 * than `stuck` are ignored.
 */
export async function onStuck(on: Machine, error: unknown): Promise<void> {
  if (on.config.logout.on_stuck !== 'reboot') return;
  if (!(error instanceof MayflyError) || error.code !== 'stuck') return;
  const live = readSessions(on.host, on.paths).filter(s => s.state === 'live' && s.boot === bootId(on.host));
  if (live.length > 0) {
    on.log('warning', `not rebooting for a stuck session: other sessions in use: ${live.length}`);
    return;
  }
  on.log('err', `rebooting because a session is stuck (on_stuck = "reboot"): ${error.message}`);
  await on.host.run({ file: 'shutdown', args: ['-r', 'now', 'mayfly: a session is stuck'], effect: 'write' });
}
