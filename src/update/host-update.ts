/** The host itself: kept up to date after the nightly update, and restarted when it asks for it and nobody is there. */
import type { Config } from '../config/config.ts';
import { reasonOf } from '../errors.ts';
import { isAnyoneLoggedIn } from '../linux/logind.ts';
import { blockLogins, unblockLogins } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import { sessionIds } from '../state/sessions.ts';

/** Where Debian's packages say that the running kernel or library is no longer the installed one. */
const REBOOT_REQUIRED = '/run/reboot-required';

const UPGRADE = 'unattended-upgrade';

/** The programs that the care of the host needs, as it is configured; those of the administrator's own are not named. */
export function programsFor({ update, reboot }: Config['host']): string[] {
  return [...(update === 'unattended-upgrades' ? [UPGRADE] : []), ...(reboot === 'idle' ? ['shutdown'] : [])];
}

/** Runs what is configured; rejects with `command` where it fails. Never cut short: dpkg may be at work on the host. */
export async function updateHost({ host, config }: Machine, onLine: (line: string) => void): Promise<void> {
  const { update, command } = config.host;
  if (update === 'off') return;
  const [file = '', ...args] = update === 'command' ? command : [UPGRADE];
  await host.run({ file, args, effect: 'write', onLine });
}

/**
 * Restarts the machine in a minute, announced, where it is configured and asked for and nobody is logged in. Returns
 * the reason; undefined where it did not. To be called with the update lock held, so that no update is cut short.
 */
export async function rebootIfRequired(on: Machine): Promise<string | undefined> {
  const { host, config } = on;
  if (config.host.reboot !== 'idle' || !host.exists(REBOOT_REQUIRED)) return undefined;
  if (await isSomebodyThere(on)) return undefined;
  const packages = (host.read(`${REBOOT_REQUIRED}.pkgs`) ?? '').split('\n').filter(Boolean);
  const reason = `an update asks for a restart${packages.length > 0 ? ` (${[...new Set(packages)].join(', ')})` : ''}`;
  blockLogins(on, 'this machine is about to be restarted for an update; try again in a few minutes');
  try {
    if (await isSomebodyThere(on)) {
      unblockLogins(on);
      return undefined;
    }
    on.log('notice', `restarting in a minute: ${reason}`);
    await host.run({ file: 'shutdown', args: ['-r', '+1', `mayfly: ${reason}`], effect: 'write' });
    return reason;
  } catch (error) {
    unblockLogins(on);
    throw error;
  }
}

/** In a session of ours, or on the host itself: on a console, over ssh. Who cannot be asked for may be there. */
async function isSomebodyThere({ host, paths, log }: Machine): Promise<boolean> {
  if (sessionIds(host, paths).length > 0) return true;
  try {
    return await isAnyoneLoggedIn(host);
  } catch (error) {
    log('warning', `no restart, as logind does not say who is logged in: ${reasonOf(error)}`);
    return true;
  }
}
