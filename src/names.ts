/** The syntax of names: generations, sessions, volume groups, packages. Names decide what root deletes. */

/**
 * Whether `text` has only these characters. Not a regular expression, because V8 compiles each of them again in every
 * process, and the hooks check every name.
 */
export function isMadeOf(text: string, characters: string): boolean {
  for (let i = 0; i < text.length; i++) if (!characters.includes(text.charAt(i))) return false;
  return true;
}

export const DIGITS = '0123456789';

/** The characters of nearly all names. */
export const WORD = `${DIGITS}abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_`;

/**
 * Whether `text` is a decimal number with 1 to `max` digits and no leading zero, except for "0" itself.
 */
export function isNumber(text: string, max: number): boolean {
  if (text.length < 1 || text.length > max || (text.length > 1 && text.startsWith('0'))) return false;
  return isMadeOf(text, DIGITS);
}

/**
 * Whether `text` is a session ID such as `u1001-3f2a9c1b`: the uid and 32 random bits in hex. The ID is also the name of
 * the session's volume and schroot entry.
 */
export function isSessionId(text: string): boolean {
  const dash = text.length - 9;
  if (!text.startsWith('u') || text[dash] !== '-' || !isNumber(text.slice(1, dash), 10)) return false;
  return isMadeOf(text.slice(dash + 1), `${DIGITS}abcdef`);
}

/** The uid in a session ID. */
export function uidOfSession(id: string): number {
  return Number(id.slice(1, id.length - 9));
}

/** Builds a session ID from the uid and 32 random bits in hex. */
export function newSessionId(uid: number, random: string): string {
  return `u${uid}-${random}`;
}

/** A size in bytes, with an optional unit: "512M", "10G". */
export const SIZE = /^\d+(\.\d+)?[KMGT]?$/;

/** The name of a volume group or a logical volume (lvm(8)). */
export const LVM_NAME = /^[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,59}$/;

/** The name of a Debian package. */
export const PACKAGE_NAME = /^[a-z0-9][a-z0-9+.-]+$/;

/** The code name of a Debian release. */
export const RELEASE = /^[a-z][a-z0-9.-]*$/;

/** An absolute path without ".", ".." and control characters. It may need quoting. */
export const ANY_PATH = /^(\/(?!\.{1,2}(\/|$))[^/\p{Cc}]+)+$/u;

/** A word of a command for people to type: quoted for the shell if it must be. */
export const shellWord = (text: string): string =>
  /^[\w./+@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
