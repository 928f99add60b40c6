/** The ID of a machine is not a part of an image, or all machines that use it would have the same one. */
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';

/**
 * Takes the machine's ID out of the tree, where the installation of systemd or D-Bus may have made one. The file stays, and
 * is empty: a boot fills it in, and a login writes that of the host. D-Bus has a symlink to it.
 */
export function forgetMachineId(host: Host, tree: string): void {
  const path = '/etc/machine-id';
  const there = host.lstat(tree + path);
  const isEmpty = there?.kind === 'file' && there.size === 0;
  if (!isEmpty && isPlainDirectory(host, tree, '/etc')) host.write(tree + path, '', { mode: 0o444 });
  const copy = `${tree}/var/lib/dbus/machine-id`;
  if (!isPlainDirectory(host, tree, '/var/lib/dbus') || host.readlink(copy) === path) return;
  if (host.lstat(copy)?.kind !== 'dir') host.symlink(path, copy);
}
