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

/** File systems whose server may be dead: even stat(2) of a file there can hang forever. */
const REMOTE = /^(nfs4?|cifs|smb3|9p|ceph|afs|fuse(\..+)?|fuseblk|glusterfs|lustre|ncpfs)$/;

/**
 * The mount points of remote file systems in our own namespace. With many sessions the mount table is long, so it is only
 * read if a directory of the kernel shows that there is a remote file system at all.
 */
export function remoteMounts(host: Host): string[] {
  const possible = [
    '/sys/fs/fuse/connections',
    '/proc/fs/nfsfs',
    '/proc/fs/cifs',
    '/sys/fs/ceph',
    '/proc/fs/afs',
  ];
  const anyRemote = possible.some(path => host.list(path).length > 0);
  if (!anyRemote) return [];
  return (host.read('/proc/self/mountinfo') ?? '').split('\n').flatMap(line => {
    const type = line.slice(line.indexOf(' - ') + 3).split(' ')[0] ?? '';
    return REMOTE.test(type) ? [line.split(' ')[4] ?? ''] : [];
  });
}

/** Scans all processes for those that use one of `devices`. */
export class ProcessScan {
  constructor(
    private readonly host: Host,
    private readonly devices: ReadonlySet<number>,
    private readonly remote: readonly string[],
  ) {}

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

  /** How else `pid` uses one of the devices ("cwd", "exe", "open file /x"); undefined if it does not. */
  useOf(pid: number): string | undefined {
    for (const what of ['cwd', 'exe']) if (this.isOn(`/proc/${pid}/${what}`)) return what;
    for (const fd of this.host.list(`/proc/${pid}/fd`)) {
      if (this.isOn(`/proc/${pid}/fd/${fd}`))
        return `open file ${this.host.readlink(`/proc/${pid}/fd/${fd}`) ?? fd}`;
    }
    return undefined;
  }

  private isOn(link: string): boolean {
    if (this.remote.length > 0) {
      // Reading the link is safe; following it would wait for the server.
      const target = this.host.readlink(link);
      if (target === undefined || this.remote.some(m => target === m || target.startsWith(`${m}/`)))
        return false;
    }
    const s = this.host.stat(link);
    return s !== undefined && this.devices.has(s.dev);
  }
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

/** A directory of a file system, as in mount tables. */
interface Shown {
  /** major:minor of the file system. */
  readonly device: string;
  /** The directory; "" for the root of the file system. */
  readonly root: string;
}

/**
 * All processes but ourselves that use one of `devices`, and one process of each mount namespace that still has `at`
 * mounted, given as a path or as device and directory. Throws `unsafe` if `devices` has one of the host's.
 */
export function findHolders(host: Host, devices: ReadonlySet<number>, at: string | Shown): Holder[] {
  refuseHostDevices(host, devices);
  const scan = new ProcessScan(host, devices, remoteMounts(host));
  const holders: Holder[] = [];
  const namespaces = new Set<string | undefined>([undefined]);
  const volume = typeof at === 'string' ? asMounted(host, at) : at;
  const placeIn = (pid: number): string | undefined =>
    mountLines(host, pid).find(
      m => m.device === volume?.device && (m.root === volume.root || m.root.startsWith(`${volume.root}/`)),
    )?.place;
  for (const pid of scan.pids()) {
    const use = scan.isRootedIn(pid) ? 'root' : scan.useOf(pid);
    const namespace = host.readlink(`/proc/${pid}/ns/mnt`);
    const place = use || namespaces.has(namespace) ? undefined : placeIn(pid);
    if (use) holders.push({ pid, what: `${processName(host, pid)} (${use})` });
    else if (place !== undefined)
      holders.push({ pid, what: `${processName(host, pid)} (its mount at ${place})` });
    namespaces.add(namespace);
  }
  return holders;
}

/** Whether any process but ourselves uses one of `devices`. Not for killing: the host's devices are not refused. */
export function isUsed(host: Host, devices: ReadonlySet<number>): boolean {
  const scan = new ProcessScan(host, devices, remoteMounts(host));
  return scan.pids().some(pid => scan.isRootedIn(pid) || scan.useOf(pid) !== undefined);
}

/** The fields of a line of /proc/PID/mountinfo that are used (proc_pid_mountinfo(5)). */
interface MountLine {
  /** major:minor of the file system. */
  readonly device: string;
  /** The directory of the file system that is mounted. */
  readonly root: string;
  readonly place: string;
}

/** The mounts in the mount namespace of a process; empty if it no longer exists. */
export function mountLines(host: Host, pid: number | 'self'): MountLine[] {
  return (host.read(`/proc/${pid}/mountinfo`) ?? '').split('\n').flatMap(line => {
    const [, , device, root, place] = line.split(' ');
    return device && root && place ? [{ device, root, place }] : [];
  });
}

/** The directory at `path` as in mount tables: its file system, and the directory there. */
function asMounted(host: Host, path: string): Shown | undefined {
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
