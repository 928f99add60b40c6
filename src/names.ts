/** What names look like: of generations, sessions, volume groups, packages. Names decide what root deletes. */

/**
 * Whether `text` has only these characters. By hand instead of a regular expression: V8 compiles every one anew in
 * every process, and the hooks ask this of each name they meet.
 */
export function isMadeOf(text: string, characters: string): boolean {
  for (let i = 0; i < text.length; i++) if (!characters.includes(text.charAt(i))) return false;
  return true;
}

export const DIGITS = '0123456789';

/** What nearly all names are made of. */
export const WORD = `${DIGITS}abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_`;

/**
 * Whether `text` is a number as we write one: `1` to `max` digits, none of them a leading zero unless it is alone.
 */
export function isNumber(text: string, max: number): boolean {
  if (text.length < 1 || text.length > max || (text.length > 1 && text.startsWith('0'))) return false;
  return isMadeOf(text, DIGITS);
}

/** `u1001-3f2a9c1b`: the user's number and chance. Also the name of the volume and of the schroot entry. */
export function isSessionId(text: string): boolean {
  const dash = text.length - 9;
  if (!text.startsWith('u') || text[dash] !== '-' || !isNumber(text.slice(1, dash), 10)) return false;
  return isMadeOf(text.slice(dash + 1), `${DIGITS}abcdef`);
}

/** The user's number in a session's id. */
export function uidOfSession(id: string): number {
  return Number(id.slice(1, id.length - 9));
}

/** A session's id from the user's number and 32 random bits in hex. */
export function newSessionId(uid: number, random: string): string {
  return `u${uid}-${random}`;
}

/** Bytes: "512M", "10G". */
export const SIZE = /^\d+(\.\d+)?[KMGT]?$/;

/** Of a volume group or a volume (lvm(8)). */
export const LVM_NAME = /^[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,59}$/;

/** Of Debian's packages. */
export const PACKAGE_NAME = /^[a-z0-9][a-z0-9+.-]+$/;

/** Of Debian's releases. */
export const RELEASE = /^[a-z][a-z0-9.-]*$/;
