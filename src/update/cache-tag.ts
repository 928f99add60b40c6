/**
 * The directory of sessions is marked as a cache (https://bford.info/cachedir): tar, borg and restic leave such a
 * directory out on request. A pool on devices has no directory.
 */
import { isErrno } from '../errors.ts';
import { sweepTemporary } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';

const TEXT = `Signature: 8a477f597d28d172789f06886806bc55
# What sessions have changed, until their logout. Nothing here is worth a backup.
`;

/** The directory of sessions; undefined in a pool on devices. */
const directoryIn = (host: Host, pool: string): string | undefined =>
  host.list(pool).includes('sessions') ? `${pool}/sessions` : undefined;

/**
 * Marks it, where it is not marked yet. Without room, or where nothing can be written, there is no mark: it must keep
 * nothing from being taken away.
 */
export function tagSessions(host: Host, pool: string): void {
  const directory = directoryIn(host, pool);
  if (directory === undefined || host.lstat(`${directory}/CACHEDIR.TAG`)) return;
  try {
    sweepTemporary(host, directory);
    host.write(`${directory}/CACHEDIR.TAG`, TEXT, { mode: 0o600 });
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS', 'EIO')) throw error;
  }
}

/** The reverse of {@link tagSessions}, also where it was interrupted. */
export function untagSessions(host: Host, pool: string): void {
  const directory = directoryIn(host, pool);
  if (directory === undefined) return;
  host.unlink(`${directory}/CACHEDIR.TAG`);
  sweepTemporary(host, directory);
}
