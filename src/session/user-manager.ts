/**
 * The root of the user's service manager. Everything that a desktop starts through D-Bus or as a user unit is a child
 * of `systemd --user`. PID 1 starts that, not the session, so by default its root is the host. A symlink names the
 * root it gets instead; desktop/systemd-drop-ins.ts makes systemd follow it.
 */
import type { Host } from '../linux/host.ts';
import type { Machine } from '../state/machine.ts';
import { type Paths, userFiles } from '../state/paths.ts';
import type { Session } from '../state/sessions.ts';

/**
 * Makes the user's service manager start in `root` from now on. One that runs, on the host or in an earlier session, would
 * serve the new login, so it is restarted: see `manager-restart.ts`. Throws `saving` if its services do not stop in time.
 */
export async function redirectUserManager(on: Machine, { user, root }: Session): Promise<void> {
  const { host, paths } = on;
  host.symlink(root, userFiles(paths, user.uid).root);
  // At nearly every login logind does not know the user yet.
  if (!host.exists(`/run/systemd/users/${user.uid}`)) return;
  const { restartManager } = await import('./manager-restart.ts');
  await restartManager(on, user);
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
