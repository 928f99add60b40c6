/** Measures how long each of several successive steps takes. */
import type { Host } from './host.ts';

export interface Lap {
  readonly step: string;
  /** Whole milliseconds. */
  readonly took: number;
}

export interface Stopwatch {
  /** The current step; undefined before the first and after the last. */
  readonly step: string | undefined;
  /** Ends the current step, starts `next`, and returns the step that ended. */
  enter(next?: string): Lap | undefined;
  /** The time since the stopwatch was created and the duration of each ended step: "31 ms (record 1, volume 3)". */
  words(): string;
}

export function stopwatch(host: Pick<Host, 'monotonic'>): Stopwatch {
  const made = host.monotonic();
  const laps: Lap[] = [];
  let step: string | undefined;
  let since = made;
  return {
    get step() {
      return step;
    },
    enter(next) {
      const now = host.monotonic();
      const lap = step === undefined ? undefined : { step, took: Math.round(now - since) };
      if (lap) laps.push(lap);
      step = next;
      since = now;
      return lap;
    },
    words() {
      const each = laps.map(l => `${l.step} ${l.took}`).join(', ');
      return `${Math.round(host.monotonic() - made)} ms (${each})`;
    },
  };
}
