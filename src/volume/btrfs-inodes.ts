/**
 * What is at a path on btrfs: a subvolume, or what a snapshot leaves in place of each subvolume that is nested in it: an
 * empty directory that cannot be written to. So where the system's root, which holds the pool, is put back to a snapshot,
 * volumes are such directories.
 */
import { isErrno } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Volume } from './backend.ts';
import { mustBeAbsent, volumePath } from './directory-layout.ts';

/** Inode number of every subvolume's root directory (BTRFS_FIRST_FREE_OBJECTID). */
const SUBVOLUME_ROOT = 256;

/** The inode number of such an empty directory (BTRFS_EMPTY_SUBVOL_DIR_OBJECTID). */
const HOLLOW = 2;

const isDirectoryWith = (host: Host, path: string, ino: number): boolean => {
  const s = host.lstat(path);
  return s?.kind === 'dir' && s.ino === ino;
};

export function isSubvolumeAt(host: Host, path: string): boolean {
  return isDirectoryWith(host, path, SUBVOLUME_ROOT);
}

export function isHollow(host: Host, path: string): boolean {
  // The root of an ext4 has this number, too, but it is not empty.
  return isDirectoryWith(host, path, HOLLOW) && host.list(path).length === 0;
}

/** Removes such a directory: what it stood for is elsewhere, and it keeps others from the name. */
export function dropHollow(host: Host, path: string): void {
  if (!isHollow(host, path)) return;
  try {
    host.rmdir(path);
  } catch (error) {
    if (!isErrno(error, 'EBUSY')) throw error; // an empty ext4 that is mounted here
  }
}

/** Throws `exists` if there is anything at the path of `v` but such a directory, which is removed. */
export function requireFreeName(host: Host, v: Volume): void {
  if (v.role !== 'session') dropHollow(host, volumePath(v));
  mustBeAbsent(host, v);
}
