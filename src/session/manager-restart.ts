/**
 * Restarts the service manager of a user who logs in, so that it is in the new session. There is one for each user. It may
 * be left over from an earlier login (logind keeps it for 10 s by default, UserStopDelaySec), serve another login such as
 * one over ssh, or linger (`loginctl enable-linger`). Stopping it is not enough: the runtime directory would be removed
 * while the new login is being given it (observed; logind starts neither again for a user it still knows).
 */
import { MayflyError } from '../errors.ts';
import type { User } from '../linux/accounts.ts';
import * as cgroup from '../linux/cgroup.ts';
import type { Machine } from '../state/machine.ts';

/** Seconds that the services of a manager have to stop, of the time that a login has in all. */
const MOST_WAIT = 20;

/** The exit code of timeout(1). */
const TIMED_OUT = 124;

/** The manager is that of logind's state `closing`, or it has processes. */
export async function restartManager(on: Machine, { uid, name }: User): Promise<void> {
  const { host, config, log } = on;
  const unit = `user@${uid}.service`;
  const root = cgroup.hierarchy(host);
  const group = `${root}/user.slice/user-${uid}.slice/${unit}`;
  const known = host.read(`/run/systemd/users/${uid}`) ?? '';
  const runs = (): boolean => root !== undefined && cgroup.members(host, group).length > 0;
  const seconds = Math.min(MOST_WAIT, Math.ceil((config.hook.timeout * 2) / 3));
  const saving = (): MayflyError =>
    new MayflyError('saving', `services of an earlier login of ${name} are still stopping`, { user: name });
  // logind has told the manager to stop, and starts it again for this login. One that we start meanwhile it would stop while
  // it starts, and systemd would wait for it (observed with systemd 257).
  if (root !== undefined && known.includes('\nSTOPPING=yes\n')) {
    for (const end = host.monotonic() + seconds * 1000; runs(); await host.sleep(20))
      if (host.monotonic() > end) throw saving();
    return;
  }
  const isClosing = known.includes('\nSTATE=closing\n');
  const isRunning = runs();
  if (!isClosing && !isRunning) return;
  if (!isClosing)
    log('notice', `the services of ${name}, which ran before this login, are started again in the session`);
  const { code } = await host.run({
    file: 'timeout',
    args: ['-k', '1', String(seconds), 'systemctl', 'restart', unit],
    effect: 'write',
    okCodes: [0, 1, 5, TIMED_OUT, 137],
  });
  if (code < TIMED_OUT) return;
  // The login is refused, and nobody would need the manager.
  if (isClosing)
    await host.run({
      file: 'systemctl',
      args: ['--no-block', 'stop', unit],
      effect: 'write',
      okCodes: [0, 1, 5],
    });
  throw saving();
}
