/**
 * Which logins have been refused since the last one that succeeded, for monitoring: a machine that refuses everybody must
 * not look well. In the run directory, because after a restart other reasons hold.
 */
import type { Host } from '../linux/host.ts';
import type { Paths } from './paths.ts';
import { type Session, sessionIds } from './sessions.ts';
import { hasFields } from './shape.ts';

export interface RefusedLogins {
  readonly count: number;
  /** The IDs of the sessions that there were when the last one was refused: the clock may be set meanwhile. */
  readonly sessions: readonly string[];
  /** The public code of each person's last refusal, by uid. */
  readonly people: Readonly<Record<string, string>>;
}

/** How many people are told apart: a room that cannot log in is a few lines, not a list. */
const MOST_PEOPLE = 50;

/** Undefined if there were none, or if the file is corrupt: it is informational. */
export function readRefusedLogins(
  host: Host,
  { refused }: Pick<Paths, 'refused'>,
): RefusedLogins | undefined {
  try {
    const value = JSON.parse(host.read(refused) ?? 'null') as RefusedLogins;
    return hasFields(value, { count: 'number', sessions: 'list', people: 'record' }) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Counts a refused login. Of two at the same moment, one may be lost. */
export function noteRefusedLogin(host: Host, paths: Paths, uid: number, code: string): void {
  const before = readRefusedLogins(host, paths);
  const people = Object.entries(before?.people ?? {}).slice(-MOST_PEOPLE);
  const after: RefusedLogins = {
    count: (before?.count ?? 0) + 1,
    sessions: sessionIds(host, paths),
    people: { ...Object.fromEntries(people), [uid]: code },
  };
  host.write(paths.refused, JSON.stringify(after), { mode: 0o600 });
}

/** Forgets the refused logins if one of the sessions was created after them. */
export function forgetRefusedLogins(
  host: Host,
  paths: Pick<Paths, 'refused'>,
  sessions: readonly Pick<Session, 'id' | 'state'>[],
): void {
  const refused = readRefusedLogins(host, paths);
  if (refused && sessions.some(s => s.state === 'live' && !refused.sessions.includes(s.id)))
    host.unlink(paths.refused);
}
