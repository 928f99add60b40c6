/** Progress of long work: one line per phase, and on a terminal the last line of what commands print. */

import { print } from '../linux/command.ts';
import type { Fields } from '../linux/log.ts';
import { printableLine } from '../linux/printable.ts';
import type { Machine } from '../state/machine.ts';
import type { Flags } from './command.ts';

const CLEAR_LINE = '\r\u001b[K';

/** A detail that fits in the terminal's line; it is output of other programs, so it is escaped before it is cut. */
function shortened(line: string): string {
  return `  ${printableLine(line).slice(0, (process.stderr.columns ?? 80) - 4)}`;
}

/**
 * Returns a function that logs one line per phase. On a terminal it also prints details, each of which overwrites the
 * one before.
 */
export function progressPrinter(
  on: Machine,
  flags: Flags,
): (line: string, detail?: boolean, fields?: Fields) => void {
  const terminal = process.stderr.isTTY === true && !flags.quiet;
  return (line, detail = false, fields = {}) => {
    if (terminal && detail) print(2, shortened(line), CLEAR_LINE);
    else if (!detail) {
      clearLine(flags);
      on.log('info', line, fields);
    } else on.log('debug', line);
  };
}

/** Clears the line of details that {@link progressPrinter} printed. */
export function clearLine(flags: Flags): void {
  if (process.stderr.isTTY === true && !flags.quiet) print(2, '', CLEAR_LINE);
}
