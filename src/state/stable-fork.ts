/**
 * The login's half of the lock between logins and promotions; the other half is in `promotion-lock.ts`, which also says
 * why the two halves are enough.
 */
import { MayflyError } from '../errors.ts';
import { stableNumber } from './generations.ts';
import type { Machine } from './machine.ts';

/**
 * Runs `fork`, which forks generation `number` because it is stable, while no promotion can happen. `fork` gets the
 * descriptors that its storage commands inherit: one that outlives this process still keeps promotions waiting. Costs a
 * login no process. Throws `locked` if the pointer has moved since `number` was read from it (`moved` in the facts), or if
 * a promotion does not end.
 */
export async function forkStable(
  { host, paths, lockFds }: Machine,
  number: number,
  fork: (fds: readonly number[]) => Promise<void>,
): Promise<void> {
  let fd = host.openFifo(paths.forks);
  if (fd === undefined || host.exists(paths.promotion)) {
    const { waitForPromotion } = await import('./promotion-lock.ts');
    fd = await waitForPromotion(host, paths, fd);
  }
  try {
    if (stableNumber(host, paths) !== number)
      throw new MayflyError('locked', `generation ${number} is no longer stable`, { moved: true });
    await fork([...lockFds, fd]);
  } finally {
    host.close(fd);
  }
}
