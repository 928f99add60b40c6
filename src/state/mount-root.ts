/** The private file system that holds all mount points. */
import { isMounted, makePrivateRoot } from '../linux/mounts.ts';
import { withLock } from './locks.ts';
import type { Machine } from './machine.ts';

/**
 * Mounts the private file system for mount points unless it is mounted. The lock keeps two concurrent first logins
 * after boot from each mounting one and hiding the other's. Throws `locked` after 10 s.
 */
export async function ensureMountRoot({ host, paths }: Machine): Promise<void> {
  if (isMounted(host, paths.roots)) return;
  await withLock(host, paths, 'roots', 10, () => makePrivateRoot(host, paths.roots));
}
