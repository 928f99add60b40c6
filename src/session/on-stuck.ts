/** What the administrator wants done about a session that cannot be ended. */
import { MayflyError } from '../errors.ts';
import { bootId } from '../linux/process-id.ts';
import type { Machine } from '../state/machine.ts';
import { readSessions } from '../state/sessions.ts';

/**
 * What the administrator wants done about a session that can not be ended: nothing (it is kept and retried), or a
 * reboot, which ends everything. Never while anybody else is logged in; the reason is logged first.
 */
export async function onStuck(on: Machine, error: unknown): Promise<void> {
  if (on.config.logout.on_stuck !== 'reboot') return;
  if (!(error instanceof MayflyError) || error.code !== 'stuck') return;
  const living = readSessions(on.host, on.paths).filter(
    s => s.state === 'live' && s.boot === bootId(on.host),
  );
  if (living.length > 0) {
    on.log('warning', `not rebooting for a stuck session while ${living.length} others are in use`);
    return;
  }
  on.log('err', `rebooting, as configured, because a session is stuck: ${error.message}`);
  await on.host.run({ file: 'shutdown', args: ['-r', 'now', 'mayfly: a session is stuck'], effect: 'write' });
}
