/**
 * flock(2) on descriptors we hold, taken by flock(1) on the inherited descriptor: the lock stays with us when that
 * child exits, dies with us, and can be inherited by a storage command that outlives us. Lock files are never
 * unlinked: two waiters could then hold "the same" lock on two inodes.
 *
 * Order: `update`, then a user's. Nobody takes an earlier one while holding a later one.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Paths } from './paths.ts';

export interface Lock {
  readonly fd: number;
  release(): void;
}

/** flock(1)'s exit code for "not free in time", chosen apart from its own errors. */
const NOT_FREE = 75;

/** Takes `name` exclusively within `seconds`; throws `locked`. */
export async function takeLock(host: Host, paths: Paths, name: string, seconds: number): Promise<Lock> {
  const path = `${paths.locks}/${name}`;
  const fd = host.openLock(path);
  try {
    const wait = seconds > 0 ? ['-w', String(seconds)] : ['-n'];
    const args = ['-x', ...wait, '-E', String(NOT_FREE), '3'];
    const out = await host.run({
      file: 'flock',
      args,
      effect: 'write',
      inheritFds: [fd],
      okCodes: [0, NOT_FREE],
    });
    if (out.code === NOT_FREE) {
      throw new MayflyError(
        'locked',
        `"${path}" is held by another mayfly and was not free within ${seconds} s`,
        { lock: name },
      );
    }
  } catch (error) {
    host.close(fd);
    throw error;
  }
  return { fd, release: () => host.close(fd) };
}

/** Runs `act` while holding the lock. */
export async function withLock<T>(
  host: Host,
  paths: Paths,
  name: string,
  seconds: number,
  act: (lock: Lock) => Promise<T>,
): Promise<T> {
  const lock = await takeLock(host, paths, name, seconds);
  try {
    return await act(lock);
  } finally {
    lock.release();
  }
}

/**
 * The lock of one person's logins. Throw-away sessions share sixteen, by the last digit of their id, so that lock
 * files, which are never unlinked, stay few.
 */
export function lockNameOf(s: {
  readonly kind: 'login' | 'run';
  readonly id: string;
  readonly user: { readonly uid: number };
}): string {
  return s.kind === 'login' ? `user-${s.user.uid}` : `run-${s.id.slice(-1)}`;
}
