/** Which processes have a file open. */
import type { Host } from './host.ts';
import { uidOf } from './processes.ts';

/**
 * The pids of root's processes that have one of `paths` open. The descriptors of others are not looked at: they may have a million,
 * and cannot open what only root can.
 */
export function processesWithOpen(host: Host, ...paths: readonly string[]): number[] {
  const hasOpen = (pid: number): boolean =>
    host.list(`/proc/${pid}/fd`).some(fd => paths.includes(host.readlink(`/proc/${pid}/fd/${fd}`) ?? ''));
  return host
    .list('/proc')
    .map(Number)
    .filter(pid => Number.isInteger(pid) && uidOf(host, pid) === 0 && hasOpen(pid));
}
