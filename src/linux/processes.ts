/**
 * Who is in a session, and making them go.
 *
 * A process belongs to a session when its root lies on a file system that is the session's alone, told by device
 * number; that finds those in a deeper chroot or in a mount namespace of their own, which a comparison of paths
 * misses. The session user's own processes belong to it as soon as they have their directory, program or an open
 * file there. Anybody else's do not: a host service can be handed a descriptor over a socket by whoever is inside.
 *
 * Device numbers of unmounted file systems are given out again, lowest first; so callers pass only numbers of what
 * is still there. A session's device is never that of `/`: killing by the device of a mount that had failed once
 * took down the host (the accident of 2009 that this rule makes impossible).
 */
import { MayflyError } from '../errors.ts';
import type { Host } from './host.ts';

/** File systems whose server can be dead: even asking about a file there can hang for ever. */
const REMOTE = /^(nfs4?|cifs|smb3|9p|ceph|afs|fuse(\..+)?|fuseblk|glusterfs|lustre|ncpfs)$/;

/** Mount points of remote file systems in our own namespace. The table is long in a full room: read only if need be. */
export function remoteMounts(host: Host): string[] {
  const possible = [
    '/sys/fs/fuse/connections',
    '/proc/fs/nfsfs',
    '/proc/fs/cifs',
    '/sys/fs/ceph',
    '/proc/fs/afs',
  ];
  const sure = possible.some(path => host.list(path).length > 0);
  if (!sure) return [];
  return (host.read('/proc/self/mountinfo') ?? '').split('\n').flatMap(line => {
    const type = line.slice(line.indexOf(' - ') + 3).split(' ')[0] ?? '';
    return REMOTE.test(type) ? [line.split(' ')[4] ?? ''] : [];
  });
}

/** One look at all processes: which of them use one of `devices`, and how. */
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

  /** Whether `pid` has its root on one of the devices. */
  isRootedIn(pid: number): boolean {
    return this.isOn(`/proc/${pid}/root`);
  }

  /** Another use that `pid` makes of one of the devices; undefined where it makes none. */
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
      // Reading the link asks nobody; following it would ask the server.
      const target = this.host.readlink(link);
      if (target === undefined || this.remote.some(m => target === m || target.startsWith(`${m}/`)))
        return false;
    }
    const s = this.host.stat(link);
    return s !== undefined && this.devices.has(s.dev);
  }
}

export function processName(host: Host, pid: number): string {
  return (host.read(`/proc/${pid}/comm`) ?? '?').trim();
}

/** Real user id of a process; undefined where it is gone. */
export function uidOf(host: Host, pid: number): number | undefined {
  const uid = /^Uid:\s+(\d+)/m.exec(host.read(`/proc/${pid}/status`) ?? '')?.[1];
  return uid === undefined ? undefined : Number(uid);
}

/** A directory of a file system as mount tables call it. */
interface Shown {
  /** major:minor of the file system. */
  readonly device: string;
  /** The directory, "" for all of it. */
  readonly root: string;
}

/** Everybody but ourselves who uses one of `devices`, or whose mount namespace still shows `at`, a path or a device. */
export function findHolders(host: Host, devices: ReadonlySet<number>, at: string | Shown): Holder[] {
  refuseHostDevices(host, devices);
  const look = new ProcessScan(host, devices, remoteMounts(host));
  const holders: Holder[] = [];
  const namespaces = new Set<string | undefined>([undefined]);
  const volume = typeof at === 'string' ? asMounted(host, at) : at;
  const placeIn = (pid: number): string | undefined =>
    mountLines(host, pid).find(
      m => m.device === volume?.device && (m.root === volume.root || m.root.startsWith(`${volume.root}/`)),
    )?.place;
  for (const pid of look.pids()) {
    const use = look.isRootedIn(pid) ? 'root' : look.useOf(pid);
    const namespace = host.readlink(`/proc/${pid}/ns/mnt`);
    const place = use || namespaces.has(namespace) ? undefined : placeIn(pid);
    if (use) holders.push({ pid, what: `${processName(host, pid)} (${use})` });
    else if (place !== undefined)
      holders.push({ pid, what: `${processName(host, pid)} (its mount at ${place})` });
    namespaces.add(namespace);
  }
  return holders;
}

/** Whether anybody but ourselves uses one of `devices`. Nothing is killed by the answer. */
export function isUsed(host: Host, devices: ReadonlySet<number>): boolean {
  const look = new ProcessScan(host, devices, remoteMounts(host));
  return look.pids().some(pid => look.isRootedIn(pid) || look.useOf(pid) !== undefined);
}

/** A line of /proc/PID/mountinfo, as far as it is needed (proc_pid_mountinfo(5)). */
interface MountLine {
  /** major:minor of the file system. */
  readonly device: string;
  /** The directory of the file system that shows at the place. */
  readonly root: string;
  readonly place: string;
}

export function mountLines(host: Host, pid: number | 'self'): MountLine[] {
  return (host.read(`/proc/${pid}/mountinfo`) ?? '').split('\n').flatMap(line => {
    const [, , device, root, place] = line.split(' ');
    return device && root && place ? [{ device, root, place }] : [];
  });
}

/** What mount tables call the directory at `path`: its file system, and where in it. */
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

export function describeHolders(holders: readonly Holder[]): string {
  const some = holders.slice(0, 5).map(h => `process ${h.pid} ${h.what}`);
  const more = holders.length - some.length;
  return some.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** Refuses any set of device numbers that has the host's own in it. */
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
        `device ${dev} is that of "${path}" on the host; nothing is killed by it`,
        { device: dev },
      );
    }
  }
}

/** Somebody who keeps a volume from being removed. */
export interface Holder {
  readonly pid: number;
  readonly what: string;
}
