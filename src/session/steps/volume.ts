/** The volume of a session: a private snapshot of the generation. */
import { REMEDY } from '../../advice.ts';
import { limitsOf } from '../../config/config.ts';
import { isErrno, MayflyError, reasonOf } from '../../errors.ts';
import { parseSize } from '../../size.ts';
import type { Machine } from '../../state/machine.ts';
import { readPool } from '../../state/pool.ts';
import type { Session } from '../../state/sessions.ts';
import { forkStable } from '../../state/stable-fork.ts';
import { admit, usageOf } from '../../volume/usage.ts';
import type { Step } from './step.ts';

/** Throws `full` if the pool has too little space for another session. */
async function admitSession(s: Session, on: Machine): Promise<void> {
  const min_free = parseSize(on.config.admission.min_free);
  const max_used_percent = limitsOf(on.config, s.volume.backend).full;
  const usage = await on.backend(s.volume.backend).usage(s.volume.pool, true);
  admit(usage, s.volume.pool, { max_used_percent, min_free });
  // The image is sparse, so the file system that holds it can fill up first. Only a btrfs pool can be in an image.
  const image = s.volume.backend === 'btrfs' ? readPool(on.host, on.paths)?.image : undefined;
  if (image !== undefined) admit(await usageOf(on.host, image), image, { max_used_percent: 100, min_free });
}

export const volume: Step = {
  name: 'volume',
  async up(s, on) {
    const backend = on.backend(s.volume.backend);
    try {
      await admitSession(s, on);
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== 'full') throw error;
      const { admitWhenErased } = await import('../space-being-freed.ts');
      await admitWhenErased(s, on, error, () => admitSession(s, on));
    }
    if (!s.volume.origin) throw new MayflyError('corrupt', `session "${s.id}" names no generation`);
    const { upper, size } = on.config.overlay;
    const cow = on.config.lvm.cow_size;
    const { origin } = s.volume;
    const fork = (lockFds: readonly number[]) =>
      backend.fork(origin, s.volume, { upper, size, cow, lockFds });
    try {
      await (s.fromStable ? forkStable(on, s.generation, fork) : fork(on.lockFds));
    } catch (error) {
      throw poolFault(error, s.volume.pool);
    }
    return s;
  },
  async down(s, on) {
    const backend = on.backend(s.volume.backend);
    // The user's lock is held: what takes as long as the user likes must not happen here. Throws `stuck` while in use.
    const discard = (): Promise<void> =>
      backend.discard ? backend.discard(s.volume) : backend.remove(s.volume);
    try {
      await discard();
    } catch (error) {
      const { discardWithoutHolders } = await import('../unseen-holders.ts');
      await discardWithoutHolders(s, on, error, discard);
    }
  },
};

/**
 * Turns the failure of a storage command, or of the pool's file system, into `refused` or `full`: the pool has a fault,
 * not the generation, and a rollback would not help. Other errors are returned unchanged.
 */
function poolFault(error: unknown, pool: string): unknown {
  const isFull = isErrno(error, 'ENOSPC', 'EDQUOT');
  const isFault =
    isFull || isErrno(error, 'EIO', 'EROFS') || (error instanceof MayflyError && error.code === 'command');
  if (!isFault) return error;
  const what = `cannot create a session in the pool "${pool}": ${reasonOf(error)}`;
  return new MayflyError(isFull ? 'full' : 'refused', what, { pool, hint: REMEDY.examine }, { cause: error });
}
