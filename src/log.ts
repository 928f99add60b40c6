/**
 * One line per event, to the journal with fields where there is one, and to stderr. The journal's own protocol wants
 * datagram sockets, which Node lacks, so logger(1) carries the fields; it is started and not waited for.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { TOOL_ENV } from './host.ts';

export type Level = 'err' | 'warning' | 'notice' | 'info' | 'debug';
const PRIORITY: Record<Level, number> = { err: 3, warning: 4, notice: 5, info: 6, debug: 7 };

export interface Fields {
  readonly session?: string | undefined;
  readonly user?: string | undefined;
  readonly step?: string | undefined;
}

export type Log = (level: Level, message: string, fields?: Fields) => void;

/** The text logger(1) reads with `--journald`; a newline in a value would begin another field. */
export function journalEntry(level: Level, message: string, fields: Fields): string {
  const flat = (v: string): string => v.replaceAll('\n', ' ');
  const rows = [`MESSAGE=${flat(message)}`, `PRIORITY=${PRIORITY[level]}`, 'SYSLOG_IDENTIFIER=mayfly'];
  if (fields.session) rows.push(`MAYFLY_SESSION=${flat(fields.session)}`);
  if (fields.user) rows.push(`MAYFLY_USER=${flat(fields.user)}`);
  if (fields.step) rows.push(`MAYFLY_STEP=${flat(fields.step)}`);
  return `${rows.join('\n')}\n`;
}

/** `quiet` shows warnings and errors only, `verbose` everything. */
export function makeLog(amount: 'quiet' | 'normal' | 'verbose', journal: boolean): Log {
  const limit = amount === 'quiet' ? 4 : amount === 'normal' ? 6 : 7;
  const hasJournal = journal && fs.existsSync('/run/systemd/journal/socket');
  return (level, message, fields = {}) => {
    if (PRIORITY[level] <= limit) process.stderr.write(`mayfly: ${message}\n`);
    if (!hasJournal || level === 'debug') return;
    const child = spawn('logger', ['--journald'], {
      env: TOOL_ENV,
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    child.on('error', () => undefined); // no logger(1): stderr has said it
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(journalEntry(level, message, fields));
    child.unref();
  };
}
