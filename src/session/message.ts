/** Messages to the person of a live session. */
import * as cgroup from '../linux/cgroup.ts';
import { onBus } from '../linux/display.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import { screenAt, showDialog } from './refusal-dialog.ts';

/**
 * Shows a message on each X screen of a session, for at most `seconds`, and as a notification of its desktop, which is the
 * only way on Wayland; lightdm names the display of its greeter for such desktops, too, so both are tried. Does not wait
 * for it to be closed. The processes of the window belong to the session and end with it.
 */
export async function showMessage(
  { host, paths }: Machine,
  s: Session,
  title: string,
  text: string,
  seconds?: number,
): Promise<void> {
  const root = cgroup.hierarchy(host);
  // In the group of the service, the person could send messages to systemd in its name (NotifyAccess=all).
  if (root === undefined && host.exists('/run/systemd/system')) return;
  const group = root && cgroup.groupPath(root, paths.cgroup, s.id);
  for (const login of s.logins) {
    const screen = screenAt(host, login, s.user, group);
    if (screen) await showDialog(host, screen, title, text, true, seconds);
  }
  if (host.exists('/usr/bin/busctl'))
    await host.run({ ...onBus({ ...s.user, group }, title, text), background: true });
}
