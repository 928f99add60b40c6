/**
 * Records of sessions on disk, where earlier versions have them. While their directory is there, everybody reads and writes
 * records in it: beside this version, hooks, the service and an update of an earlier one may be at work, which see no other
 * place. For them a session without a record is a leftover, and its generation is in nobody's way.
 */
import { removeIfEmpty } from '../linux/files.ts';
import { isMounted } from '../linux/mounts.ts';
import type { Machine } from './machine.ts';

/**
 * Removes the directory of earlier versions, after which records are in memory. Only if nobody has logged in since the boot:
 * no hook of an earlier version is about to write there. The caller holds the lock `update`: no update reads pins there.
 */
export function leaveOldRecords({ host, paths }: Pick<Machine, 'host' | 'paths'>): void {
  if (host.exists(paths.oldSessions) && !isMounted(host, paths.roots)) removeIfEmpty(host, paths.oldSessions);
}
