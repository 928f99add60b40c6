/**
 * Blocks logins for a short time. The block is written before its writer looks for sessions; a login writes its
 * record before it looks for a block. So at least one of the two sees the other.
 */
import type { Machine } from './machine.ts';

/** Milliseconds after which a block expires: a reboot that was cancelled must not lock users out. */
const EXPIRES_AFTER = 10 * 60_000;

/** Refuses logins with `reason` until {@link unblockLogins}, the next boot, or ten minutes have passed. */
export function blockLogins({ host, paths }: Pick<Machine, 'host' | 'paths'>, reason: string): void {
  host.write(paths.loginBlock, `${host.monotonic() + EXPIRES_AFTER} ${reason.replaceAll('\n', ' ')}\n`, {
    mode: 0o600,
  });
}

export function unblockLogins({ host, paths }: Pick<Machine, 'host' | 'paths'>): void {
  host.unlink(paths.loginBlock);
}

/** The reason why logins are blocked now; undefined if they are not. */
export function loginBlockReason({ host, paths }: Pick<Machine, 'host' | 'paths'>): string | undefined {
  if (!host.exists(paths.loginBlock)) return undefined;
  const text = (host.read(paths.loginBlock) ?? '').trim();
  const blank = text.indexOf(' ');
  const left = Number(text.slice(0, blank)) - host.monotonic();
  // An earlier version, which has just replaced itself by this one, wrote a time of the other clock.
  const isOn = left > EXPIRES_AFTER ? Number(text.slice(0, blank)) > host.now() : left > 0;
  return isOn ? text.slice(blank + 1) : undefined;
}
