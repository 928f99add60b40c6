/** CLOCK_MONOTONIC (clock_gettime(2)): it counts from boot, is never set, and does not count while suspended. */

/** Milliseconds. */
export function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e6; // not `performance`, which Node loads on first use
}
