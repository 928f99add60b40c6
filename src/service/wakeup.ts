/** A loop's alarm clock: sleeps until it is rung, or until a time. */
import type { Host } from '../linux/host.ts';

/** Rings that come within so many milliseconds are one: an event seldom comes alone. */
const DEBOUNCE = 200;

export interface Wakeup {
  notify(): void;
  /** Waits for a ring, for so many milliseconds; a few that come together are one. Says whether there was any. */
  wait(ms: number): Promise<boolean>;
}

export function makeWakeup(host: Host): Wakeup {
  let rings = 0;
  let wake = (): void => undefined;
  return {
    notify() {
      rings += 1;
      wake();
    },
    async wait(ms) {
      if (rings === 0) {
        const ring = new Promise<void>(yes => {
          wake = yes;
        });
        await Promise.race([ring, host.sleep(Math.max(0, ms))]);
      }
      if (rings === 0) return false;
      await host.sleep(DEBOUNCE);
      rings = 0;
      return true;
    },
  };
}
