/** Killing the processes of a session: SIGTERM, one shared grace period, then SIGKILL until none is left. */
import { MayflyError } from '../errors.ts';
import * as cgroup from './cgroup.ts';
import type { Host } from './host.ts';
import { ProcessScan, processName, refuseHostDevices, remoteMounts, uidOf } from './processes.ts';

export interface KillLimits {
  /** Milliseconds between SIGTERM and SIGKILL, shared by all processes. */
  readonly grace: number;
  /** Milliseconds of SIGKILL after which the remaining processes are reported as stuck. */
  readonly timeout: number;
}

/** The processes to kill. */
export interface Target {
  /** Device numbers of file systems that only the session uses and that are still mounted. */
  readonly devices: ReadonlySet<number>;
  /** The session's cgroup. */
  readonly group: string | undefined;
  readonly uid: number;
}

/**
 * Sends SIGTERM to all processes, waits for one shared grace period, then kills until none is left. With a cgroup, all
 * processes in it are killed at once, including children that are being forked. Processes outside are killed one by one;
 * those that survive are moved into the cgroup, so that their next children start inside. A plain loop over /proc loses
 * against processes that keep forking. Throws `stuck` with the processes that do not die, and `unsafe` for a device of
 * the host.
 */
export async function killAll(host: Host, target: Target, limits: KillLimits): Promise<void> {
  const { devices, group, uid } = target;
  refuseHostDevices(host, devices);
  const remote = devices.size > 0 ? remoteMounts(host) : [];
  const inside = (deep: boolean): number[] => {
    const found = new Set(group === undefined ? [] : cgroup.members(host, group));
    if (devices.size > 0) {
      const scan = new ProcessScan(host, devices, remote);
      for (const pid of scan.pids()) {
        if (scan.isRootedIn(pid) || (deep && uidOf(host, pid) === uid && scan.useOf(pid))) found.add(pid);
      }
    }
    found.delete(host.pid);
    return [...found];
  };

  let left = inside(true);
  if (left.length === 0) return;
  for (const pid of left) host.kill(pid, 'SIGTERM');
  const graceEnds = host.monotonic() + limits.grace;
  for (let wait = 2; left.length > 0 && host.monotonic() < graceEnds; wait = Math.min(wait * 2, 25)) {
    await host.sleep(wait);
    left = inside(false);
  }

  const deadline = host.monotonic() + limits.timeout;
  for (let wait = 1, round = 1; ; wait = Math.min(wait * 2, 50), round++) {
    if (group !== undefined) cgroup.kill(host, group);
    left = inside(true);
    if (left.length === 0) return;
    if (host.monotonic() > deadline) {
      const who = left
        .slice(0, 5)
        .map(pid => `process ${pid} ${processName(host, pid)} (${stateOf(host, pid)})`);
      throw new MayflyError('stuck', `cannot kill ${left.length} processes: ${who.join(', ')}`, {
        pids: left.map(String),
      });
    }
    // Each move costs milliseconds, so only processes that survive being killed one by one are moved.
    const outside =
      group === undefined ? left : left.filter(pid => !cgroup.members(host, group).includes(pid));
    if (group !== undefined && round > 2) for (const pid of outside) cgroup.move(host, group, pid);
    for (const pid of left) host.kill(pid, 'SIGKILL');
    await host.sleep(wait);
  }
}

/** Field 3 of /proc/PID/stat. "D" is a process that waits for a device and cannot be killed. */
function stateOf(host: Host, pid: number): string {
  const text = host.read(`/proc/${pid}/stat`);
  return `state ${text?.slice(text.lastIndexOf(')') + 2).split(' ')[0] ?? '?'}`;
}
