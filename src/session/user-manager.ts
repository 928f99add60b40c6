/**
 * The person's own service manager, inside. Whatever a desktop starts by D-Bus or as a user unit is a child of
 * `systemd --user`, which pid 1 starts and not the session: without more it has the host as root. A symlink says which
 * root it gets; desktop/systemd-drop-ins.ts has systemd follow it.
 */
import type { Host } from '../linux/host.ts';
import { type Paths, userFiles } from '../state/paths.ts';

/**
 * From here on a manager of the person starts in `root`. One that is left of a login that is over, 10 s by default
 * (UserStopDelaySec), would serve the new one; it begins anew. Not merely ended: its runtime directory would go behind
 * it, no longer needed, while the new login is being given it (seen; logind starts neither again for a person it still
 * knows). One that another login uses, by ssh for example, or that is to stay for good (`loginctl enable-linger`), is
 * left alone.
 */
export async function redirectUserManager(
  host: Host,
  paths: Paths,
  uid: number,
  root: string,
): Promise<void> {
  host.symlink(root, userFiles(paths, uid).root);
  const known = `/run/systemd/users/${uid}`;
  // Asked first: at nearly every login logind does not know the person yet, and a failed read is an error thrown.
  if (!host.exists(known) || !host.read(known)?.includes('\nSTATE=closing\n')) return;
  const args = ['restart', `user@${uid}.service`];
  await host.run({ file: 'systemctl', args, effect: 'write', okCodes: [0, 1, 5] });
}

/** From here on it starts on the host again. With `root`, only where the link leads there and not to a newer session. */
export function resetUserManager(host: Host, paths: Paths, uid: number, root?: string): void {
  const link = userFiles(paths, uid).root;
  const now = host.readlink(link);
  if (now === undefined || (root !== undefined && now !== root)) return;
  // While the runtime directory is there user@ may start without the unit that would make the link.
  if (!host.exists(`/run/user/${uid}`)) host.unlink(link);
  else if (now !== '/') host.symlink('/', link);
}
