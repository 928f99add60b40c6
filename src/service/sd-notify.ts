/**
 * What systemd is told of the service (sd_notify(3)), by systemd-notify(1): the socket is a datagram one, which Node
 * lacks. Where nobody listens nothing is run.
 */
import { reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Log } from '../linux/log.ts';

export interface ServiceManager {
  /** Assignments such as `READY=1`. Never rejects. */
  tell(...words: readonly string[]): Promise<void>;
  /** How often `WATCHDOG=1` is due, in milliseconds; undefined where nobody waits for it. */
  readonly pingEvery?: number;
}

export function serviceManager(host: Host, env: NodeJS.ProcessEnv, log: Log): ServiceManager {
  const socket = env.NOTIFY_SOCKET;
  if (!socket) return { tell: async () => undefined };
  const limit = Number(env.WATCHDOG_USEC ?? 0) / 1000;
  const ours = env.WATCHDOG_PID === undefined || env.WATCHDOG_PID === String(host.pid);
  return {
    ...(limit > 0 && ours ? { pingEvery: limit / 2 } : {}),
    async tell(...words) {
      const args = [`NOTIFY_SOCKET=${socket}`, 'systemd-notify', ...words];
      try {
        await host.run({ file: 'env', args, effect: 'write' });
      } catch (error) {
        log('debug', `systemd was not told: ${reasonOf(error)}`);
      }
    },
  };
}
