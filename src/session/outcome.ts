/**
 * Writes the outcome of a login for the session wrapper. The wrapper runs as the user and can read only this: the
 * reason of a refused login, or that the user gets a host session. The step `access` writes the session's ID.
 */
import { publicCodeOf, reasonOf } from '../errors.ts';
import { lookupUser, type User } from '../linux/accounts.ts';
import { removeIfEmpty } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { printable } from '../linux/printable.ts';
import { type Paths, userFiles } from '../state/paths.ts';

/** Milliseconds that a directory of accounts has for an answer without which a login is over all the same. */
export const LOOKUP_LIMIT = 3000;

/**
 * Writes the outcome of a login into the user's directory: `what` is 'session', 'host' for a user out of scope, or
 * the error that refused the login. Each outcome removes the files of the others, and a session what monitoring is told of
 * refused logins. The file `host` holds the machine's uptime in seconds, and hooks/session-wrapper accepts it for one
 * minute: if a logout is lost nothing removes it, and a later login must not get a host session because of it. Throws what
 * `lookupUser` throws.
 */
export async function writeLoginOutcome(
  host: Host,
  paths: Paths,
  user: string | Pick<User, 'uid'>,
  what: unknown,
): Promise<void> {
  // The display manager waits, and the directory may be the reason.
  const { uid } = typeof user === 'string' ? await lookupUser(host, user, LOOKUP_LIMIT) : user;
  const mine = userFiles(paths, uid);
  const files = {
    [mine.host]: what === 'host' ? uptime(host) : undefined,
    [mine.reason]:
      what === 'host' || what === 'session'
        ? undefined
        : `${printable(reasonOf(what))} (${publicCodeOf(what)})\n`,
  };
  // Removed first: with a full /run no outdated file may remain.
  for (const [path, text] of Object.entries(files)) if (text === undefined) host.unlink(path);
  if (what === 'session') return host.unlink(paths.refused); // the last login has succeeded
  for (const path of [paths.run, paths.users, mine.directory]) host.mkdir(path, 0o755);
  for (const [path, text] of Object.entries(files))
    if (text !== undefined) host.write(path, text, { mode: 0o644 });
}

/**
 * The whole seconds that the machine has been up, as text; undefined if /proc does not say. The time of day would make an
 * outdated file valid again whenever the clock is set back.
 */
function uptime(host: Host): string | undefined {
  const seconds = host.read('/proc/uptime')?.split('.')[0];
  return seconds && `${seconds}\n`;
}

/** Removes the file `host` at a logout. */
export function clearHostPass(host: Host, paths: Paths, uid: number): void {
  const mine = userFiles(paths, uid);
  if (!host.exists(mine.host)) return;
  host.unlink(mine.host);
  removeIfEmpty(host, mine.directory);
}
