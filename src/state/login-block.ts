/**
 * Holding logins off for a moment. Whoever does writes the reason and then looks for sessions; a login writes its
 * record and then looks for the reason: one of the two sees the other.
 */
import type { Machine } from './machine.ts';

/** Milliseconds after which a hold is over: a restart that was called off must not lock people out. */
const LONGEST = 10 * 60_000;

/** From here on logins are refused with `reason`, until {@link unblockLogins}, the next boot, or ten minutes later. */
export function blockLogins({ host, paths }: Pick<Machine, 'host' | 'paths'>, reason: string): void {
  host.write(paths.loginBlock, `${host.now() + LONGEST} ${reason.replaceAll('\n', ' ')}\n`, { mode: 0o600 });
}

export function unblockLogins({ host, paths }: Pick<Machine, 'host' | 'paths'>): void {
  host.unlink(paths.loginBlock);
}

/** Why nobody logs in just now; undefined as nearly always. */
export function loginBlockReason({ host, paths }: Pick<Machine, 'host' | 'paths'>): string | undefined {
  if (!host.exists(paths.loginBlock)) return undefined;
  const text = (host.read(paths.loginBlock) ?? '').trim();
  const blank = text.indexOf(' ');
  return Number(text.slice(0, blank)) > host.now() ? text.slice(blank + 1) : undefined;
}
