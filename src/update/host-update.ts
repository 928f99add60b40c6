/**
 * Updates of the host itself after the nightly update, and its reboot when one is required and nobody is logged in.
 */
import type { Config } from '../config/config.ts';
import { reasonOf } from '../errors.ts';
import { rebootIfIdle } from '../session/idle-reboot.ts';
import type { Machine } from '../state/machine.ts';
import { sessionIds } from '../state/sessions.ts';
import { restartForDriver } from './kernel-match.ts';

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
  if (config.host.reboot !== 'idle') return undefined;
  const driver = host.exists(REBOOT_REQUIRED) ? undefined : await tryRestartForDriver(on);
  if (!host.exists(REBOOT_REQUIRED) && driver === undefined) return undefined;
  const packages = (host.read(`${REBOOT_REQUIRED}.pkgs`) ?? '').split('\n').filter(Boolean);
  const names = packages.length > 0 ? ` (${[...new Set(packages)].join(', ')})` : '';
  const reason = driver ?? `an update requires a reboot${names}`;
  const reboots = await rebootIfIdle(on, {
    when: '+1',
    reason,
    blocked: 'this machine is about to reboot for an update; try again in a few minutes',
    sessions: () => sessionIds(host, on.paths),
    announce: () => on.log('notice', `rebooting in one minute: ${reason}`),
  });
  return reboots ? reason : undefined;
}

/** {@link restartForDriver}; undefined if that cannot be told. */
async function tryRestartForDriver({ host, log }: Machine): Promise<string | undefined> {
  try {
    return await restartForDriver(host);
  } catch (error) {
    log('warning', `whether the driver requires a restart is not known: ${reasonOf(error)}`);
    return undefined;
  }
}
