/**
 * Killing the processes of a session: SIGTERM, time for those that work on ending, then SIGKILL until none is left.
 */
import { MayflyError } from '../errors.ts';
import * as cgroup from './cgroup.ts';
import type { Host } from './host.ts';
import { identify, isAlive, type ProcessId } from './process-id.ts';
import { findUsers, processName, refuseHostDevices, uidOf } from './processes.ts';

export interface KillLimits {
  /** Milliseconds for those that work on ending; others have none. 0: nobody has. */
  readonly grace: number;
  /** Milliseconds of SIGKILL after which the remaining processes are reported as stuck. */
  readonly timeout: number;
  /** Those that were told before, and were seen to work on ending. */
  readonly known?: readonly ProcessId[] | undefined;
}

/** The processes to kill. */
export interface Target {
  /** Device numbers of file systems that only the session uses and that are still mounted. */
  readonly devices: ReadonlySet<number>;
  /** The session's cgroup. */
  readonly group: string | undefined;
  /** Groups of logind's for logins that are over. The processes of root in them are the display manager's. */
  readonly scopes?: readonly string[];
  /** A group whose processes somebody else ends. */
  readonly apart?: string | undefined;
  readonly uid: number;
}

export interface KillResult {
  /** Those that work on ending and have time left. All others have ended. */
  readonly working: readonly ProcessId[];
  /** Those that worked on ending when they were killed: "process 12 saver". */
  readonly killed: readonly string[];
}

/**
 * Sends SIGTERM to all processes. Returns those that work on ending if they have time, when all others have ended.
 * Without time, kills until none is left. Those in the cgroup or with their root directory in the session come first:
 * finding them takes as long whatever others have open. With a cgroup, all processes in it are killed at once, including
 * children that are being forked. Processes outside are killed one by one; those that survive are moved into the cgroup,
 * so that their next children start inside. A plain loop over /proc loses against processes that keep forking. Throws
 * `stuck` with the processes that do not die, and `unsafe` for a device of the host.
 */
export async function killAll(host: Host, target: Target, limits: KillLimits): Promise<KillResult> {
  const { devices, group, scopes = [], apart, uid } = target;
  const { grace, known = [] } = limits;
  refuseHostDevices(host, devices);
  const members = (): number[] =>
    group === undefined ? [] : cgroup.members(host, group).filter(pid => pid !== host.pid);
  const inScopes = (): number[] =>
    scopes.flatMap(path => cgroup.members(host, path)).filter(pid => (uidOf(host, pid) ?? 0) !== 0);
  const everybody = async (onRooted?: (pids: readonly number[]) => void): Promise<number[]> => {
    const spared = new Set(apart === undefined ? [] : cgroup.members(host, apart));
    const users = await findUsers(host, devices, uid, pids => onRooted?.(pids.filter(p => !spared.has(p))));
    return [...new Set([...members(), ...inScopes(), ...users])].filter(pid => !spared.has(pid));
  };

  const told = new Set<number>();
  const tell = (pids: readonly number[]): void => {
    if (known.length > 0) return;
    // What somebody starts who was told before may be a part of their work: `settle` decides.
    const first = pids.filter(pid => !told.has(pid) && (told.size === 0 || !told.has(parentOf(host, pid))));
    for (const pid of first) host.kill(pid, 'SIGTERM');
    for (const pid of first) told.add(pid);
  };
  tell([...members(), ...inScopes()]);
  let left = await everybody(tell);
  tell(left);
  let killed: string[] = [];
  if (left.length === 0 && told.size === 0) return { working: [], killed };
  if (left.length > 0) {
    const { settle, SETTLE_TIME } = await import('./terminate.ts');
    const time = Math.min(SETTLE_TIME, grace);
    const { working, storm } = await settle(host, left, { find: everybody, told, known, time });
    if (working.length > 0 && !storm && grace > 0) return { working, killed };
    killed = working.map(id => `process ${id.pid} ${processName(host, id.pid)}`);
  }

  const deadline = host.monotonic() + limits.timeout;
  for (let wait = 4, round = 1; ; wait = Math.min(wait * 2, 250), round++) {
    if (group !== undefined) cgroup.kill(host, group);
    left = await everybody();
    if (left.length === 0) return { working: [], killed };
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

function parentOf(host: Host, pid: number): number {
  return Number(/^PPid:\s+(\d+)/m.exec(host.read(`/proc/${pid}/status`) ?? '')?.[1] ?? 0);
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
