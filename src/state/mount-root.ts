/** The private file system in which all mount points are. */
import { isMounted, makePrivateRoot } from '../linux/mounts.ts';
import { withLock } from './locks.ts';
import type { Machine } from './machine.ts';

/** Where mount points are. At the first login since boot two at once would each mount one, and hide the other's. */
export async function ensureMountRoot({ host, paths }: Machine): Promise<void> {
  if (isMounted(host, paths.roots)) return;
  await withLock(host, paths, 'roots', 10, () => makePrivateRoot(host, paths.roots));
}
