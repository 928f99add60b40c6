/** Text that is safe on a terminal, whatever is in the names of processes, files and users. */

/**
 * What a terminal would act on: C0 (but tab and newline), DEL and C1, which contain every escape sequence, the
 * characters that change the direction of text, and the two that some programs show as the end of a line.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it matches control characters to escape them
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * `text` with control characters as "\u001b", as in JSON: JSON text keeps its meaning, and text that has been escaped
 * already stays as it is. Pure.
 */
export function printable(text: string): string {
  return text.replace(CONTROL, c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Like {@link printable}, in one line: a newline in a name must not begin another line or field. Pure. */
export function printableLine(text: string): string {
  return printable(text.replaceAll('\n', ' '));
}
