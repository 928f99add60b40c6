/** The volume of a session: a private snapshot of the generation. */
import { limitsOf } from '../../config/config.ts';
import { MayflyError } from '../../errors.ts';
import { bootId } from '../../linux/process-id.ts';
import { parseSize } from '../../size.ts';
import type { Machine } from '../../state/machine.ts';
import { readPool } from '../../state/pool.ts';
import type { Session } from '../../state/sessions.ts';
import { admit, usageOf } from '../../volume/usage.ts';
import type { Step } from './step.ts';

export const volume: Step = {
  name: 'volume',
  async up(s, on) {
    const backend = on.backend(s.volume.backend);
    const min_free = parseSize(on.config.admission.min_free);
    const max_used_percent = limitsOf(on.config, s.volume.backend).full;
    admit(await backend.usage(s.volume.pool, true), s.volume.pool, { max_used_percent, min_free });
    // The image is sparse, so the file system that holds it can fill up first. Only a btrfs pool can be in an image.
    const image = s.volume.backend === 'btrfs' ? readPool(on.host, on.paths)?.image : undefined;
    if (image !== undefined) admit(usageOf(on.host, image), image, { max_used_percent: 100, min_free });
    if (!s.volume.origin) throw new MayflyError('corrupt', `session "${s.id}" names no generation`);
    const { upper, size } = on.config.overlay;
    const cow = on.config.lvm.cow_size;
    await backend.fork(s.volume.origin, s.volume, { upper, size, cow, lockFds: on.lockFds });
    return s;
  },
  async down(s, on) {
    const remove = (): Promise<void> => on.backend(s.volume.backend).remove(s.volume); // throws `stuck` while it is in use
    try {
      await remove();
    } catch (error) {
      const [device] = s.devices;
      if (!(error instanceof MayflyError && error.code === 'stuck') || !isOwn(s, on, device)) throw error;
      const { endHolders } = await import('../end-holders.ts');
      const directory = on.backend(s.volume.backend).path(s.volume);
      const others = await endHolders(on.host, s, device, directory, on.config.logout.kill_timeout * 1000);
      if (others === '') return remove();
      throw error.message.includes(others)
        ? error
        : new MayflyError('stuck', `${error.message}; held by ${others}`, error.facts);
    }
  },
};

/**
 * Whether a recorded device is still that of the session's volume, which is in use. The kernel reuses the numbers of
 * file systems that are gone, so it must not be that of another session.
 */
function isOwn(s: Session, { host, paths }: Machine, device: number | undefined): device is number {
  const roots = host.list(paths.roots).map(name => host.lstat(`${paths.roots}/${name}`)?.dev);
  return device !== undefined && s.boot === bootId(host) && !roots.includes(device);
}
