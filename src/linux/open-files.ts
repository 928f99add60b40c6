/** Which processes have a file open. */
import type { Host } from './host.ts';
import { uidOf } from './processes.ts';

/**
 * The pids of root's processes that have `path` open. The descriptors of others are not looked at: they may have a million,
 * and cannot open what only root can.
 */
export function processesWithOpen(host: Host, path: string): number[] {
  const hasOpen = (pid: number): boolean =>
    host.list(`/proc/${pid}/fd`).some(fd => host.readlink(`/proc/${pid}/fd/${fd}`) === path);
  return host
    .list('/proc')
    .map(Number)
    .filter(pid => Number.isInteger(pid) && uidOf(host, pid) === 0 && hasOpen(pid));
}
