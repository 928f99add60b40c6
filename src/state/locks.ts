/**
 * Locks by flock(2). flock(1) takes the lock on a descriptor that it inherits from this process, so the lock remains
 * when flock(1) exits and is released when this process dies. A storage command that outlives this process can
 * inherit it. Lock files are never unlinked: two waiters could then hold "the same" lock on two inodes. If somebody else
 * unlinks one, a lock on the old inode does not count.
 *
 * Order: `update`, then a user's lock, then `promote` (see promotion-lock.ts). No code takes an earlier one while it holds a later one.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Paths } from './paths.ts';

export interface Lock {
  readonly fd: number;
  release(): void;
}

/** The exit code that flock(1) is told to use after its timeout; its own errors have other codes. */
const NOT_FREE = 75;

/** Takes the lock `name` exclusively; throws `locked` if it is not free within `seconds` (0: at once). */
export async function takeLock(host: Host, paths: Paths, name: string, seconds: number): Promise<Lock> {
  const path = `${paths.locks}/${name}`;
  const end = host.monotonic() + seconds * 1000;
  for (;;) {
    const fd = host.openLock(path);
    try {
      const left = Math.max(0, end - host.monotonic()) / 1000;
      const wait = left > 0 ? ['-w', String(left)] : ['-n'];
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
          `"${path}" is locked by another mayfly process and was not released within ${seconds} s`,
          { lock: name },
        );
      }
      const locked = host.stat(`/proc/self/fd/${fd}`)?.ino; // undefined in a dry run
      if (locked === undefined || locked === host.lstat(path)?.ino)
        return { fd, release: () => host.close(fd) };
    } catch (error) {
      host.close(fd);
      throw error;
    }
    host.close(fd); // the file was unlinked while this process waited; others lock the new one
  }
}

/** Runs `act` while holding the lock `name`; throws `locked` like {@link takeLock}. */
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
 * Name of the lock for a session: one per user for logins. Sessions of `mayfly run` share sixteen locks, by the last
 * digit of their ID, so that the number of lock files, which are never unlinked, stays small.
 */
export function lockNameOf(s: {
  readonly kind: 'login' | 'run';
  readonly id: string;
  readonly user: { readonly uid: number };
}): string {
  return s.kind === 'login' ? `user-${s.user.uid}` : `run-${s.id.slice(-1)}`;
}
