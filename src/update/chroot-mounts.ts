/**
 * What a command in the working copy sees of the machine: enough for package managers, and nothing through which it could
 * change the machine. There are no disks in /dev, and settings of the kernel cannot be written.
 */
import type { Host } from '../linux/host.ts';
import type { Mount, MountOp } from '../linux/mount-program.ts';
import { planMountOps } from '../linux/mounts.ts';
import { linkIntoRun } from './resolver.ts';

const TMPFS = 'mode=0755,nosuid,nodev,nr_inodes=200k,size=20%';

const READ_ONLY = 'bind,ro';

/** In procfs, what sets something of the machine (proc(5)). */
const PROTECTED = ['acpi', 'bus', 'fs', 'irq', 'mtrr', 'scsi', 'sys', 'sysrq-trigger'];

const NODES = ['null', 'zero', 'full', 'random', 'urandom', 'tty', 'fuse'];

const LINKS = {
  ...{ fd: '/proc/self/fd', stdin: '/proc/self/fd/0', stdout: '/proc/self/fd/1', stderr: '/proc/self/fd/2' },
};

/**
 * Operations that show the copy at the target of `copy`, with what belongs into it. `terminal`: the command runs on the
 * administrator's terminal, which is one of the host's; otherwise it has terminals of its own.
 */
export function chrootMountOps(host: Host, copy: Mount, terminal: boolean): MountOp[] {
  const root = copy.target;
  const bind = (source: string, options = 'bind,slave', target = source): Mount => ({
    ...{ source, target: root + target, type: 'none', options },
    ...(host.pathType(source) === 'dir' ? {} : { file: true }),
  });
  const own = (type: string, target: string, options: string): Mount => ({
    source: 'mayfly',
    target: root + target,
    type,
    options,
  });
  const terminals = terminal
    ? [bind('/dev/pts'), bind('/dev/ptmx')]
    : [own('devpts', '/dev/pts', 'newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid')];
  const mounts = [
    own('proc', '/proc', 'nosuid,nodev'),
    ...PROTECTED.map(name => `/proc/${name}`)
      .filter(path => host.exists(path))
      .map(path => ({ ...bind(path, READ_ONLY), source: root + path })),
    bind('/sys', READ_ONLY),
    own('tmpfs', '/dev', 'mode=0755,nosuid,nodev,nr_inodes=1k,size=1m'),
    ...NODES.map(name => `/dev/${name}`)
      .filter(path => host.exists(path))
      .map(path => bind(path)),
    ...terminals,
    own('tmpfs', '/dev/shm', 'mode=1777,nosuid,nodev'),
    own('tmpfs', '/run', TMPFS),
    own('tmpfs', '/run/lock', 'mode=1777,nosuid,nodev,nr_inodes=10k,size=5m'),
    own('tmpfs', '/tmp', 'mode=1777,nosuid,nodev,nr_inodes=200k,size=50%'),
  ];
  const links = { ...LINKS, ...(terminal ? {} : { ptmx: 'pts/ptmx' }) };
  return [
    ...planMountOps(copy, mounts),
    ...resolverOps(host, copy),
    ...Object.entries(links).map(([name, data]) => ({
      op: 'make' as const,
      target: `${root}/dev/${name}`,
      entry: { type: 'l' as const, mode: 0o777, uid: 0, gid: 0, data },
    })),
  ];
}

/** The text of the host's resolver configuration, where its commands find it. */
const RESOLVER = '/run/mayfly-resolv.conf';

/**
 * Shows the host's resolver configuration in the copy, as sessions have it: a text of its own that everybody can read. The
 * host's file may be readable by root only, and apt asks for addresses as the user "_apt". It cannot be written either: in
 * the copy, a script would change the tree.
 */
function resolverOps(host: Host, copy: Mount): MountOp[] {
  const target = resolverIn(host, copy.source);
  if (target === undefined || host.stat('/etc/resolv.conf')?.kind !== 'file') return [];
  const source = copy.target + RESOLVER;
  const data = (host.read('/etc/resolv.conf') ?? '').replaceAll('\0', '');
  const shown = { source, target: copy.target + target, type: 'none', options: READ_ONLY, file: true };
  return [
    { op: 'make', target: source, entry: { type: 'f', mode: 0o644, uid: 0, gid: 0, data } },
    ...planMountOps(copy, [shown]).slice(1),
  ];
}

/**
 * Path of the copy's resolver configuration, if the host's can be shown there; otherwise undefined. An update gives a place
 * to a copy without one (`resolver.ts`).
 */
function resolverIn(host: Host, tree: string): string | undefined {
  const path = '/etc/resolv.conf';
  const there = host.lstat(tree + path);
  if (there?.kind === 'file') return path;
  if (there?.kind !== 'link') return undefined;
  return linkIntoRun(host.readlink(tree + path) ?? '');
}
