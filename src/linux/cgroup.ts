/**
 * Control groups, version 2. `cgroup.kill` (Linux 5.14) kills all processes of a group at once, including fork bombs, and
 * needs no controller. With the hybrid layout, the v2 hierarchy is at /sys/fs/cgroup/unified.
 */
import { isErrno } from '../errors.ts';
import type { Host } from './host.ts';

/** The root of the v2 hierarchy; undefined if there is none. */
export function hierarchy(host: Host): string | undefined {
  return ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find(
    path => host.exists(`${path}/cgroup.procs`) && !isV1(host, path),
  );
}

function isV1(host: Host, path: string): boolean {
  return !host.exists(`${path}/cgroup.subtree_control`);
}

/** The path of a session's group: directly below the root, so that there is no shared parent to create or remove. */
export function groupPath(root: string, prefix: string, id: string): string {
  return `${root}/${prefix}.${id}`;
}

/** The IDs of all sessions that have a group. */
export function listIds(host: Host, root: string, prefix: string): string[] {
  return host
    .list(root)
    .filter(name => name.startsWith(`${prefix}.`))
    .map(name => name.slice(prefix.length + 1));
}

/** Moves a process into a group; false if either no longer exists. */
export function move(host: Host, group: string, pid: number): boolean {
  return host.writeControlFile(`${group}/cgroup.procs`, String(pid));
}

/** The pids of the processes in a group and below it. */
export function members(host: Host, group: string): number[] {
  const text = readMembers(host, group);
  if (text === undefined) return [];
  const own = text
    .split('\n')
    .map(Number)
    .filter(pid => pid > 0); // 0: in another PID namespace
  const below = host.list(group).filter(name => host.lstat(`${group}/${name}`)?.kind === 'dir');
  return [...own, ...below.flatMap(name => members(host, `${group}/${name}`))];
}

/** A threaded group, which root in a session can create, does not list processes; its parent does. */
function readMembers(host: Host, group: string): string | undefined {
  try {
    return host.read(`${group}/cgroup.procs`);
  } catch (error) {
    if (isErrno(error, 'EOPNOTSUPP', 'ENODEV')) return '';
    throw error;
  }
}

/** Kills everything in a group and below; false on kernels without `cgroup.kill`. */
export function kill(host: Host, group: string): boolean {
  return host.writeControlFile(`${group}/cgroup.kill`, '1');
}

/** The v2 group of a process, as a path below the hierarchy's root ("/" for the root itself). */
export function groupOf(host: Host, pid: number): string | undefined {
  const line = host
    .read(`/proc/${pid}/cgroup`)
    ?.split('\n')
    .find(l => l.startsWith('0::'));
  return line?.slice(3);
}

/** Removes an empty group and the empty groups below it. Absent is success. */
export function remove(host: Host, group: string): void {
  for (const name of host.list(group)) {
    if (host.lstat(`${group}/${name}`)?.kind === 'dir') remove(host, `${group}/${name}`);
  }
  host.rmdir(group);
}
