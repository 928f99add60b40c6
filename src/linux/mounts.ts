/** Mounting and unmounting a session's tree. */
import { isErrno, MayflyError } from '../errors.ts';
import { lookAt } from './files.ts';
import type { Host, Stat } from './host.ts';
import { type Mount, type MountOp, makeMountOps, mountCommand } from './mount-program.ts';

/**
 * Whether `path` below `root` is a directory of the same file system: every component is a real directory, no symlink
 * leads out of the tree, and nothing else is mounted on the way.
 */
export function isPlainDirectory(host: Host, root: string, path: string): boolean {
  const parts = path.split('/').filter(Boolean);
  const dev = lookAt(host, root)?.dev;
  return parts.every((part, i) => {
    const there = lookAt(host, `${root}/${parts.slice(0, i + 1).join('/')}`);
    return part !== '..' && there?.kind === 'dir' && there.dev === dev;
  });
}

/**
 * Directories that packages have files in. Others on the way to a home directory can be symlinks in an image, as they are on
 * a host that has its home directories elsewhere: in the session's own tree, a directory takes the place of the symlink.
 */
const KEPT = /^\/(opt|tmp|var(\/(lib|local|opt|tmp))?)$/;

/**
 * The operations that mount a session's tree: `root` first, then `mounts` in order, each with the mount points it needs.
 * Every component of a mount point must be a real directory of the tree: mount(2) follows symlinks, and a symlink
 * ("/home -> /srv/home") would redirect the mount to a directory of the host. The child process that mounts creates
 * missing ones, and proves that each mount point is in the mounted tree when it uses it; see `mount-program.ts`.
 */
export function planMountOps(root: Mount, mounts: readonly Mount[]): MountOp[] {
  const callFor = makeMountOps();
  const calls = [callFor(root)];
  const seen = new Set<string>();
  const types = new Map(mounts.map(m => [m.target, m.type]));
  for (const m of mounts) {
    let at = root.target;
    let below: string | undefined; // the type of the mount that `at` is on
    const parts = m.target.slice(root.target.length + 1).split('/');
    const last = parts.length - 1;
    for (let index = 0; index <= last; index++) {
      at = `${at}/${parts[index]}`;
      if (below === 'none') break; // below a bind mount, everything belongs to the host
      const isReplaced = (m.plain || m.source === '/home') && !KEPT.test(at.slice(root.target.length));
      const instead = isReplaced ? { instead: true } : {};
      const op = m.file === true && index === last ? 'file' : 'dir';
      if (!seen.has(at)) calls.push({ op, target: at, ...instead });
      seen.add(at);
      below = types.get(at) ?? below;
    }
    calls.push(callFor(m));
  }
  return calls;
}

/**
 * Throws `unsafe` if a mount point that {@link planMountOps} needs is a symlink or of the wrong type in the tree at
 * `base`. The child process refuses the same, but without an explanation.
 */
export function requireMountTargets(host: Host, base: string, calls: readonly MountOp[]): void {
  const root = calls[0]?.target ?? '';
  const fresh: string[] = []; // new tmpfs mounts, which are empty
  calls.forEach((c, i) => {
    if (c.op === 'mount' && c.type === 'tmpfs' && i > 0) fresh.push(`${c.target}/`);
    if ((c.op !== 'dir' && c.op !== 'file') || fresh.some(path => c.target.startsWith(path))) return;
    const there = host.lstat(base + c.target.slice(root.length));
    if (there === undefined || (c.instead && there.kind === 'link')) return;
    if (there.kind !== 'link' && (there.kind === 'dir') === (c.op === 'dir')) return;
    const next = calls.slice(i).find(later => later.op === 'mount');
    throw badMountTarget(c.target, root, there.kind, next?.source ?? '');
  });
}

/**
 * Throws `refused` if a mount of `calls` failed because the kernel lacks its file system (ENODEV): nothing is wrong with
 * the generation, and every other one would fail too.
 */
export async function requireFileSystems(
  host: Host,
  calls: readonly MountOp[],
  failure: MayflyError,
): Promise<void> {
  const text = String(failure.facts.stderr);
  if (!text.includes(': No such device')) return;
  const failed = calls.find(c => c.op === 'mount' && text.includes(` on ${c.target}: `));
  if (failed?.op !== 'mount') return;
  const { missingModule } = await import('./kernel-module.ts');
  const unknown = { what: `this kernel does not support ${failed.type}`, fix: `modprobe ${failed.type}` };
  const { what, fix } = (await missingModule(host, failed.type, true)) ?? unknown;
  throw new MayflyError('refused', what, { hint: fix }, { cause: failure });
}

function badMountTarget(at: string, root: string, kind: string, source: string): MayflyError {
  const types: Record<string, string> = { link: 'a symlink', dir: 'a directory', file: 'a file' };
  const what = types[kind] ?? 'a special file';
  const message = `"${at.slice(root.length)}" in the generation is ${what}; cannot mount "${source}" on it`;
  return new MayflyError('unsafe', message, { path: at });
}

/**
 * Whether a file system is mounted at `root`: its device number differs from that of its parent. In a directory of ours,
 * only a file system that is mounted there refuses the look.
 */
export function isMounted(host: Host, root: string): boolean {
  let here: Stat | undefined;
  try {
    here = host.lstat(root);
  } catch {
    return true;
  }
  const above = host.stat(root.slice(0, root.lastIndexOf('/')) || '/'); // an administrator's "/srv" may be a symlink
  return here?.kind === 'dir' && above !== undefined && here.dev !== above.dev;
}

/**
 * Detaches everything at and below `root` and removes the mount point; absent is success. The rmdir also removes copies
 * in other mount namespaces (the kernel detaches mounts from a directory that is removed). It is never recursive: what a
 * mount point holds after the unmount is not ours to delete. `unfinished`: some mounts below may not be slaves yet, and
 * unmounting a peer would unmount the host's own. Throws `unsafe` if `root` is no directory, `stuck` if it cannot be
 * removed.
 */
export async function detach(
  host: Host,
  root: string,
  unfinished: boolean,
  fds: readonly number[] = [],
): Promise<void> {
  const there = lookAt(host, root);
  if (there === undefined && !isMounted(host, root)) return;
  if (there && there.kind !== 'dir')
    throw new MayflyError('unsafe', `"${root}" is not a directory, so it is not a mount point`, {
      path: root,
    });
  const calls: MountOp[] = [{ op: 'detach', target: root }];
  if (unfinished) calls.unshift({ op: 'slave', target: root });
  // Stacked mounts are detached one by one. More than a few cannot be right, so the loop has a limit.
  for (let n = 0; isMounted(host, root) && n < 8; n++) {
    await host.run({ ...mountCommand(calls, fds), simulate: view => view.unmount(root) });
  }
  try {
    host.rmdir(root);
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'EBUSY', 'EEXIST')) throw error;
    throw new MayflyError(
      'stuck',
      `cannot remove the mount point "${root}": it is not empty or still mounted`,
      { path: root },
    );
  }
}

/**
 * Mounts a small private tmpfs for the mount points of sessions. Session mounts then do not propagate to other
 * namespaces (systemd makes / shared), and {@link isMounted} only has to compare two device numbers.
 */
export async function makePrivateRoot(host: Host, roots: string): Promise<void> {
  if (isMounted(host, roots)) return;
  const options = 'mode=0700,size=1M,nr_inodes=10k,private';
  await host.run({ file: 'mount', args: ['-t', 'tmpfs', '-o', options, 'mayfly', roots], effect: 'write' });
}

/** The kernel's file that names the file of a loop device. */
export const backingFile = (name: string): string => `/sys/block/${name}/loop/backing_file`;

/** The files of all loop devices in use, as the kernel shows them to us. */
export function loopFiles(host: Host): string[] {
  const loops = host.list('/sys/block').filter(name => name.startsWith('loop'));
  return loops.flatMap(name => host.read(backingFile(name))?.trim() || []);
}

/** The files in use as swap space, as the kernel shows them. */
export function swapFiles(host: Host): string[] {
  const lines = (host.read('/proc/swaps') ?? '').split('\n');
  return lines.flatMap(line => (line.includes(' file') ? (line.split(/[ \t]/)[0] ?? []) : []));
}
