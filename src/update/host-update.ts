/**
 * Updates of the host itself after the nightly update, and its reboot when one is required and nobody is logged in.
 */
import type { Config } from '../config/config.ts';
import { reasonOf } from '../errors.ts';
import { isAnyoneLoggedIn } from '../linux/logind.ts';
import { blockLogins, unblockLogins } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import { sessionIds } from '../state/sessions.ts';

/** Debian's packages create this file when a reboot is required, for example after a kernel update. */
const REBOOT_REQUIRED = '/run/reboot-required';

const UPGRADE = 'unattended-upgrade';

/** The programs that the configured host update and reboot need, without those of the administrator's own command. */
export function programsFor({ update, reboot }: Config['host']): string[] {
  return [...(update === 'unattended-upgrades' ? [UPGRADE] : []), ...(reboot === 'idle' ? ['shutdown'] : [])];
}

/**
 * Runs the configured host update. Throws `command` if it fails. It has no timeout, because dpkg must not be killed.
 */
export async function updateHost({ host, config }: Machine, onLine: (line: string) => void): Promise<void> {
  const { update, command } = config.host;
  if (update === 'off') return;
  const [file = '', ...args] = update === 'command' ? command : [UPGRADE];
  await host.run({ file, args, effect: 'write', onLine });
}

/**
 * Schedules a reboot in one minute, with a message to all terminals, if `host.reboot` is "idle", a reboot is required
 * and nobody is logged in; logins are then blocked. Returns the reason, or undefined if no reboot was scheduled. The
 * caller must hold the lock `update`, so that no update is interrupted. Throws `command` if shutdown(8) fails.
 */
export async function rebootIfRequired(on: Machine): Promise<string | undefined> {
  const { host, config } = on;
  if (config.host.reboot !== 'idle' || !host.exists(REBOOT_REQUIRED)) return undefined;
  if (await isInUse(on)) return undefined;
  const packages = (host.read(`${REBOOT_REQUIRED}.pkgs`) ?? '').split('\n').filter(Boolean);
  const reason = `an update requires a reboot${packages.length > 0 ? ` (${[...new Set(packages)].join(', ')})` : ''}`;
  blockLogins(on, 'this machine is about to reboot for an update; try again in a few minutes');
  try {
    if (await isInUse(on)) {
      unblockLogins(on);
      return undefined;
    }
    on.log('notice', `rebooting in one minute: ${reason}`);
    await host.run({ file: 'shutdown', args: ['-r', '+1', `mayfly: ${reason}`], effect: 'write' });
    return reason;
  } catch (error) {
    unblockLogins(on);
    throw error;
  }
}

/**
 * Whether anyone is logged in, in a session or on the host itself: on a console, over ssh. If logind does not answer,
 * someone may be.
 */
async function isInUse({ host, paths, log }: Machine): Promise<boolean> {
  if (sessionIds(host, paths).length > 0) return true;
  try {
    return await isAnyoneLoggedIn(host);
  } catch (error) {
    log('warning', `not rebooting, because logind does not say who is logged in: ${reasonOf(error)}`);
    return true;
  }
}
