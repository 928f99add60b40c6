/**
 * Who is in a session, and making them go.
 *
 * A process belongs to a session when its root, working directory, program or an open file lies on a file system
 * that is the session's alone, told by device number. That finds those in a deeper chroot or in a mount namespace
 * of their own, which a comparison of paths misses. A session's device is never that of `/`: killing by the device
 * of a mount that had failed once took down the host (the accident of 2009 that this rule makes impossible).
 */
import * as cgroup from './cgroup.ts';
import { MayflyError } from './errors.ts';
import type { Host } from './host.ts';
import type { Holder } from './volume/backend.ts';

/** How `pid` uses one of `devices`; undefined where it does not. `deep` also looks at open files. */
function useOf(host: Host, pid: number, devices: ReadonlySet<number>, deep: boolean): string | undefined {
  for (const what of ['root', 'cwd', 'exe'] as const) {
    const s = host.stat(`/proc/${pid}/${what}`);
    if (s && devices.has(s.dev)) return what;
  }
  if (!deep) return undefined;
  for (const fd of host.list(`/proc/${pid}/fd`)) {
    const s = host.stat(`/proc/${pid}/fd/${fd}`);
    if (s && devices.has(s.dev)) return `open file ${host.readlink(`/proc/${pid}/fd/${fd}`) ?? fd}`;
  }
  return undefined;
}

function nameOf(host: Host, pid: number): string {
  return (host.read(`/proc/${pid}/comm`) ?? '?').trim();
}

/** All processes but ourselves that are on one of `devices`. */
export function findHolders(host: Host, devices: ReadonlySet<number>, path?: string): Holder[] {
  refuseHostDevices(host, devices);
  const holders: Holder[] = [];
  const namespaces = new Set<string | undefined>();
  for (const entry of host.list('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid <= 1 || pid === host.pid) continue;
    const use = useOf(host, pid, devices, true);
    if (use) {
      holders.push({ pid, what: `${nameOf(host, pid)} (${use})` });
      continue;
    }
    // Another mount namespace can still show the volume although nobody in it has anything open there.
    const namespace = path === undefined ? undefined : host.readlink(`/proc/${pid}/ns/mnt`);
    if (namespace === undefined || namespaces.has(namespace)) continue;
    namespaces.add(namespace);
    if (path !== undefined && showsVolume(host, pid, path)) {
      holders.push({ pid, what: `${nameOf(host, pid)} (its mount namespace)` });
    }
  }
  return holders;
}

/** Whether the mount table of `pid` has a mount whose source or place is the volume: `/sessions/ID` or below. */
function showsVolume(host: Host, pid: number, path: string): boolean {
  const tail = path.slice(path.lastIndexOf('/', path.lastIndexOf('/') - 1));
  for (const line of (host.read(`/proc/${pid}/mountinfo`) ?? '').split('\n')) {
    if (!line.includes(tail)) continue;
    const [, , , root, place] = line.split(' ');
    if (root?.endsWith(tail) || root?.includes(`${tail}/`) || place === path || place?.startsWith(`${path}/`))
      return true;
  }
  return false;
}

export function describeHolders(holders: readonly Holder[]): string {
  const some = holders.slice(0, 5).map(h => `process ${h.pid} ${h.what}`);
  const more = holders.length - some.length;
  return some.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** Refuses any set of device numbers that has the host's own in it. */
export function refuseHostDevices(host: Host, devices: ReadonlySet<number>): void {
  for (const path of ['/', '/usr', '/home', '/dev', '/run', '/tmp', '/proc']) {
    const dev = host.stat(path)?.dev;
    if (dev !== undefined && devices.has(dev)) {
      throw new MayflyError(
        'unsafe',
        `device ${dev} is that of "${path}" on the host; nothing is killed by it`,
        { device: dev },
      );
    }
  }
}

export interface KillLimits {
  /** Milliseconds between TERM and KILL, shared by all. */
  readonly grace: number;
  /** Milliseconds after which what is left is reported instead. */
  readonly timeout: number;
}

/**
 * TERM to all, one shared grace period, then KILL until none is left. The kill goes through a cgroup where there
 * is one: processes found outside are moved in first, so that a child forked meanwhile is born inside and dies
 * too; a plain loop over /proc loses against processes that re-fork. Throws `stuck`, naming what would not die.
 */
export async function killAll(
  host: Host,
  devices: ReadonlySet<number>,
  group: string | undefined,
  limits: KillLimits,
): Promise<void> {
  refuseHostDevices(host, devices);
  const inside = (deep: boolean): number[] => {
    const found = new Set(group === undefined ? [] : cgroup.members(host, group));
    if (devices.size > 0) {
      for (const entry of host.list('/proc')) {
        const pid = Number(entry);
        if (Number.isInteger(pid) && pid > 1 && useOf(host, pid, devices, deep)) found.add(pid);
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
  for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
    left = inside(true);
    if (left.length === 0) return;
    if (host.now() > deadline) {
      const who = left.slice(0, 5).map(pid => `process ${pid} ${nameOf(host, pid)} (${stateOf(host, pid)})`);
      throw new MayflyError('stuck', `${left.length} processes would not die: ${who.join(', ')}`, {
        pids: left.map(String),
      });
    }
    if (group !== undefined) for (const pid of left) cgroup.move(host, group, pid);
    if (group === undefined || !cgroup.kill(host, group)) for (const pid of left) host.kill(pid, 'SIGKILL');
    await host.sleep(wait);
  }
}

/** Field 3 of /proc/PID/stat: "D" is a process that waits for a device and can not be killed. */
function stateOf(host: Host, pid: number): string {
  const text = host.read(`/proc/${pid}/stat`);
  return `state ${text?.slice(text.lastIndexOf(')') + 2).split(' ')[0] ?? '?'}`;
}
