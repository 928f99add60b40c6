/** The log of the command line and the service: a winston logger with one transport for stderr and one for the journal. */

import { Writable } from 'node:stream';
import winston from 'winston';
import {
  type Fields,
  type Log,
  type LogLevel,
  type LogMaker,
  PRIORITY,
  SHOWN,
  toJournal,
  toStderr,
} from './log.ts';

/** What winston passes to a transport. The fields are those of the entry and of its child logger. */
interface Entry extends Fields {
  readonly level: LogLevel;
  readonly message: string;
}

/**
 * A transport that calls `write` for entries up to `level`. winston's console transport is not used: it writes to
 * process.stderr, which ends the process with EPIPE if the reader has gone, in the middle of a teardown.
 */
function transport(level: LogLevel, write: (entry: Entry) => void) {
  const stream = new Writable({
    objectMode: true,
    write(entry, _encoding, done) {
      write(entry);
      done();
    },
  });
  return new winston.transports.Stream({ level, stream });
}

function logBy(logger: winston.Logger): Log {
  // As one object: with separate arguments, winston drops the fields if the message contains "%s".
  const log = (level: LogLevel, message: string, fields?: Fields): void => {
    logger.log({ level, message, ...fields });
  };
  return Object.assign(log, { child: (fields: Fields) => logBy(logger.child(fields)) });
}

/** Entries are written before the call returns, so they stay in order with other output. */
export const makeWinstonLog: LogMaker = (amount, journal) => {
  const stderr = transport(SHOWN[amount], entry => toStderr(entry.message));
  const journald = transport('info', entry => toJournal(entry.level, entry.message, entry));
  return logBy(
    winston.createLogger({
      levels: PRIORITY,
      level: 'debug', // the transports have their own levels
      format: winston.format(entry => entry)(), // the default formats each entry as JSON
      transports: journal ? [stderr, journald] : [stderr],
    }),
  );
};
