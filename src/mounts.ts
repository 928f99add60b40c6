/** Mounts as data, the table mount(8) reads, and taking a tree apart. */
import type { Config } from './config.ts';
import { isErrno, MayflyError } from './errors.ts';
import type { Host } from './host.ts';

/** One line of fstab(5). */
export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly options: string;
  /** The source is no directory, so the target must not be one. */
  readonly file?: boolean;
}

/** The four characters fstab(5) wants escaped. */
const escapeField = (field: string): string =>
  field.replace(/[ \t\n\\]/g, c => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);

/** An empty file costs kernel memory that `size` does not count. */
const TMPFS_INODES = 'nr_inodes=200k';

/** A table for `mount -a -T`. */
export function renderTable(mounts: readonly Mount[]): string {
  return mounts
    .map(m => `${escapeField(m.source)} ${escapeField(m.target)} ${m.type} ${m.options} 0 0\n`)
    .join('');
}

/**
 * What a session has besides its own tree. Everything of the host is bound with `rslave`: unmounting a shared copy
 * would unmount the host's own (measured), while what is mounted on the host later (a USB stick, /run/user/UID)
 * still arrives.
 */
export function planMounts(
  config: Config,
  root: string,
  home: { path: string; ephemeral: boolean; uid: number; gid: number },
): Mount[] {
  const { rbind, bind, run_size } = config.mounts;
  // Our own mount points below a recursive bind would show every session inside every other.
  const recursive = (source: string): boolean => !bind.includes(source) && !root.startsWith(`${source}/`);
  const share = (source: string): Mount => {
    const options = recursive(source) ? 'rbind,rslave' : 'bind,slave';
    return { source, target: root + source, type: 'none', options };
  };
  const shows = (path: string): boolean => home.path === path || home.path.startsWith(`${path}/`);
  const isHomes = (path: string): boolean => path === '/home' || shows(path);
  // A guest sees nobody's home directory: the binds that hold homes make room for an empty one.
  const keep = (path: string): boolean => !(home.ephemeral && isHomes(path));
  const shared = [...bind, ...rbind].filter(keep).map(share);
  const inRun = (m: Mount): boolean => m.source.startsWith('/run/');
  const options = `mode=0755,nosuid,nodev,${TMPFS_INODES},size=${run_size}`;
  const run: Mount = { source: 'mayfly', target: `${root}/run`, type: 'tmpfs', options };
  const mounts = [...shared.filter(m => !inRun(m)), run, ...shared.filter(inRun)];
  if (home.ephemeral) {
    const options = `mode=0700,uid=${home.uid},gid=${home.gid},nosuid,nodev,${TMPFS_INODES},size=${config.home.size}`;
    mounts.push({ source: 'mayfly', target: root + home.path, type: 'tmpfs', options });
  } else if (home.path.length > 1 && ![...rbind, ...bind].some(shows) && home.path !== '/root') {
    mounts.push(share(home.path));
  }
  return mounts;
}

/** Drops the binds whose source this host does not have (/run/cups is there or not), and marks those of a socket. */
export function existing(host: Host, mounts: readonly Mount[]): Mount[] {
  return mounts.flatMap(m => {
    if (m.type !== 'none') return [m];
    const source = host.stat(m.source);
    if (source === undefined) return [];
    return source.kind === 'dir' ? [m] : [{ ...m, file: true }];
  });
}

/** Whether every part of `path` below `root` is a real directory of the tree, no symlink that leads elsewhere. */
export function isPlainDirectory(host: Host, root: string, path: string): boolean {
  const parts = path.split('/').filter(Boolean);
  return parts.every((_, i) => host.lstat(`${root}/${parts.slice(0, i + 1).join('/')}`)?.kind === 'dir');
}

/**
 * Makes the place for a mount below `root`. Every part must be a real directory of the tree: mount(8) follows
 * symlinks, and one in the tree ("/home -> /srv/home") would send the mount to the host's own directory.
 */
export function makeTarget(host: Host, root: string, m: Mount): void {
  const parts = m.target.slice(root.length + 1).split('/');
  let at = root;
  for (const [index, part] of parts.entries()) {
    at = `${at}/${part}`;
    const last = index === parts.length - 1;
    const there = host.lstat(at);
    const wanted = last && m.file ? 'not-dir' : 'dir';
    if (there === undefined) {
      if (wanted === 'dir') host.mkdir(at, 0o755);
      else host.touch(at);
    } else if (there.kind === 'link' || (there.kind === 'dir') !== (wanted === 'dir')) {
      throw new MayflyError(
        'unsafe',
        `"${at.slice(root.length)}" in the generation is ${there.kind === 'link' ? 'a symlink' : `a ${there.kind}`}, so "${m.source}" can not be mounted on it`,
        { path: at },
      );
    }
  }
}

/** Mounts the tree itself, apart from the rest: their places can be checked only when it is there. */
export async function mountRoot(host: Host, m: Mount, fds: readonly number[]): Promise<void> {
  const type = m.type === 'none' ? [] : ['-t', m.type];
  const args = [...type, '-o', `${m.options},private`, '--', m.source, m.target];
  await host.run({ file: 'mount', args, effect: 'write', fds });
}

/**
 * Performs mounts below `root` in order, with one child. mount(8) takes its table from a file only; it stands in
 * the session's own tree, so that a death in between leaves it nowhere else.
 */
export async function mountAll(
  host: Host,
  mounts: readonly Mount[],
  root: string,
  fds: readonly number[],
): Promise<void> {
  if (mounts.length === 0) return;
  const table = `${root}/.mayfly-mounts`;
  host.write(table, renderTable(mounts), { mode: 0o600 });
  await host.run({ file: 'mount', args: ['-a', '-T', table], effect: 'write', fds });
  host.unlink(table);
}

/** Whether something is mounted at `root`: its parent is a file system of our own, so the device numbers differ. */
export function isMounted(host: Host, root: string): boolean {
  const here = host.lstat(root);
  const above = host.lstat(root.slice(0, root.lastIndexOf('/')));
  return here?.kind === 'dir' && above !== undefined && here.dev !== above.dev;
}

/**
 * Detaches everything at and below `root` and removes the mount point. The rmdir is what makes copies in other
 * mount namespaces go (the kernel detaches mounts from a directory that is removed); it is never recursive: a
 * mount point that is not empty after the unmount holds something that is not ours to delete. `unfinished`: the
 * mounts below may not all have been made slaves yet, and unmounting a peer would unmount the host's own.
 */
export async function detach(host: Host, root: string, unfinished: boolean): Promise<void> {
  const there = host.lstat(root);
  if (there === undefined) return;
  if (there.kind !== 'dir')
    throw new MayflyError('unsafe', `"${root}" is a ${there.kind}, not a mount point`, { path: root });
  if (unfinished && isMounted(host, root)) {
    await host.run({ file: 'mount', args: ['--make-rslave', '--', root], effect: 'write' });
  }
  // Stacked mounts come off one by one; more than a few is a mistake somewhere.
  for (let n = 0; isMounted(host, root) && n < 8; n++) {
    await host.run({ file: 'umount', args: ['-l', '--', root], effect: 'write' });
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
export async function privateRoots(host: Host, roots: string): Promise<void> {
  if (isMounted(host, roots)) return;
  const options = 'mode=0700,size=1M,nr_inodes=10k,private';
  await host.run({ file: 'mount', args: ['-t', 'tmpfs', '-o', options, 'mayfly', roots], effect: 'write' });
}
