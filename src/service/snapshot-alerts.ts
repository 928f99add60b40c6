/**
 * Sessions on classic LVM whose own store fills up. Once it is full, nothing the session has changed can be read any
 * more, the kernel says so once in its log, and programs fail in odd ways: the person has to be told why.
 */
import { screenAt, showDialog } from '../session/refusal-dialog.ts';
import type { Machine } from '../state/machine.ts';
import { readSession, type Session } from '../state/sessions.ts';
import type { Pool, SnapshotUsage } from '../volume/backend.ts';

/** Percent of a store above which it is told of. */
export const WARN_PERCENT = 80;

/** What was told already, by session: once that it is nearly full, once that it is over. */
export type AlertsSent = Map<string, 'nearly' | 'over'>;

/** What is to be said now of whom. Pure but for `told`, which is brought up to date. */
export function newAlerts(
  told: AlertsSent,
  strains: readonly SnapshotUsage[],
): { session: string; percent: number }[] {
  const now = new Map(strains.map(s => [s.session, s]));
  for (const session of [...told.keys()]) if (!now.has(session)) told.delete(session);
  return strains.filter(({ session, percent }) => {
    const is = percent >= 100 ? 'over' : percent >= WARN_PERCENT ? 'nearly' : undefined;
    if (is === undefined || told.get(session) === is || told.get(session) === 'over') return false;
    told.set(session, is);
    return true;
  });
}

/** Looks at all of them; tells the log, and the person whose session is over. */
export async function alertSnapshots(on: Machine, pool: Pool, told: AlertsSent): Promise<void> {
  const strains = await on.backend(pool.backend).snapshotUsage?.(pool.path);
  for (const { session, percent } of newAlerts(told, strains ?? [])) {
    const s = readSession(on.host, on.paths, session);
    const whose = s ? `${session} of ${s.user.name}` : session;
    const fields = { session, ...(s ? { user: s.user.name } : {}) };
    if (percent < 100) {
      const words = `${whose} has filled ${Math.floor(percent)} % of its store; when it is full, the session is over`;
      on.log('warning', `${words} ("lvm.cow_size" makes the next ones larger)`, fields);
      continue;
    }
    on.log('err', `${whose} has changed more than its store holds, and can only be ended`, fields);
    if (s) await tellPerson(on, s);
  }
}

const WORDS =
  'This session has used up its space, and what was changed in it outside your home directory is lost. Please save what you can to your home directory, log out, and log in again.';

/** On each of their screens, without waiting for anybody to read it. */
async function tellPerson({ host }: Machine, s: Session): Promise<void> {
  for (const { display } of s.logins) {
    const screen = display === undefined ? undefined : screenAt(host, display, s.user.uid);
    if (screen) await showDialog(host, screen, 'This session is over', WORDS, true);
  }
}
