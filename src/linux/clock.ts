/** CLOCK_MONOTONIC (clock_gettime(2)): it counts from boot, is never set, and does not count while suspended. */

/** Milliseconds. */
export function monotonic(): number {
  const [seconds, nanoseconds] = process.hrtime(); // not `performance`, which Node loads on first use
  return seconds * 1000 + nanoseconds / 1e6;
}
