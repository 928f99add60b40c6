/** Comparing the identities of volumes, and whose they are. */
import { uidOfSession } from '../names.ts';
import type { Volume } from './backend.ts';

/**
 * Returns whether `identity` is the one that was `recorded`. Earlier versions recorded only the beginning of it:
 * "subvolume", or the inode number.
 */
export function isSameVolume(identity: string | undefined, recorded: string): boolean {
  return identity !== undefined && (identity === recorded || identity.startsWith(`${recorded} `));
}

/**
 * Whose processes are looked at to find out whether a volume is in use: those of its session's user and of the system.
 * Other users can have millions of descriptors, and everybody's logout would wait for the look at them.
 */
export function ownersOf(v: Volume): { uid: number; system: true } {
  return { uid: v.role === 'session' ? uidOfSession(v.name) : 0, system: true };
}
