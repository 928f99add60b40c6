/**
 * The root of the user's service manager. Everything that a desktop starts through D-Bus or as a user unit is a child
 * of `systemd --user`. PID 1 starts that, not the session, so by default its root is the host. A symlink names the
 * root it gets instead; desktop/systemd-drop-ins.ts makes systemd follow it.
 */
import type { Host } from '../linux/host.ts';
import { type Paths, userFiles } from '../state/paths.ts';

/**
 * Makes the user's service manager start in `root` from now on. A manager left over from an earlier login (logind
 * keeps it for 10 s by default, UserStopDelaySec) would serve the new one, so it is restarted. Stopping it is not
 * enough: the runtime directory would be removed while the new login is being given it (observed; logind starts
 * neither again for a user it still knows). A manager that another login uses, such as one by ssh, or that lingers
 * (`loginctl enable-linger`) is left alone.
 */
export async function redirectUserManager(
  host: Host,
  paths: Paths,
  uid: number,
  root: string,
): Promise<void> {
  host.symlink(root, userFiles(paths, uid).root);
  const known = `/run/systemd/users/${uid}`;
  // `exists` first: at nearly every login logind does not know the user yet, and a failed read throws internally.
  if (!host.exists(known) || !host.read(known)?.includes('\nSTATE=closing\n')) return;
  const args = ['restart', `user@${uid}.service`];
  await host.run({ file: 'systemctl', args, effect: 'write', okCodes: [0, 1, 5] });
}

/**
 * Makes the user's service manager start on the host again. With `root`, only if the symlink still names that root
 * and not a newer session's.
 */
export function resetUserManager(host: Host, paths: Paths, uid: number, root?: string): void {
  const link = userFiles(paths, uid).root;
  const now = host.readlink(link);
  if (now === undefined || (root !== undefined && now !== root)) return;
  // While the runtime directory exists, user@ may start without the unit that would create the symlink.
  if (!host.exists(`/run/user/${uid}`)) host.unlink(link);
  else if (now !== '/') host.symlink('/', link);
}
