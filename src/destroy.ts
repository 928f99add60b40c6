/** The reverse of `init`: takes away pool, generations and state. Only where no session is left. */
import { MayflyError } from './errors.ts';
import type { Host } from './host.ts';
import { withLock } from './locks.ts';
import { isMounted } from './mounts.ts';
import { mountPool } from './recover.ts';
import { generationNumbers, makeDirectories, readPool, sessionIds } from './state.ts';
import type { Machine } from './steps.ts';

/** Removes what `init` made, the pointer first. Refuses while there are sessions. Safe to repeat. */
export async function destroy(on: Machine): Promise<void> {
  const { host, paths } = on;
  makeDirectories(host, paths);
  await withLock(host, paths, 'update', 0, async () => {
    const sessions = sessionIds(host, paths);
    if (sessions.length > 0) {
      throw new MayflyError('refused', `there are sessions: ${sessions.join(', ')}; end them first`, {
        sessions,
      });
    }
    const pool = readPool(host, paths);
    host.unlink(paths.stable); // from here on no login can begin
    for (const number of generationNumbers(host, paths)) host.unlink(`${paths.generations}/${number}.json`);
    if (pool) {
      await mountPool(on, pool);
      const backend = on.backend(pool.backend);
      const { volumes, litter } = backend.list(pool.path);
      for (const name of litter) await backend.sweep(pool.path, name);
      for (const v of volumes) await backend.remove(v);
      emptyPool(host, pool.path);
      if (pool.image !== undefined) {
        await host.run({ file: 'umount', args: ['--', pool.path], effect: 'write' });
        host.unlink(pool.image);
      }
      host.rmdir(pool.path);
      host.unlink(paths.poolFile);
    }
    if (isMounted(host, paths.roots))
      await host.run({ file: 'umount', args: ['--', paths.roots], effect: 'write' });
  });
  for (const path of [paths.roots, paths.users, paths.generations, paths.sessions, paths.state])
    removeIfEmpty(host, path);
}

function emptyPool(host: Host, pool: string): void {
  for (const name of ['generations', 'sessions']) host.rmdir(`${pool}/${name}`);
  host.unlink(`${pool}/.mayfly-pool`);
}

function removeIfEmpty(host: Host, path: string): void {
  if (host.lstat(path)?.kind === 'dir' && host.list(path).length === 0) host.rmdir(path);
}
