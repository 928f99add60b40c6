/**
 * Which logins have been refused since the last one that succeeded, for monitoring: a machine that refuses everybody must
 * not look well. A login that succeeds removes the file. In the run directory, because after a restart other reasons hold.
 */
import { readJson } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import type { Paths } from './paths.ts';
import { hasFields } from './shape.ts';

export interface RefusedLogins {
  readonly count: number;
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
  return readJson<RefusedLogins>(host, refused, r => hasFields(r, { count: 'number', people: 'record' }));
}

/** Counts a refused login. Of two at the same moment, one may be lost. */
export function noteRefusedLogin(host: Host, paths: Paths, uid: number, code: string): void {
  const before = readRefusedLogins(host, paths);
  const people = Object.entries(before?.people ?? {}).slice(-MOST_PEOPLE);
  const after: RefusedLogins = {
    count: (before?.count ?? 0) + 1,
    people: { ...Object.fromEntries(people), [uid]: code },
  };
  host.write(paths.refused, JSON.stringify(after), { mode: 0o600 });
}
