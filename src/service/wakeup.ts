/** Lets a loop sleep until a notification or a time. */
import type { Host } from '../linux/host.ts';

/** Notifications within so many milliseconds count as one, because events come in groups. */
const DEBOUNCE = 200;

export interface Wakeup {
  notify(): void;
  /** Waits for a notification for at most `ms` milliseconds. Resolves with whether there was one. */
  wait(ms: number): Promise<boolean>;
}

export function makeWakeup(host: Host): Wakeup {
  let pending = 0;
  let wake = (): void => undefined;
  return {
    notify() {
      pending += 1;
      wake();
    },
    async wait(ms) {
      if (pending === 0) {
        const notified = new Promise<void>(resolve => {
          wake = resolve;
        });
        await Promise.race([notified, host.sleep(Math.max(0, ms))]);
      }
      if (pending === 0) return false;
      await host.sleep(DEBOUNCE);
      pending = 0;
      return true;
    },
  };
}
