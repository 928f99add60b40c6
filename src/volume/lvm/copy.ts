/** Copies one volume's tree into a new volume; only classic LVM needs it. */
import type { Command } from '../../linux/command.ts';
import { makeMountOps, mountCommand } from '../../linux/mount-program.ts';
import type { FileSystem } from '../backend.ts';
import { deviceOf } from './names.ts';
import { optionsFor } from './options.ts';

/**
 * Returns the command that copies volume `from` to volume `to` of `group`. cp(1) runs in its own mount namespace: no
 * other process sees the two mounts, and they disappear with it, also if it is killed. /run is only a place for them
 * there; cp does not need it.
 */
export function copyTree(
  group: string,
  fs: FileSystem,
  from: string,
  to: string,
  fds: readonly number[],
): Command {
  const mountOpFor = makeMountOps();
  const volume = (name: string, target: string, readOnly: boolean) =>
    mountOpFor({ source: deviceOf(group, name), target, type: fs, options: optionsFor('lvm', fs, readOnly) });
  const argv = ['cp', '-a', '--one-file-system', '-T', '--', '/run/from', '/run/to'];
  const perl = mountCommand([
    mountOpFor({ source: 'mayfly', target: '/run', type: 'tmpfs', options: 'mode=0700,size=1M' }),
    { op: 'dir', target: '/run/from' },
    { op: 'dir', target: '/run/to' },
    volume(from, '/run/from', true),
    volume(to, '/run/to', false),
    { op: 'enter', target: '', merge: false, argv },
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
