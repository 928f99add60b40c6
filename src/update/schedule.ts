/** When the nightly update runs by itself, and what speaks against it tonight. */

import { createHash } from 'node:crypto';
import type { Host } from '../linux/host.ts';
import type { Machine } from '../state/machine.ts';

/** Local time of the earliest machine, and over how many minutes the others follow, so that a mirror is not stormed. */
const HOUR = 2;

const SPREAD = 180;

/** Minutes after the earliest, always the same for one machine. */
export function offsetOf(machineId: string): number {
  return createHash('sha256').update(machineId.trim()).digest().readUInt32BE(0) % SPREAD;
}

/**
 * Whether tonight's update is still to be done, a missed one included: the last attempt was before the latest time it
 * should have been made. Times are milliseconds since the epoch, `offset` minutes.
 */
export function isDue(now: number, lastAttempt: number | undefined, offset: number): boolean {
  if (lastAttempt === undefined) return true;
  const latest = new Date(now);
  latest.setHours(HOUR, offset, 0, 0);
  if (latest.getTime() > now) latest.setDate(latest.getDate() - 1);
  return lastAttempt < latest.getTime();
}

export function machineOffset(host: Host): number {
  return offsetOf(host.read('/etc/machine-id') ?? host.read('/etc/hostname') ?? '');
}

/** Why a scheduled update is left out now; undefined where nothing speaks against it. */
export async function skipReason({ host, config }: Machine): Promise<string | undefined> {
  if (config.update.on_battery === 'skip' && isOnBattery(host)) return 'the machine runs on its battery';
  if (config.update.on_metered === 'skip' && (await isMetered(host))) return 'the connection costs by volume';
  return undefined;
}

/** As systemd's ConditionACPower: there is mains power somewhere, and none of it is on. */
function isOnBattery(host: Host): boolean {
  const supplies = host.list('/sys/class/power_supply').map(name => `/sys/class/power_supply/${name}`);
  const mains = supplies.filter(path => host.read(`${path}/type`)?.trim() === 'Mains');
  return mains.length > 0 && mains.every(path => host.read(`${path}/online`)?.trim() === '0');
}

/** NetworkManager's property Metered: 1 is yes, 3 is "guess: yes". Without NetworkManager nobody knows: no. */
async function isMetered(host: Host): Promise<boolean> {
  const name = 'org.freedesktop.NetworkManager';
  const args = ['--system', 'get-property', name, '/org/freedesktop/NetworkManager', name, 'Metered'];
  try {
    const out = await host.run({ file: 'busctl', args, effect: 'read' });
    return /^u [13]$/.test(out.stdout.trim());
  } catch {
    return false;
  }
}
