/** Names who keeps a volume in use, where the backend only knows that somebody does. */
import { MayflyError } from '../errors.ts';
import { bootId } from '../linux/process-id.ts';
import { describeHolders, findHolders } from '../linux/processes.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import { UNSEEN } from '../volume/backend.ts';

/**
 * Returns `error` with the processes that use the volume, or with the statement that /proc shows none. While a volume is
 * in use, the kernel gives its device number to no other file system.
 */
export async function withHolders(s: Session, { host }: Machine, error: unknown): Promise<unknown> {
  const [device] = s.devices;
  if (!(error instanceof MayflyError) || error.code !== 'stuck') return error;
  if (s.volume.backend !== 'overlay' || device === undefined || s.boot !== bootId(host)) return error;
  const number = `${(device >> 8) & 0xfff}:${(device & 0xff) | ((device >> 12) & ~0xff)}`;
  const who = await findHolders(host, new Set([device]), { device: number, root: '' }).then(
    holders => describeHolders(holders) || UNSEEN,
    () => UNSEEN,
  );
  return new MayflyError('stuck', `${error.message}; ${who}`, error.facts, { cause: error });
}
