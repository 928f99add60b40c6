/** A login to a full pool in which the volumes of ended sessions are being erased. */
import { MayflyError, reasonOf } from '../errors.ts';
import { describeDiscarded } from '../state/discarded.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import { answerTime } from './mount-plan.ts';

/** How often to look whether there is space, in milliseconds. */
const LOOK_INTERVAL = 100;

/**
 * Waits until `admit` no longer throws, while volumes are being erased and for a part of the login's time. Then throws
 * `full` with how many there are still.
 */
export async function admitWhenErased(
  s: Session,
  { host, config, backend }: Machine,
  full: MayflyError,
  admit: () => Promise<void>,
): Promise<void> {
  const over = host.monotonic() + answerTime(config) * 1000;
  for (let last = full; ; await host.sleep(LOOK_INTERVAL)) {
    const { discarded } = await backend(s.volume.backend).list(s.volume.pool);
    const words = describeDiscarded(discarded);
    if (!words) return admit(); // what has just been erased may have been enough
    if (host.monotonic() >= over || discarded.every(d => d.deleted))
      throw new MayflyError('full', `${last.message}; being freed: ${words}`, last.facts);
    try {
      return await admit();
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== 'full') throw error;
      last = error;
    }
  }
}

/** Bytes and inodes below which a file system is as good as full: a login writes a few small files. */
const FEW = { bytes: 2 ** 20, inodes: 16 } as const;

/** A login that failed because there is no room for its records, as `full`: which directory has none, and of what. */
export function noRoom({ host, paths }: Pick<Machine, 'host' | 'paths'>, cause: unknown): MayflyError {
  const scarce = [paths.run, paths.state].flatMap(path => {
    const { free, inodes, freeInodes } = host.space(path);
    if (inodes > 0 && freeInodes < FEW.inodes) return [`no inodes left in "${path}"`];
    return free < FEW.bytes ? [`no space left in "${path}"`] : [];
  });
  const what =
    scarce.length > 0
      ? `there are ${scarce.join(' and ')}`.replace('are no space', 'is no space')
      : reasonOf(cause);
  return new MayflyError('full', what, { hint: 'df -h; df -i' }, { cause });
}
