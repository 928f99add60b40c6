/** Options of LVM's commands, and mount options of its volumes. */
import { DIGITS, isMadeOf } from '../../names.ts';
import { parseSize } from '../../size.ts';
import type { BackendKind, FileSystem } from '../backend.ts';

/**
 * Settings that this code relies on, whatever lvm.conf(5) says. No archive: a copy of the metadata before every login
 * and logout would fill /etc/lvm/archive, and the command fails if it cannot be written, so a full or read-only root
 * file system would prevent logouts from freeing space. The current copy in /etc/lvm/backup is still kept. A device in
 * use for a moment is waited for, and one for which udev has made no name in /dev gets it from LVM.
 */
export const STEADY: readonly string[] = [
  '--config',
  [
    'backup{archive=0}',
    'activation{retry_deactivation=1 verify_udev_operations=1}',
    'report{binary_values_as_numeric=0 list_item_separator=","}',
  ].join(' '),
];

/** Mount options for a volume. Pure. */
export function optionsFor(kind: BackendKind, fs: FileSystem, readOnly: boolean): string {
  const options = [
    readOnly ? 'ro' : 'rw',
    // A snapshot has the UUID of its origin, and XFS refuses to mount the same UUID twice.
    ...(fs === 'xfs' ? ['nouuid'] : []),
    // Otherwise every session would initialize inode tables in the background and use pool space for them.
    ...(fs === 'ext4' ? ['noinit_itable'] : []),
    // Deleted data is returned to the thin pool at once, not only at the end of the session.
    ...(kind === 'lvm-thin' && !readOnly ? ['discard'] : []),
  ];
  return options.join(',');
}

/** Size options of lvcreate(8): for a size such as "10G", or a part such as "20%" of `total`. */
export function sizeArguments(size: string, total: 'ORIGIN' | 'FREE'): string[] {
  if (size.endsWith('%') && isMadeOf(size.slice(0, -1), DIGITS)) return ['-l', `${size}${total}`];
  return ['-L', mebibytes(parseSize(size))];
}

/** Bytes as an argument, in MiB. LVM accepts only sizes that are a multiple of a sector, which "1.3G" is not. */
export function mebibytes(bytes: number): string {
  return `${Math.max(1, Math.floor(bytes / 2 ** 20))}m`;
}
