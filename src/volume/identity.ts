/** Comparing the identities of volumes. */

/**
 * Returns whether `identity` is the one that was `recorded`. Earlier versions recorded only the beginning of it:
 * "subvolume", or the inode number.
 */
export function isSameVolume(identity: string | undefined, recorded: string): boolean {
  return identity !== undefined && (identity === recorded || identity.startsWith(`${recorded} `));
}
