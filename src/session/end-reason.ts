/** Decides whether a recorded session is certainly over. */
import type { Host } from '../linux/host.ts';
import { bootId, isAlive } from '../linux/process-id.ts';
import type { Login, Session } from '../state/sessions.ts';

/** Reason why a session is certainly over, or undefined if it may be alive. */
export function overBecause(host: Host, s: Session): string | undefined {
  if (s.boot !== bootId(host)) return 'the machine was restarted';
  if (s.state === 'ending') return 'its teardown had begun';
  if (s.state === 'starting' && !isAlive(host, s.starter)) return 'its start was interrupted';
  // Between the hook's return and the first process inside, a healthy session has no processes, so their absence
  // proves nothing. But a session cannot outlive its caller: gdm's session worker, or lightdm's daemon with its X
  // servers.
  if (s.logins.every(l => !isAlive(host, l.caller)))
    return s.logins.some(l => l.adapter === 'wrapper')
      ? 'its last login has ended'
      : 'its display manager is gone';
  return undefined;
}

/** Whether the session waits, and has time left. */
export function hasTime(host: Host, s: Session): boolean {
  return s.saving !== undefined && host.monotonic() < s.saving.until;
}

/** The logins of a live session that no hook has announced. Asked when all others are over: they keep the session. */
export async function loginsBeside(host: Host, s: Session): Promise<Login[]> {
  if (s.state !== 'live') return [];
  const { unannouncedLogins } = await import('./unannounced.ts');
  return unannouncedLogins(host, s);
}
