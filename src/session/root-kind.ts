/** Which kind of root the sessions have in fact, as their processes show it. */
import type { Host } from '../linux/host.ts';
import { uidOf } from '../linux/processes.ts';
import type { Session } from '../state/sessions.ts';

/** What fails in a session that is entered by chroot only. */
export const FAILS_IN_CHROOT = [
  'sandboxes of browsers',
  'Flatpak',
  'rootless containers',
  'file systems in user space',
] as const;

/**
 * The root directories that processes of users have by chroot(2), as the host names them. In a mount namespace of its own,
 * the root of a process is "/". The links are only read, which asks no file system.
 */
export function chrootedPaths(host: Host): ReadonlySet<string> {
  const roots = host.list('/proc').flatMap(name => {
    const root = /^\d+$/.test(name) ? host.readlink(`/proc/${name}/root`) : undefined;
    return root === undefined || root === '/' || uidOf(host, Number(name)) === 0 ? [] : [root];
  });
  return new Set(roots);
}

/**
 * Whether a session is entered by chroot: the record says what PAM's stack promises at the login, but the module may be
 * missing, or the kernel may refuse the namespace.
 */
export function isChroot(s: Pick<Session, 'namespace' | 'root'>, chrooted: ReadonlySet<string>): boolean {
  return s.namespace !== true || chrooted.has(s.root);
}
