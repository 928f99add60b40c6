/** Copying one volume's tree into another, fresh one, as only classic LVM has to. */
import type { Command } from '../../linux/command.ts';
import { makeMountOps, mountCommand } from '../../linux/mount-program.ts';
import type { FileSystem } from '../backend.ts';
import { deviceOf } from './names.ts';
import { optionsFor } from './options.ts';

/**
 * cp(1) in a mount namespace of its own: nobody else sees the two mounts, and they go with it, also when it is killed.
 * There, /run is a directory to put them in; cp needs none.
 */
export function copyTree(
  group: string,
  fs: FileSystem,
  from: string,
  to: string,
  fds: readonly number[],
): Command {
  const callFor = makeMountOps();
  const volume = (name: string, place: string, read: boolean) =>
    callFor({ source: deviceOf(group, name), target: place, type: fs, options: optionsFor('lvm', fs, read) });
  const words = ['cp', '-a', '--one-file-system', '-T', '--', '/run/from', '/run/to'];
  const perl = mountCommand([
    callFor({ source: 'mayfly', target: '/run', type: 'tmpfs', options: 'mode=0700,size=1M' }),
    { op: 'dir', target: '/run/from' },
    { op: 'dir', target: '/run/to' },
    volume(from, '/run/from', true),
    volume(to, '/run/to', false),
    { op: 'enter', target: '', merge: false, argv: words },
  ]);
  const args = ['--mount', '--propagation', 'private', '--', perl.file, ...perl.args];
  return {
    file: 'unshare',
    args,
    effect: 'write',
    inheritFds: fds,
    describe: () => [`copy ${from} to ${to}`],
  };
}
