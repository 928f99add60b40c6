/**
 * Records of sessions that an earlier version has written to the disk. Every reader and writer finds them there (see
 * `sessions.ts`), and so does an update of that version that still runs: it must not lose its pins. So they stay until
 * somebody has the lock `update`.
 */
import { removeIfEmpty } from '../linux/files.ts';
import { isMounted } from '../linux/mounts.ts';
import { isSessionId } from '../names.ts';
import { lockNameOf, withLock } from './locks.ts';
import type { Machine } from './machine.ts';
import { moveRecord, readSession } from './sessions.ts';

/**
 * Moves the records on disk into memory, each under the lock of its session: a hook of the earlier version may be at work
 * on it. Corrupt ones are left to `recover`. Only for who holds the lock `update`.
 */
export async function takeOverRecords(
  { host, paths }: Pick<Machine, 'host' | 'paths'>,
  tryEach: (what: string, act: () => Promise<void>) => Promise<void>,
): Promise<void> {
  if (!host.exists(paths.oldSessions)) return;
  const ids = host.list(paths.oldSessions).map(name => name.replace(/\.json$/, ''));
  for (const id of ids.filter(isSessionId)) {
    const s = readSession(host, paths, id);
    if (!s) continue;
    await tryEach(id, () =>
      withLock(host, paths, lockNameOf(s), 0, async () => {
        const now = readSession(host, paths, id);
        if (now) moveRecord(host, paths, now);
      }),
    );
  }
  // Once somebody has logged in, a hook of the earlier version may be about to write there.
  if (!isMounted(host, paths.roots)) removeIfEmpty(host, paths.oldSessions);
}
