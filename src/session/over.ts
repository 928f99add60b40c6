/** When a session is certainly over. */
import type { Host } from '../linux/host.ts';
import { bootId, isAlive } from '../linux/process-id.ts';
import type { Session } from '../state/sessions.ts';

/** Why a session is certainly over; undefined where it may be alive. */

export function overBecause(host: Host, s: Session): string | undefined {
  if (s.boot !== bootId(host)) return 'the machine was restarted';
  if (s.state === 'ending') return 'its end had begun';
  if (s.state === 'starting' && !isAlive(host, s.starter)) return 'its start was interrupted';
  // Between the hook's return and the first process inside, a healthy session looks dead: silence proves nothing.
  // Only its caller does not live without it: gdm's worker of this one session, lightdm's daemon with its X servers.
  if (s.logins.every(l => !isAlive(host, l.caller))) return 'its display manager is gone';
  return undefined;
}
