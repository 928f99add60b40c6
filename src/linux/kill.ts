/** Killing what is in a session: TERM, one shared grace period, then KILL until none is left. */
import { MayflyError } from '../errors.ts';
import * as cgroup from './cgroup.ts';
import type { Host } from './host.ts';
import { ProcessScan, processName, refuseHostDevices, remoteMounts, uidOf } from './processes.ts';

export interface KillLimits {
  /** Milliseconds between TERM and KILL, shared by all. */
  readonly grace: number;
  /** Milliseconds after which what is left is reported instead. */
  readonly timeout: number;
}

/** What is to die. */
export interface Target {
  /** Device numbers of file systems that are the session's alone and still there. */
  readonly devices: ReadonlySet<number>;
  /** The session's cgroup. */
  readonly group: string | undefined;
  readonly uid: number;
}

/**
 * TERM to all, one shared grace period, then KILL until none is left. The kill goes through a cgroup where there
 * is one: all in it die at once, children being forked too. What is found outside is killed one by one, and what
 * outlives that is moved in, so that its next children are born inside; a plain loop over /proc loses against
 * processes that re-fork. Throws `stuck`, naming what would not die.
 */
export async function killAll(host: Host, target: Target, limits: KillLimits): Promise<void> {
  const { devices, group, uid } = target;
  refuseHostDevices(host, devices);
  const remote = devices.size > 0 ? remoteMounts(host) : [];
  const inside = (deep: boolean): number[] => {
    const found = new Set(group === undefined ? [] : cgroup.members(host, group));
    if (devices.size > 0) {
      const look = new ProcessScan(host, devices, remote);
      for (const pid of look.pids()) {
        if (look.isRootedIn(pid) || (deep && uidOf(host, pid) === uid && look.useOf(pid))) found.add(pid);
      }
    }
    found.delete(host.pid);
    return [...found];
  };

  let left = inside(true);
  if (left.length === 0) return;
  for (const pid of left) host.kill(pid, 'SIGTERM');
  const graceEnds = host.now() + limits.grace;
  for (let wait = 2; left.length > 0 && host.now() < graceEnds; wait = Math.min(wait * 2, 25)) {
    await host.sleep(wait);
    left = inside(false);
  }

  const deadline = host.now() + limits.timeout;
  for (let wait = 1, round = 1; ; wait = Math.min(wait * 2, 50), round++) {
    if (group !== undefined) cgroup.kill(host, group);
    left = inside(true);
    if (left.length === 0) return;
    if (host.now() > deadline) {
      const who = left
        .slice(0, 5)
        .map(pid => `process ${pid} ${processName(host, pid)} (${stateOf(host, pid)})`);
      throw new MayflyError('stuck', `${left.length} processes would not die: ${who.join(', ')}`, {
        pids: left.map(String),
      });
    }
    // Moving costs milliseconds each; only what outlives being killed one by one is worth it.
    const outside =
      group === undefined ? left : left.filter(pid => !cgroup.members(host, group).includes(pid));
    if (group !== undefined && round > 2) for (const pid of outside) cgroup.move(host, group, pid);
    for (const pid of left) host.kill(pid, 'SIGKILL');
    await host.sleep(wait);
  }
}

/** Field 3 of /proc/PID/stat: "D" is a process that waits for a device and can not be killed. */
function stateOf(host: Host, pid: number): string {
  const text = host.read(`/proc/${pid}/stat`);
  return `state ${text?.slice(text.lastIndexOf(')') + 2).split(' ')[0] ?? '?'}`;
}
