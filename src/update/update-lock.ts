/** The lock for everything that changes master or the pool. */
import { MayflyError } from '../errors.ts';
import { takeLock } from '../state/locks.ts';
import { loginBlockReason } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories } from '../state/paths.ts';
import { clearRunning, readRunning, writeRunning } from '../state/update-history.ts';
import { tryPublishSessions } from './greeter.ts';
import { writeHealth } from './health.ts';

/**
 * Runs `act` while holding the lock `update`; `fd` is its descriptor. `what` names the action for status and
 * messages. Throws `locked`, with the running action and its start if known, and `held` while logins are blocked.
 */
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
      `${running.what} has been running since ${since} (process ${running.holder.pid}, "${running.phase}")`,
      { pid: running.holder.pid, since, phase: running.phase },
    );
  });
  try {
    const blocked = loginBlockReason(on);
    if (blocked !== undefined) throw new MayflyError('held', blocked); // the pending reboot would interrupt it
    writeRunning(host, paths, { what, since: host.now(), phase: 'prepare' });
    return await act(lock.fd);
  } finally {
    clearRunning(host, paths);
    await writeHealth(on);
    lock.release();
    await tryPublishSessions(on); // also after a failure: others that did not get the lock rely on it
  }
}
