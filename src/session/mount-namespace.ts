/**
 * A mount namespace whose root is the session's tree, for whatever enters the session.
 *
 * In a chroot the kernel creates no user namespaces (current_chrooted() in fs/namespace.c), so sandboxes fail there:
 * those of browsers, Flatpak and rootless containers. Therefore a module of PAM gives each process that enters a session
 * a mount namespace of its own, with a copy of the session's tree as its root: see `hooks/pam/pam_mayfly.c`, and
 * `desktop/pam-namespace.ts`, which adds it to PAM's stacks. Here the tree is prepared for it.
 *
 * The copies are peers: a mount that one process makes, such as that of the document portal, appears in all of them. It
 * appears below the session's mount point on the host, too, where teardown detaches it, and nowhere else on the host.
 * The host's own mounts arrive in a session, but none leaves it: those from the host are slaves.
 */
import type { Host } from '../linux/host.ts';
import { type MountOp, makeMountOps } from '../linux/mount-program.ts';
import { isSystemInstance, type Paths, userFiles } from '../state/paths.ts';
import type { Session } from '../state/sessions.ts';

/**
 * The operations, after all others, that prepare the tree of a session. pivot_root(2) needs a place for the old root in
 * the new one, on a mount that is not shared: a small private tmpfs. It is mounted where the host has its mount points,
 * and holds a link of {@link linkRoot}. Only for the system's own instance, which is PAM's. Pure.
 */
export function namespaceOps(root: string, paths: Pick<Paths, 'roots' | 'run'>): MountOp[] {
  if (!isSystemInstance(paths)) return [];
  const { roots } = paths;
  const parts = roots.split('/').slice(1);
  const directories = parts.map((_, i) => `${root}/${parts.slice(0, i + 1).join('/')}`);
  const options = 'mode=0700,nosuid,nodev,size=64k,nr_inodes=16';
  return [
    { op: 'share', target: root }, // before the mount below, which stays private
    ...directories.map((target): MountOp => ({ op: 'dir', target })),
    makeMountOps()({ source: 'mayfly', target: root + roots, type: 'tmpfs', options }),
    { op: 'dir', target: `${root}${roots}/.old` },
  ];
}

/**
 * Makes the paths by which schroot and systemd enter the tree lead to "/" in the tree itself, so that a process whose
 * root it is already stays there: chroot(2) to "/" is no chroot. Only root can search the directory of the first link.
 */
export function linkRoot(host: Host, s: Session, paths: Paths): void {
  if (!isSystemInstance(paths)) return;
  host.symlink('/', `${s.root}${s.root}`);
  // If the configuration binds the run directory, this is the host's own, and the user's link in it is still to be made.
  if (host.lstat(s.root + paths.users)) return;
  const theirs = userFiles(paths, s.user.uid);
  for (const path of [paths.users, theirs.directory]) host.mkdir(s.root + path, 0o755);
  host.symlink('/', s.root + theirs.root);
}

/** Our PAM module, in the directory of PAM's own. */
export const PAM_MODULE = 'pam_mayfly.so';

export const SCHROOT_STACK = '/etc/pam.d/schroot';

/** Whether a line of a PAM stack names the module. Pure. */
export function namesModule(stack: string): boolean {
  return stack.split('\n').some(line => !/^\s*#/.test(line) && line.includes(PAM_MODULE));
}

/** Whether PAM gives what enters a session a mount namespace. Otherwise schroot enters it by chroot(2) only. */
export function hasNamespaces(host: Host, paths: Pick<Paths, 'run'>): boolean {
  return isSystemInstance(paths) && namesModule(host.read(SCHROOT_STACK) ?? '');
}
