/**
 * The log: one line per event on stderr, and, if there is a journal, an entry with fields in it. The journal's native
 * protocol needs datagram sockets, which Node lacks, so logger(1) writes the entry; it is started and not waited for.
 *
 * There are two logs with the same contract (test/linux/log.contract.ts): the one below for hooks, which loads only
 * Node's built-in modules, and `winston-log.ts` for the command line and the service.
 */

import { closeSync, existsSync, writeSync } from 'node:fs';
import { openUnnamed, print, TOOL_ENV } from './command.ts';
import { printableLine } from './printable.ts';

/** Levels of syslog(3), by its keywords. */
export type LogLevel = 'err' | 'warning' | 'notice' | 'info' | 'debug';

export const PRIORITY: Record<LogLevel, number> = { err: 3, warning: 4, notice: 5, info: 6, debug: 7 };

export interface Fields {
  readonly session?: string | undefined;
  readonly user?: string | undefined;
  /** The code of the error with which a login was refused, from {@link publicCodeOf}. */
  readonly code?: string | undefined;
  /** The step of a login or logout, or the phase of an update. */
  readonly step?: string | undefined;
  /** The processes that were killed although they worked on ending. */
  readonly killed?: string | undefined;
}

export interface Log {
  (level: LogLevel, message: string, fields?: Fields): void;
  /** Returns a log that adds these fields to each entry. */
  child(fields: Fields): Log;
}

/** How much is printed on stderr. */
export type Amount = 'quiet' | 'normal' | 'verbose';

/** The least severe level that is printed on stderr. */
export const SHOWN: Record<Amount, LogLevel> = { quiet: 'warning', normal: 'info', verbose: 'debug' };

/** Creates the log of a process. Entries of level `debug` never go to the journal. */
export type LogMaker = (amount: Amount, journal: boolean) => Log;

const FIELD_NAMES = {
  session: 'MAYFLY_SESSION',
  user: 'MAYFLY_USER',
  code: 'MAYFLY_CODE',
  step: 'MAYFLY_STEP',
  killed: 'MAYFLY_KILLED',
} as const satisfies Record<keyof Fields, string>;

/**
 * The input of `logger --journald`, with control characters escaped. Newlines in values are replaced, because they would
 * start another field.
 */
export function journalEntry(level: LogLevel, message: string, fields: Fields): string {
  const rows = [`MESSAGE=${message}`, `PRIORITY=${PRIORITY[level]}`, 'SYSLOG_IDENTIFIER=mayfly'];
  for (const [name, field] of Object.entries(FIELD_NAMES)) {
    const value = fields[name as keyof Fields];
    if (value) rows.push(`${field}=${value}`);
  }
  return rows.map(row => `${printableLine(row)}\n`).join('');
}

/** A log that passes each entry to `write`, with all its fields. */
export function logTo(
  write: (level: LogLevel, message: string, fields: Fields) => void,
  fixed: Fields = {},
): Log {
  const log = (level: LogLevel, message: string, fields: Fields = {}): void =>
    write(level, message, { ...fixed, ...fields });
  return Object.assign(log, { child: (fields: Fields) => logTo(write, { ...fixed, ...fields }) });
}

/** A log that discards everything. */
export const noLog: Log = logTo(() => undefined);

export const makeLog: LogMaker = (amount, journal) =>
  logTo((level, message, fields) => {
    if (PRIORITY[level] <= PRIORITY[SHOWN[amount]]) toStderr(message);
    if (journal && level !== 'debug') toJournal(level, message, fields);
  });

/** One line per event: a newline in a name must not begin what looks like another. */
export function toStderr(message: string): void {
  print(2, `mayfly: ${printableLine(message)}\n`);
}

/** Logs to the journal only, if there is one; for messages that stderr gets in another form. */
export function toJournal(level: LogLevel, message: string, fields: Fields): void {
  if (!existsSync('/run/systemd/journal/socket')) return;
  // Without room in /run, stderr has the message; nothing else may fail because of it.
  const sent = send(journalEntry(level, message, fields)).catch(() => undefined);
  sending = Promise.all([sending, sent]).then(() => undefined); // whose values would add up
}

let sending: Promise<unknown> = Promise.resolve();

/** Resolves when all messages have been passed to logger(1). The process must not exit before. */
export async function logged(): Promise<void> {
  await sending;
}

/** Passes the entry in an unnamed file, not a pipe, because we may exit before logger(1) has read it. */
async function send(entry: string): Promise<void> {
  const { spawn } = await import('node:child_process');
  const fd = openUnnamed();
  try {
    writeSync(fd, entry, 0); // with a position, which leaves the offset that logger(1) inherits at the beginning
    const child = spawn('logger', ['--journald'], {
      env: TOOL_ENV,
      stdio: [fd, 'ignore', 'ignore'],
      detached: true,
    });
    child.on('error', () => undefined); // without logger(1), stderr has the message
    child.unref();
  } finally {
    closeSync(fd);
  }
}
