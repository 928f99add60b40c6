/** Mounting a tree and taking it apart. */
import { isErrno, MayflyError } from '../errors.ts';
import type { Host } from './host.ts';
import { type Mount, type MountOp, makeMountOps, mountCommand } from './mount-program.ts';

/** Whether every part of `path` below `root` is a real directory of the tree, no symlink that leads elsewhere. */
export function isPlainDirectory(host: Host, root: string, path: string): boolean {
  const parts = path.split('/').filter(Boolean);
  return parts.every((_, i) => host.lstat(`${root}/${parts.slice(0, i + 1).join('/')}`)?.kind === 'dir');
}

/**
 * The calls that make a session's tree: `root` first, then `mounts` in order, each with the places it needs. Every part
 * of a place in the tree must be a real directory of it: mount(2) follows symlinks, and one there ("/home ->
 * /srv/home") would send the mount to the host's own directory. The child that mounts looks at each in the mounted
 * tree, right before it is used, and makes what is missing; nobody else is in the tree yet.
 */
export function planMountOps(root: Mount, mounts: readonly Mount[]): MountOp[] {
  const callFor = makeMountOps();
  const calls = [callFor(root)];
  const seen = new Set<string>();
  const types = new Map(mounts.map(m => [m.target, m.type]));
  for (const m of mounts) {
    let at = root.target;
    let below: string | undefined; // the type of what is mounted above `at`
    const parts = m.target.slice(root.target.length + 1).split('/');
    const last = parts.length - 1;
    for (let index = 0; index <= last; index++) {
      at = `${at}/${parts[index]}`;
      if (below === 'none') break; // what is below a bind is the host's
      if (!seen.has(at)) calls.push({ op: m.file === true && index === last ? 'file' : 'dir', target: at });
      seen.add(at);
      below = types.get(at) ?? below;
    }
    calls.push(callFor(m));
  }
  return calls;
}

/**
 * Throws `unsafe` where a place that {@link planMountOps} needs is a symlink or of the wrong kind in the tree that can be
 * read at `base`: what the child refuses, in words.
 */
export function requireMountTargets(host: Host, base: string, calls: readonly MountOp[]): void {
  const root = calls[0]?.target ?? '';
  const fresh: string[] = []; // memory file systems of ours, below which is nothing yet
  calls.forEach((c, i) => {
    if (c.op === 'mount' && c.type === 'tmpfs' && i > 0) fresh.push(`${c.target}/`);
    if ((c.op !== 'dir' && c.op !== 'file') || fresh.some(path => c.target.startsWith(path))) return;
    const there = host.lstat(base + c.target.slice(root.length));
    if (there === undefined || (there.kind !== 'link' && (there.kind === 'dir') === (c.op === 'dir'))) return;
    const next = calls.slice(i).find(later => later.op === 'mount');
    throw badMountTarget(c.target, root, there.kind, next?.source ?? '');
  });
}

function badMountTarget(at: string, root: string, kind: string, source: string): MayflyError {
  const what = kind === 'link' ? 'a symlink' : `a ${kind}`;
  const message = `"${at.slice(root.length)}" in the generation is ${what}, so "${source}" can not be mounted on it`;
  return new MayflyError('unsafe', message, { path: at });
}

/** Whether something other than its parent's file system shows at `root`, told by the device numbers. */
export function isMounted(host: Host, root: string): boolean {
  const here = host.lstat(root);
  const above = host.stat(root.slice(0, root.lastIndexOf('/')) || '/'); // an administrator's "/srv" may be a symlink
  return here?.kind === 'dir' && above !== undefined && here.dev !== above.dev;
}

/**
 * Detaches everything at and below `root` and removes the mount point. The rmdir is what makes copies in other
 * mount namespaces go (the kernel detaches mounts from a directory that is removed); it is never recursive: a
 * mount point that is not empty after the unmount holds something that is not ours to delete. `unfinished`: the
 * mounts below may not all have been made slaves yet, and unmounting a peer would unmount the host's own.
 */
export async function detach(
  host: Host,
  root: string,
  unfinished: boolean,
  fds: readonly number[] = [],
): Promise<void> {
  const there = host.lstat(root);
  if (there === undefined) return;
  if (there.kind !== 'dir')
    throw new MayflyError('unsafe', `"${root}" is a ${there.kind}, not a mount point`, { path: root });
  const calls: MountOp[] = [{ op: 'detach', target: root }];
  if (unfinished) calls.unshift({ op: 'slave', target: root });
  // Stacked mounts come off one by one; more than a few is a mistake somewhere.
  for (let n = 0; isMounted(host, root) && n < 8; n++) {
    await host.run({ ...mountCommand(calls, fds), simulate: view => view.unmount(root) });
  }
  try {
    host.rmdir(root);
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'EBUSY', 'EEXIST')) throw error;
    throw new MayflyError(
      'stuck',
      `the mount point "${root}" could not be removed: it is not empty or still mounted`,
      { path: root },
    );
  }
}

/**
 * Gives the mount points a small private file system of their own. Session mounts then propagate to no other
 * namespace (systemd makes / shared), and "is it mounted?" is a comparison of two device numbers.
 */
export async function makePrivateRoot(host: Host, roots: string): Promise<void> {
  if (isMounted(host, roots)) return;
  const options = 'mode=0700,size=1M,nr_inodes=10k,private';
  await host.run({ file: 'mount', args: ['-t', 'tmpfs', '-o', options, 'mayfly', roots], effect: 'write' });
}
