/**
 * Finding the processes of a session.
 *
 * A process belongs to a session if its root directory is on a file system that only the session uses, compared by
 * device number. This also finds processes in a nested chroot or in another mount namespace, which a comparison of paths
 * misses. Processes of the session's user also belong to it if their working directory, program or an open file is
 * there. Processes of other users do not: a process in the session can pass a descriptor to a host service over a
 * socket.
 *
 * The kernel reuses the device numbers of unmounted file systems, lowest first, so callers only pass numbers of file
 * systems that are still mounted. A session's device is never that of `/`: in 2009, killing by the device of a mount
 * that had failed took down the host. {@link refuseHostDevices} makes that impossible.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from './host.ts';
import type { LookOptions, MountedDirectory } from './process-look.ts';
import { isRemote, mayHang, remoteMounts } from './remote.ts';

/**
 * Scans all processes for those that use one of `devices`, in this process. It follows the links of /proc, and stat(2) of
 * a file on a dead server hangs: see {@link mayHang}.
 */
export class ProcessScan {
  constructor(
    private readonly host: Host,
    private readonly devices: ReadonlySet<number>,
  ) {}

  /** All processes but this one and init. */
  pids(): number[] {
    return this.host
      .list('/proc')
      .map(Number)
      .filter(pid => Number.isInteger(pid) && pid > 1 && pid !== this.host.pid);
  }

  /** Whether the root directory of `pid` is on one of the devices. */
  isRootedIn(pid: number): boolean {
    return this.isOn(`/proc/${pid}/root`);
  }

  /**
   * Those that use one of the devices by their working directory, their program, a descriptor, or a mapped file; undefined
   * if they have more than `most` descriptors and mapped files.
   */
  usersAmong(pids: readonly number[], most: number): number[] | undefined {
    const using: number[] = [];
    let count = 0;
    for (const pid of pids) {
      // The size of the table of descriptors: a list of a million names would block this process for a second.
      const size = /^FDSize:\s+(\d+)/m.exec(this.host.read(`/proc/${pid}/status`) ?? '')?.[1];
      if (Number(size) > 4 * most) return undefined;
      const descriptors = this.host.list(`/proc/${pid}/fd`);
      count += descriptors.length;
      if (count > most) return undefined;
      const links = ['cwd', 'exe', ...descriptors.map(fd => `fd/${fd}`)];
      const isUsed = (link: string): boolean => this.isOn(`/proc/${pid}/${link}`);
      if (links.some(isUsed)) using.push(pid);
      else {
        const mapped = mappedFiles(this.host, pid);
        if (mapped.length > most - count) return undefined;
        count += mapped.length;
        if (mapped.some(isUsed)) using.push(pid);
      }
    }
    return using;
  }

  private isOn(link: string): boolean {
    const s = this.host.stat(link);
    return s !== undefined && this.devices.has(s.dev);
  }
}

/** One link in /proc/PID for each file that a process has mapped; they stay in use when their descriptors are closed. */
function mappedFiles(host: Host, pid: number): string[] {
  const links = new Map<string, string>();
  for (const line of (host.read(`/proc/${pid}/maps`) ?? '').split('\n')) {
    const [range = '', , , device, inode = '0'] = line.split(' ', 5);
    const [from = '', to = ''] = range.split('-');
    // The names in map_files have no leading zeros.
    if (inode !== '0') links.set(`${device} ${inode}`, `map_files/${withoutZeros(from)}-${withoutZeros(to)}`);
  }
  return [...links.values()];
}

const withoutZeros = (hex: string): string => hex.replace(/^0+(?=.)/, '');

/** How many descriptors are looked at in this process, which takes a few milliseconds. A child looks at more. */
const FEW_DESCRIPTORS = 1000;

/**
 * The processes whose root directory is on one of `devices`, and those of the user `uid` that use one otherwise. Nothing
 * but the root directory of other people's processes is looked at: they can have a million descriptors. `onRooted` gets
 * the former as soon as they are known, if they are known first.
 */
export async function findUsers(
  host: Host,
  devices: ReadonlySet<number>,
  uid: number,
  onRooted?: (pids: readonly number[]) => void,
): Promise<number[]> {
  if (devices.size === 0) return [];
  if (!mayHang(host)) {
    const scan = new ProcessScan(host, devices);
    const pids = scan.pids();
    const rooted = pids.filter(pid => scan.isRootedIn(pid));
    onRooted?.(rooted);
    const isRooted = new Set(rooted);
    const own = pids.filter(pid => !isRooted.has(pid) && uidOf(host, pid) === uid);
    const using = scan.usersAmong(own, FEW_DESCRIPTORS);
    if (using) return [...rooted, ...using];
  }
  const { lookAtProcesses } = await import('./process-look.ts');
  const { users } = await lookAtProcesses(host, { devices, of: { uid } });
  const now = new Set(host.list('/proc')); // without those that a dry run has killed
  return users.map(user => user.pid).filter(pid => now.has(String(pid)));
}

/** The name of a process (proc_pid_comm(5)), which it chooses itself, in one line; "?" if it no longer exists. */
export function processName(host: Host, pid: number): string {
  return (host.read(`/proc/${pid}/comm`) ?? '?').trim().replaceAll('\n', ' ');
}

/** The real user ID of a process; undefined if it no longer exists. */
export function uidOf(host: Host, pid: number): number | undefined {
  const uid = /^Uid:\s+(\d+)/m.exec(host.read(`/proc/${pid}/status`) ?? '')?.[1];
  return uid === undefined ? undefined : Number(uid);
}

/**
 * The processes but ourselves that use one of `devices`, and one process of each mount namespace that still has `at`
 * mounted, given as a path or as device and directory. `of`: whose working directories, programs and descriptors are
 * looked at. Throws `unsafe` if `devices` has one of the host's.
 */
export async function findHolders(
  host: Host,
  devices: ReadonlySet<number>,
  at: string | MountedDirectory,
  of: LookOptions['of'] = 'all',
): Promise<Holder[]> {
  refuseHostDevices(host, devices);
  const mounted = typeof at === 'string' ? asMounted(host, at) : at;
  const { lookAtProcesses } = await import('./process-look.ts');
  const { users, unseen } = await lookAtProcesses(host, { devices, of, mounted });
  return [
    ...users.map(({ pid, name, use }) => ({ pid, what: `${name} (${use})` })),
    ...unseen.map(pid => ({ pid, what: `${processName(host, pid)} (could not be looked at in time)` })),
  ];
}

/** Whether a process but ourselves may use one of `devices`, for a session of `uid`. Not for killing: the host's devices are not refused. */
export async function isUsed(host: Host, devices: ReadonlySet<number>, uid: number): Promise<boolean> {
  const { lookAtProcesses } = await import('./process-look.ts');
  const { users, unseen } = await lookAtProcesses(host, { devices, of: { uid, system: true } });
  return users.length + unseen.length > 0;
}

/** The fields of a line of /proc/PID/mountinfo that are used (proc_pid_mountinfo(5)). */
export interface MountLine {
  /** major:minor of the file system. */
  readonly device: string;
  /** The directory of the file system that is mounted. */
  readonly root: string;
  readonly place: string;
}

/** The mounts in the mount namespace of a process; empty if it no longer exists. */
export function mountLines(host: Host, pid: number | string): MountLine[] {
  return (host.read(`/proc/${pid}/mountinfo`) ?? '').split('\n').flatMap(line => {
    const [, , device, root, place] = line.split(' ');
    return device && root && place ? [{ device, root, place }] : [];
  });
}

/** The pids of the processes with this name on the host itself, not in containers or sessions. */
export function processesNamed(host: Host, name: string): number[] {
  // Not by stat(2), which would wait for ever for a process whose root directory is on a dead file server.
  const rootOf = (pid: string | number): string | undefined => {
    const m = mountLines(host, pid)
      .filter(line => line.place === '/')
      .at(-1);
    return m && `${m.device} ${m.root}`;
  };
  const here = rootOf('self');
  return host
    .list('/proc')
    .filter(pid => /^\d+$/.test(pid) && host.read(`/proc/${pid}/comm`)?.trim() === name)
    .filter(pid => rootOf(pid) === here)
    .map(Number);
}

/** The directory at `path` as in mount tables: its file system, and the directory there. */
function asMounted(host: Host, path: string): MountedDirectory | undefined {
  const below = (m: MountLine): boolean =>
    m.place === '/' || path === m.place || path.startsWith(`${m.place}/`);
  const on = mountLines(host, 'self')
    .filter(below)
    .reduce<MountLine | undefined>(
      (best, m) => (best === undefined || m.place.length >= best.place.length ? m : best),
      undefined,
    );
  if (!on) return undefined;
  const rest = on.place === '/' ? path : path.slice(on.place.length);
  return { device: on.device, root: `${on.root === '/' ? '' : on.root}${rest}` };
}

/** Describes up to five holders in one line: "process 12 bash (cwd), … and 3 more". */
export function describeHolders(holders: readonly Holder[]): string {
  const some = holders.slice(0, 5).map(h => `process ${h.pid} ${h.what}`);
  const more = holders.length - some.length;
  return some.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** Throws `unsafe` if `devices` has the device of one of the host's own file systems. */
export function refuseHostDevices(host: Host, devices: ReadonlySet<number>): void {
  const remote = remoteMounts(host);
  for (const path of [
    '/',
    '/usr',
    '/var',
    '/home',
    '/tmp',
    '/run',
    '/dev',
    '/dev/shm',
    '/dev/pts',
    '/proc',
    '/sys',
  ]) {
    if (isRemote(host, path, remote)) continue; // no session is there, and its server may be dead
    const dev = host.stat(path)?.dev;
    if (dev !== undefined && devices.has(dev)) {
      throw new MayflyError(
        'unsafe',
        `device ${dev} is that of "${path}" on the host; refusing to kill the processes that use it`,
        { device: dev },
      );
    }
  }
}

/** A process that keeps a volume from being removed. `what` is its name and how it uses the volume. */
export interface Holder {
  readonly pid: number;
  readonly what: string;
}
