/** Killing the processes of a session: SIGTERM, one shared grace period, then SIGKILL until none is left. */
import { MayflyError } from '../errors.ts';
import * as cgroup from './cgroup.ts';
import type { Host } from './host.ts';
import { identify, isAlive } from './process-id.ts';
import { findUsers, processName, refuseHostDevices, uidOf } from './processes.ts';

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
  /** Groups of logind's for logins that are over. The processes of root in them are the display manager's. */
  readonly scopes?: readonly string[];
  readonly uid: number;
}

/**
 * Sends SIGTERM to all processes, waits for one shared grace period, then kills until none is left. Those in the cgroup or
 * with their root directory in the session come first: finding them takes as long whatever others have open. With a
 * cgroup, all processes in it are killed at once, including children that are being forked. Processes outside are killed
 * one by one; those that survive are moved into the cgroup, so that their next children start inside. A plain loop over
 * /proc loses against processes that keep forking. Throws `stuck` with the processes that do not die, and `unsafe` for a
 * device of the host.
 */
export async function killAll(host: Host, target: Target, limits: KillLimits): Promise<void> {
  const { devices, group, scopes = [], uid } = target;
  refuseHostDevices(host, devices);
  const members = (): number[] =>
    group === undefined ? [] : cgroup.members(host, group).filter(pid => pid !== host.pid);
  const inScopes = (): number[] =>
    scopes.flatMap(path => cgroup.members(host, path)).filter(pid => (uidOf(host, pid) ?? 0) !== 0);
  const everybody = async (onRooted?: (pids: readonly number[]) => void): Promise<number[]> => {
    const users = await findUsers(host, devices, uid, onRooted);
    return [...new Set([...members(), ...inScopes(), ...users])];
  };

  const told = new Set<number>();
  const tell = (pids: readonly number[]): void => {
    for (const pid of pids) if (!told.has(pid)) host.kill(pid, 'SIGTERM');
    for (const pid of pids) told.add(pid);
  };
  tell([...members(), ...inScopes()]);
  let left = await everybody(tell);
  tell(left);
  if (told.size === 0) return;
  const graceEnds = host.monotonic() + limits.grace;
  while (left.length > 0 && host.monotonic() < graceEnds) {
    await ended(host, left, graceEnds);
    left = await everybody();
    tell(left);
  }

  const deadline = host.monotonic() + limits.timeout;
  for (let wait = 4, round = 1; ; wait = Math.min(wait * 2, 250), round++) {
    if (group !== undefined) cgroup.kill(host, group);
    left = await everybody();
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
    if (group !== undefined && round > 2) {
      const inside = new Set(members());
      for (const pid of left) if (!inside.has(pid)) cgroup.move(host, group, pid);
    }
    for (const pid of left) host.kill(pid, 'SIGKILL');
    await ended(host, left, host.monotonic() + wait);
  }
}

/** Waits until none of the processes runs any more, but no longer than `until`, on the monotonic clock. */
async function ended(host: Host, pids: readonly number[], until: number): Promise<void> {
  const running = pids.flatMap(pid => identify(host, pid) ?? []);
  for (let wait = 1; ; wait = Math.min(wait * 2, 25)) {
    const left = until - host.monotonic();
    if (left <= 0) return;
    await host.sleep(Math.min(wait, left)); // at least once: a process can be a zombie and still have threads
    if (!running.some(id => isAlive(host, id))) return;
  }
}

/** Field 3 of /proc/PID/stat. "D" is a process that waits for a device and cannot be killed. */
function stateOf(host: Host, pid: number): string {
  const text = host.read(`/proc/${pid}/stat`);
  return `state ${text?.slice(text.lastIndexOf(')') + 2).split(' ')[0] ?? '?'}`;
}
