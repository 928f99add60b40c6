/** Applies `logout.on_stuck` to a session that cannot be ended. */
import { MayflyError, reasonOf } from '../errors.ts';
import { bootId } from '../linux/process-id.ts';
import { describeHolders } from '../linux/processes.ts';
import type { Machine } from '../state/machine.ts';
import { readSession, readSessions, type Session } from '../state/sessions.ts';
import { hasTime } from './end-reason.ts';
import { rebootIfIdle } from './idle-reboot.ts';

/**
 * How long a session must have been stuck, in addition to `logout.grace`, in milliseconds. Most of what keeps one ends by
 * itself, and meanwhile the service has tried several times.
 */
export const REBOOT_PATIENCE = 300_000;

/**
 * Applies `logout.on_stuck` after an `error` from the teardown of session `id`: "keep" does nothing, and the service
 * retries; "reboot" reboots the machine if the session has been stuck for {@link REBOOT_PATIENCE}, but never while anyone
 * is logged in, while programs of another session save, or for a process that is not the user's; and it logs the reason
 * first. Until then the service, which tries again, applies it again. Errors other than `stuck` are ignored.
 */
export async function applyRebootPolicy(on: Machine, id: string, error: unknown): Promise<void> {
  const { host, paths, config, log } = on;
  if (config.logout.on_stuck !== 'reboot') return;
  if (!(error instanceof MayflyError) || error.code !== 'stuck') return;
  const s = readSession(host, paths, id);
  // A reboot has not freed one of another boot, and the next would not.
  if (!s || s.boot !== bootId(host)) return;
  if (!isPatienceOver(s, host.monotonic(), config.logout.grace * 1000)) return;
  const others = await foreignersOf(on, s);
  if (others !== undefined)
    return log('warning', `not rebooting for the stuck session ${id}: it is kept by ${others}`);
  const reboots = await rebootIfIdle(on, {
    when: 'now',
    reason: 'a session is stuck',
    blocked: 'this machine is about to reboot; try again in a few minutes',
    sessions: () => sessionsInUse(on, id),
    announce: () =>
      log('err', `rebooting because a session is stuck (on_stuck = "reboot"): ${error.message}`),
  });
  if (!reboots) log('warning', 'not rebooting for a stuck session: the machine is in use');
}

/** Whether a session has been stuck for long enough. `grace` and `now` are in milliseconds. Pure. */
export function isPatienceOver(
  { stuckSince }: Pick<Session, 'stuckSince'>,
  now: number,
  grace: number,
): boolean {
  return stuckSince !== undefined && now - stuckSince >= REBOOT_PATIENCE + grace;
}

/** Whoever else keeps the session, in words: a backup, an administrator. They end, or are told to. */
async function foreignersOf(on: Machine, s: Session): Promise<string | undefined> {
  const { foreignHolders } = await import('./unseen-holders.ts');
  try {
    return describeHolders(await foreignHolders(s, on)) || undefined;
  } catch (error) {
    return `what cannot be looked for: ${reasonOf(error)}`;
  }
}

/** The IDs of the sessions, other than the stuck one, that are not about to end, or whose programs still save. */
function sessionsInUse({ host, paths }: Machine, stuck: string): string[] {
  return readSessions(host, paths)
    .filter(s => s.id !== stuck && s.boot === bootId(host) && (s.state !== 'ending' || hasTime(host, s)))
    .map(s => s.id);
}
