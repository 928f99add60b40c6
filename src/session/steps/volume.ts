/** The volume of a session: a private fork of the generation. */
import { limitsOf } from '../../config/config.ts';
import { MayflyError } from '../../errors.ts';
import { parseSize } from '../../size.ts';
import { readPool } from '../../state/pool.ts';
import { admit, usageOf } from '../../volume/usage.ts';
import type { Step } from './step.ts';

/** A private fork of the generation. */
export const volume: Step = {
  name: 'volume',
  async up(s, on) {
    const backend = on.backend(s.volume.backend);
    const min_free = parseSize(on.config.admission.min_free);
    const max_used_percent = limitsOf(on.config, s.volume.backend).full;
    admit(await backend.usage(s.volume.pool, true), s.volume.pool, { max_used_percent, min_free });
    // An image is sparse: what holds it can be full before it is. Only a btrfs is ever in one.
    const image = s.volume.backend === 'btrfs' ? readPool(on.host, on.paths)?.image : undefined;
    if (image !== undefined) admit(usageOf(on.host, image), image, { max_used_percent: 100, min_free });
    if (!s.volume.origin) throw new MayflyError('corrupt', `session "${s.id}" names no generation`);
    const { upper, size } = on.config.overlay;
    const cow = on.config.lvm.cow_size;
    await backend.fork(s.volume.origin, s.volume, { upper, size, cow, lockFds: on.lockFds });
    return s;
  },
  async down(s, on) {
    await on.backend(s.volume.backend).remove(s.volume); // refuses while anybody holds it
  },
};
