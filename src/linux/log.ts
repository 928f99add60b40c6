/**
 * One line per event, to the journal with fields where there is one, and to stderr. The journal's own protocol wants
 * datagram sockets, which Node lacks, so logger(1) carries the fields; it is started and not waited for.
 */

import { closeSync, existsSync, writeSync } from 'node:fs';
import { openUnnamed, print, TOOL_ENV } from './command.ts';

export type LogLevel = 'err' | 'warning' | 'notice' | 'info' | 'debug';

const PRIORITY: Record<LogLevel, number> = { err: 3, warning: 4, notice: 5, info: 6, debug: 7 };

export interface Fields {
  readonly session?: string | undefined;
  readonly user?: string | undefined;
  /** Why a login was refused, as {@link publicCodeOf} says it. */
  readonly code?: string | undefined;
}

export type Log = (level: LogLevel, message: string, fields?: Fields) => void;

/** The text logger(1) reads with `--journald`; a newline in a value would begin another field. */
export function journalEntry(level: LogLevel, message: string, fields: Fields): string {
  const flat = (v: string): string => v.replaceAll('\n', ' ');
  const rows = [`MESSAGE=${flat(message)}`, `PRIORITY=${PRIORITY[level]}`, 'SYSLOG_IDENTIFIER=mayfly'];
  if (fields.session) rows.push(`MAYFLY_SESSION=${flat(fields.session)}`);
  if (fields.user) rows.push(`MAYFLY_USER=${flat(fields.user)}`);
  if (fields.code) rows.push(`MAYFLY_CODE=${fields.code}`);
  return `${rows.join('\n')}\n`;
}

/** `quiet` shows warnings and errors only, `verbose` everything. */
export function makeLog(amount: 'quiet' | 'normal' | 'verbose', journal: boolean): Log {
  const limit = amount === 'quiet' ? 4 : amount === 'normal' ? 6 : 7;
  return (level, message, fields = {}) => {
    if (PRIORITY[level] <= limit) print(2, `mayfly: ${message}\n`);
    if (journal && level !== 'debug') toJournal(level, message, fields);
  };
}

/** The journal only, where there is one: for what stderr is told in other words. */
export function toJournal(level: LogLevel, message: string, fields: Fields): void {
  if (!existsSync('/run/systemd/journal/socket')) return;
  sending = Promise.all([sending, send(journalEntry(level, message, fields))]);
}

let sending: Promise<unknown> = Promise.resolve();

/** Resolves when everything said has been handed to logger(1): before that the process must not end. */
export async function logged(): Promise<void> {
  await sending;
}

/** Through a file without a name, not a pipe: we may end before logger(1) has read it. */
async function send(entry: string): Promise<void> {
  const { spawn } = await import('node:child_process');
  const fd = openUnnamed();
  try {
    writeSync(fd, entry, 0); // at a position: the offset, which logger(1) inherits, stays at the beginning
    const child = spawn('logger', ['--journald'], {
      env: TOOL_ENV,
      stdio: [fd, 'ignore', 'ignore'],
      detached: true,
    });
    child.on('error', () => undefined); // no logger(1): stderr has said it
    child.unref();
  } finally {
    closeSync(fd);
  }
}
