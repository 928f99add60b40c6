/**
 * Holding logins off for a moment. Whoever does writes the reason and then looks for sessions; a login writes its
 * record and then looks for the reason: one of the two sees the other.
 */
import type { Machine } from './steps.ts';

/** Milliseconds after which a hold is over: a restart that was called off must not lock people out. */
const LONGEST = 10 * 60_000;

/** From here on logins are refused with `reason`, until {@link releaseLogins}, the next boot, or ten minutes later. */
export function holdLogins({ host, paths }: Pick<Machine, 'host' | 'paths'>, reason: string): void {
  host.write(paths.hold, `${host.now() + LONGEST} ${reason.replaceAll('\n', ' ')}\n`, { mode: 0o600 });
}

export function releaseLogins({ host, paths }: Pick<Machine, 'host' | 'paths'>): void {
  host.unlink(paths.hold);
}

/** Why nobody logs in just now; undefined as nearly always. */
export function whyHeld({ host, paths }: Pick<Machine, 'host' | 'paths'>): string | undefined {
  if (!host.exists(paths.hold)) return undefined;
  const text = (host.read(paths.hold) ?? '').trim();
  const blank = text.indexOf(' ');
  return Number(text.slice(0, blank)) > host.now() ? text.slice(blank + 1) : undefined;
}
