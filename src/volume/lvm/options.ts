/** Options of LVM commands and of mounting its volumes. */
import { DIGITS, isMadeOf } from '../../names.ts';
import { parseSize } from '../../size.ts';
import type { BackendKind, FileSystem } from '../backend.ts';

/**
 * What lvm.conf(5) may say otherwise and we rely on. An archived copy of the metadata before every login and logout
 * would fill /etc/lvm/archive, and one that can not be written fails the command: a full or read-only root file
 * system would keep logouts from making room. The current copy in /etc/lvm/backup is still kept.
 */
export const STEADY: readonly string[] = [
  '--config',
  [
    'backup{archive=0}',
    'activation{retry_deactivation=1}',
    'report{binary_values_as_numeric=0 list_item_separator=","}',
  ].join(' '),
];

/** Options of mount(2) for a volume; `read`: nothing is to be written. */
export function optionsFor(kind: BackendKind, fs: FileSystem, read: boolean): string {
  const words = [
    read ? 'ro' : 'rw',
    // A snapshot has the UUID of its origin, which XFS takes for the same file system twice.
    ...(fs === 'xfs' ? ['nouuid'] : []),
    // Else every session of a generation would zero inode tables in the background, and pay for them in the pool.
    ...(fs === 'ext4' ? ['noinit_itable'] : []),
    // What is deleted is given back to the thin pool, not only at the end of the session.
    ...(kind === 'lvm-thin' && !read ? ['discard'] : []),
  ];
  return words.join(',');
}

/** Options of lvcreate(8) for a size: of a part, "20%" of `whole`, or bytes. */
export function sizeArguments(size: string, whole: 'ORIGIN' | 'FREE'): string[] {
  if (size.endsWith('%') && isMadeOf(size.slice(0, -1), DIGITS)) return ['-l', `${size}${whole}`];
  return ['-L', mebibytes(parseSize(size))];
}

/** As an argument. LVM takes no sizes that are not of whole sectors, and "1.3G" is none. */
export function mebibytes(bytes: number): string {
  return `${Math.max(1, Math.floor(bytes / 2 ** 20))}m`;
}
