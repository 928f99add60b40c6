/**
 * Notifies systemd of the service's state (sd_notify(3)), with systemd-notify(1), because Node has no datagram sockets of
 * this kind. Without NOTIFY_SOCKET nothing is run.
 */
import { reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Log } from '../linux/log.ts';

export interface ServiceManager {
  /** Sends assignments such as `READY=1`. Never rejects. */
  tell(...assignments: readonly string[]): Promise<void>;
  /** How often to send `WATCHDOG=1`, in milliseconds; undefined without a watchdog. */
  readonly pingEvery?: number;
}

/** The service manager that started this process, from NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID in `env`. */
export function serviceManager(host: Host, env: NodeJS.ProcessEnv, log: Log): ServiceManager {
  const socket = env.NOTIFY_SOCKET;
  if (!socket) return { tell: async () => undefined };
  const limit = Number(env.WATCHDOG_USEC ?? 0) / 1000;
  const ours = env.WATCHDOG_PID === undefined || env.WATCHDOG_PID === String(host.pid);
  return {
    ...(limit > 0 && ours ? { pingEvery: limit / 2 } : {}),
    async tell(...assignments) {
      const args = [`NOTIFY_SOCKET=${socket}`, 'systemd-notify', ...assignments];
      try {
        await host.run({ file: 'env', args, effect: 'write' });
      } catch (error) {
        log('debug', `cannot notify systemd: ${reasonOf(error)}`);
      }
    },
  };
}
