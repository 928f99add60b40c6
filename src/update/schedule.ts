/** Decides when the nightly update runs, and whether tonight's is skipped. */

import { createHash } from 'node:crypto';
import type { Host } from '../linux/host.ts';
import { readableGeneration, stableNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readHistory } from '../state/update-history.ts';

/** Local time, in hours, at which the earliest machine updates. */
const HOUR = 2;

/** Minutes over which machines are spread, so that they do not all use a mirror at once. */
const SPREAD = 180;

/** Minutes after {@link HOUR} at which this machine updates; always the same for one machine ID. Pure. */
export function offsetOf(machineId: string): number {
  return createHash('sha256').update(machineId.trim()).digest().readUInt32BE(0) % SPREAD;
}

/** How far the time of the last attempt may be in the future; beyond, the clock was wrong then, and it tells nothing. */
const CLOCK_ERROR = 3_600_000;

/** The most recent moment at which the clock showed this many minutes after {@link HOUR}, as a date. */
function latestAt(now: number, minutes: number): Date {
  const latest = new Date(now);
  latest.setHours(HOUR, minutes, 0, 0);
  if (latest.getTime() > now) {
    latest.setDate(latest.getDate() - 1);
    latest.setHours(HOUR, minutes, 0, 0); // on the day of a change of the clocks it was another time
  }
  return latest;
}

/**
 * Whether an update is due, a missed one included: the last attempt was before the most recent scheduled time. Times
 * are in milliseconds since the epoch, `offset` is in minutes. Pure, but for the local time zone.
 */
export function isDue(now: number, lastAttempt: number | undefined, offset: number): boolean {
  if (lastAttempt === undefined || lastAttempt > now + CLOCK_ERROR) return true;
  return lastAttempt < latestAt(now, offset).getTime();
}

/**
 * Whether the machine has missed its last night: that is over for all machines, and there was no attempt since it began.
 * Pure, but for the local time zone.
 */
export function isMissed(now: number, lastAttempt: number | undefined): boolean {
  if (lastAttempt === undefined || lastAttempt > now + CLOCK_ERROR) return true;
  const begin = latestAt(now, SPREAD);
  begin.setHours(HOUR, 0, 0, 0);
  return lastAttempt < begin.getTime();
}

/** Minutes over which machines are spread by day, when they are switched on together. */
const DAY_SPREAD = 15;

/**
 * How long this machine waits before an update, in milliseconds. At night the start itself is spread. Pure, but for the
 * local time zone.
 */
export function spreadOf(now: number, offset: number): number {
  const isNight = now - latestAt(now, 0).getTime() < (SPREAD + DAY_SPREAD) * 60_000;
  return isNight ? 0 : (offset % DAY_SPREAD) * 60_000;
}

/** The last attempt of an update; without one, when the stable generation was made. */
export function lastAttemptOf({ host, paths }: Machine): number | undefined {
  const last = readHistory(host, paths)?.lastAttempt;
  if (last !== undefined) return last;
  const stable = stableNumber(host, paths);
  const g = stable === undefined ? undefined : readableGeneration(host, paths, stable);
  return (g && Date.parse(g.created)) || undefined; // a damaged record may have no date
}

/** The {@link offsetOf} this machine. */
export function machineOffset(host: Host): number {
  return offsetOf(host.read('/etc/machine-id') ?? host.read('/etc/hostname') ?? '');
}

/** Why a scheduled update is skipped now; undefined if it is not. */
export async function skipReason({ host, config }: Machine): Promise<string | undefined> {
  if (config.update.on_battery === 'skip' && isOnBattery(host)) return 'the machine runs on battery power';
  if (config.update.on_metered === 'skip' && (await isMetered(host)))
    return 'the network connection is metered';
  return undefined;
}

/** Like systemd's ConditionACPower=: there are mains power supplies, and none is online. */
function isOnBattery(host: Host): boolean {
  const supplies = host.list('/sys/class/power_supply').map(name => `/sys/class/power_supply/${name}`);
  const mains = supplies.filter(path => host.read(`${path}/type`)?.trim() === 'Mains');
  return mains.length > 0 && mains.every(path => host.read(`${path}/online`)?.trim() === '0');
}

/** NetworkManager's property Metered: 1 is "yes", 3 is "guess: yes". False without NetworkManager. */
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
