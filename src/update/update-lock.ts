/** The lock of everything that changes master or the pool. */
import { MayflyError } from '../errors.ts';
import { takeLock } from '../state/locks.ts';
import { loginBlockReason } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories } from '../state/paths.ts';
import { clearRunning, readRunning, writeRunning } from '../state/update-history.ts';
import { tryPublishSessions } from './greeter.ts';
import { writeHealth } from './health.ts';

/** Takes the lock of all that changes master; throws `locked` with who has it and since when. */
export async function withUpdateLock<T>(
  on: Machine,
  what: string,
  act: (fd: number) => Promise<T>,
): Promise<T> {
  const { host, paths } = on;
  makeDirectories(host, paths);
  const lock = await takeLock(host, paths, 'update', 0).catch(error => {
    const running = readRunning(host, paths);
    if (!(error instanceof MayflyError) || error.code !== 'locked' || !running) throw error;
    const since = new Date(running.since).toISOString();
    throw new MayflyError(
      'locked',
      `${running.what} is at work since ${since} (process ${running.holder.pid}, "${running.phase}")`,
      { pid: running.holder.pid, since, phase: running.phase },
    );
  });
  try {
    const held = loginBlockReason(on);
    if (held !== undefined) throw new MayflyError('held', held); // a restart would cut it short
    writeRunning(host, paths, { what, since: host.now(), phase: 'prepare' });
    return await act(lock.fd);
  } finally {
    clearRunning(host, paths);
    await writeHealth(on);
    lock.release();
    await tryPublishSessions(on); // whatever came of it: who was refused the lock meanwhile left this to us
  }
}
