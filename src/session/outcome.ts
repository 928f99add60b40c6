/**
 * What the hook of a login leaves for the session's wrapper, which runs as the person and can ask nobody: why there is
 * no session, or that the host is theirs. (Which session is theirs is said by its last step.)
 */
import { publicCodeOf, reasonOf } from '../errors.ts';
import { lookupUser } from '../linux/accounts.ts';
import { removeIfEmpty } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { type Paths, userFiles } from '../state/paths.ts';

/**
 * Writes what came of a login: a session, the host for somebody out of scope, or the error it was refused with. Each
 * takes the others' words away. The one for the host has the time in it, in seconds since the epoch, and is believed
 * for a minute (hooks/session-wrapper), for nothing removes it where a logout is lost: a later login must not
 * get the host by it.
 */
export async function writeLoginOutcome(
  host: Host,
  paths: Paths,
  user: string,
  what: unknown,
): Promise<void> {
  const mine = userFiles(paths, (await lookupUser(host, user)).uid);
  const words = {
    [mine.host]: what === 'host' ? `${Math.floor(host.now() / 1000)}\n` : undefined,
    [mine.reason]:
      what === 'host' || what === 'session' ? undefined : `${reasonOf(what)} (${publicCodeOf(what)})\n`,
  };
  // Taken away first: a full /run must not leave the wrong one.
  for (const [path, text] of Object.entries(words)) if (text === undefined) host.unlink(path);
  if (what === 'session') return;
  for (const path of [paths.run, paths.users, mine.directory]) host.mkdir(path, 0o755);
  for (const [path, text] of Object.entries(words))
    if (text !== undefined) host.write(path, text, { mode: 0o644 });
}

/** Takes the word for the host away at a logout. */
export function clearHostPass(host: Host, paths: Paths, uid: number): void {
  const mine = userFiles(paths, uid);
  if (!host.exists(mine.host)) return;
  host.unlink(mine.host);
  removeIfEmpty(host, mine.directory);
}
