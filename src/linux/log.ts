/**
 * The log: one line per event on stderr, and, if there is a journal, an entry with fields in it. The journal's native
 * protocol needs datagram sockets, which Node lacks, so logger(1) writes the entry; it is started and not waited for.
 */

import { closeSync, existsSync, writeSync } from 'node:fs';
import { openUnnamed, print, TOOL_ENV } from './command.ts';

export type LogLevel = 'err' | 'warning' | 'notice' | 'info' | 'debug';

const PRIORITY: Record<LogLevel, number> = { err: 3, warning: 4, notice: 5, info: 6, debug: 7 };

export interface Fields {
  readonly session?: string | undefined;
  readonly user?: string | undefined;
  /** The code of the error with which a login was refused, from {@link publicCodeOf}. */
  readonly code?: string | undefined;
}

export type Log = (level: LogLevel, message: string, fields?: Fields) => void;

/** The input of `logger --journald`. Newlines in values are replaced, because they would start another field. */
export function journalEntry(level: LogLevel, message: string, fields: Fields): string {
  const flat = (v: string): string => v.replaceAll('\n', ' ');
  const rows = [`MESSAGE=${flat(message)}`, `PRIORITY=${PRIORITY[level]}`, 'SYSLOG_IDENTIFIER=mayfly'];
  if (fields.session) rows.push(`MAYFLY_SESSION=${flat(fields.session)}`);
  if (fields.user) rows.push(`MAYFLY_USER=${flat(fields.user)}`);
  if (fields.code) rows.push(`MAYFLY_CODE=${fields.code}`);
  return `${rows.join('\n')}\n`;
}

/** Creates a log. On stderr, `quiet` prints only warnings and errors, `verbose` everything. */
export function makeLog(amount: 'quiet' | 'normal' | 'verbose', journal: boolean): Log {
  const limit = amount === 'quiet' ? 4 : amount === 'normal' ? 6 : 7;
  return (level, message, fields = {}) => {
    if (PRIORITY[level] <= limit) print(2, `mayfly: ${message}\n`);
    if (journal && level !== 'debug') toJournal(level, message, fields);
  };
}

/** Logs to the journal only, if there is one; for messages that stderr gets in another form. */
export function toJournal(level: LogLevel, message: string, fields: Fields): void {
  if (!existsSync('/run/systemd/journal/socket')) return;
  sending = Promise.all([sending, send(journalEntry(level, message, fields))]);
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
