/** Where time goes: what is done one after another, and how long each took. */
import type { Host } from './host.ts';

export interface Lap {
  readonly step: string;
  /** Whole milliseconds. */
  readonly took: number;
}

export interface Stopwatch {
  /** What is being done; undefined before the first and after the last. */
  readonly step: string | undefined;
  /** Ends what was being done, begins `next`, and returns the former. */
  enter(next?: string): Lap | undefined;
  /** All that has ended, with the time since the watch was made: "31 ms (record 1, volume 3)". */
  words(): string;
}

export function stopwatch(host: Pick<Host, 'monotonic'>): Stopwatch {
  const made = host.monotonic();
  const laps: Lap[] = [];
  let [step, since]: [string | undefined, number] = [undefined, made];
  return {
    get step() {
      return step;
    },
    enter(next) {
      const now = host.monotonic();
      const lap = step === undefined ? undefined : { step, took: Math.round(now - since) };
      if (lap) laps.push(lap);
      [step, since] = [next, now];
      return lap;
    },
    words() {
      const each = laps.map(l => `${l.step} ${l.took}`).join(', ');
      return `${Math.round(host.monotonic() - made)} ms (${each})`;
    },
  };
}
