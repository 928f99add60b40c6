/** The reverse of `init`: removes the pool, all generations and the state. */
import { REMEDY } from '../advice.ts';
import { LAST_GOOD } from '../config/load.ts';
import { MayflyError } from '../errors.ts';
import { removeIfEmpty } from '../linux/files.ts';
import { isMounted } from '../linux/mounts.ts';
import { changeState, forgetAll, generationNumbers, stableNumber } from '../state/generations.ts';
import { takeLock, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { ENABLED_MARKER, isSystemInstance, makeDirectories } from '../state/paths.ts';
import { readPool } from '../state/pool.ts';
import { movePointer } from '../state/promotion-lock.ts';
import { sessionIds } from '../state/sessions.ts';
import { forgetMaster } from './adopt.ts';
import { untagSessions } from './cache-tag.ts';
import { findPool } from './find-pool.ts';
import { mountPool } from './pool.ts';
import { isAnotherPool } from './pool-place.ts';

/**
 * Removes what `init` created, the stable pointer first. Throws `refused` while there are sessions or while a display
 * manager uses Mayfly, `locked` while an update runs, and `stuck` for a volume in use. Safe to repeat.
 */
export async function destroy(on: Machine): Promise<void> {
  const { host, paths } = on;
  makeDirectories(host, paths);
  await withLock(host, paths, 'update', 0, async () => {
    const sessions = sessionIds(host, paths);
    if (sessions.length > 0) {
      throw new MayflyError('refused', `there are sessions: ${sessions.join(', ')}; end them first`, {
        sessions,
        hint: REMEDY.sessions,
      });
    }
    if (isSystemInstance(paths) && host.exists(ENABLED_MARKER)) {
      throw new MayflyError('refused', 'a display manager still uses Mayfly', {
        hint: REMEDY.disable,
      });
    }
    const pool = readPool(host, paths) ?? (await findPool(on));
    if (pool && isAnotherPool(on, pool))
      throw new MayflyError('refused', `another pool is at "${pool.path}", not the one of this machine`, {
        path: pool.path,
        hint: REMEDY.examine,
      });
    const o = { what: 'the removal of all generations', seconds: 30, isRemoval: true } as const;
    await movePointer(on, o, point => refuseLogins(on, point));
    if (pool) {
      await mountPool(on, pool);
      const backend = on.backend(pool.backend);
      if (backend.isThere?.(pool.path) === false)
        on.log(
          'warning',
          `there is no pool at "${pool.path}": what a file system holds that is not mounted stays`,
        );
      // The last logout may still be making a spare.
      const spare = await takeLock(host, paths, 'spare', 30);
      const { volumes, leftovers, discarded, spares } = await backend.list(pool.path);
      for (const name of [...leftovers, ...discarded.map(d => d.name), ...spares.values()])
        await backend.sweep(pool.path, name);
      spare.release(); // without a stable generation no more spares are made
      // Sessions first: a classic LVM volume cannot be removed before its snapshots.
      const order = [...volumes].sort((a, b) => Number(b.role === 'session') - Number(a.role === 'session'));
      for (const v of order) await backend.remove(v);
      untagSessions(host, pool.path);
      await backend.dissolve(pool.path);
      if (pool.image !== undefined && isMounted(host, pool.path)) {
        await host.run({ file: 'umount', args: ['--', pool.path], effect: 'write' });
      }
      forgetAll(host, paths);
      forgetMaster(on);
      for (const file of [
        `${paths.state}/update.json`,
        paths.heldBack,
        paths.refused,
        `${paths.run}/health`,
        `${paths.run}/sightings.json`,
        `${paths.run}/volumes.json`,
        paths.promotion,
        paths.loginBlock,
      ])
        host.unlink(file);
      if (isSystemInstance(paths)) host.unlink(LAST_GOOD);
      host.unlink(paths.poolFile); // before the image: an image on record must exist
      if (pool.image !== undefined) host.unlink(pool.image);
      removeIfEmpty(host, pool.path);
    }
    if (isMounted(host, paths.roots))
      await host.run({ file: 'umount', args: ['--', paths.roots], effect: 'write' });
  });
  for (const path of [paths.roots, paths.users, paths.generations, paths.sessions, paths.state])
    removeIfEmpty(host, path);
}

/**
 * Removes the pointer, retires all generations, and then looks for sessions again. A login writes its record before
 * it checks its generation (state/generations.ts), so a login that came in between is seen now; then all is put back.
 */
function refuseLogins({ host, paths }: Machine, point: (to: number) => void): void {
  const stable = stableNumber(host, paths);
  const generations = generationNumbers(host, paths);
  host.unlink(paths.stable);
  for (const n of generations) changeState(host, paths, n, 'proven', 'retired');
  const sessions = sessionIds(host, paths);
  if (sessions.length === 0) return;
  for (const n of generations) changeState(host, paths, n, 'retired', 'proven');
  if (stable !== undefined) point(stable);
  throw new MayflyError('refused', `a user has just logged in: ${sessions.join(', ')}`, {
    sessions,
    hint: REMEDY.sessions,
  });
}
