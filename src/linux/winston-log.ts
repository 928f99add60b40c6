/** The log of the command line and the service, by winston: one logger, two transports, and children with fields. */
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

/** What winston hands to a transport: level, message, and the fields of the entry and of its logger. */
interface Entry extends Fields {
  readonly level: LogLevel;
  readonly message: string;
}

/**
 * A transport by a function, up to a level. Not winston's own for the console: that writes to process.stderr, whose
 * reader, once gone, would end a teardown.
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
  // As one object: given apart, a "%s" in the message would make winston drop the fields.
  const log = (level: LogLevel, message: string, fields?: Fields): void => {
    logger.log({ level, message, ...fields });
  };
  return Object.assign(log, { child: (fields: Fields) => logBy(logger.child(fields)) });
}

/** Entries are written before the call returns, in order with what else is printed. */
export const makeWinstonLog: LogMaker = (amount, journal) => {
  const stderr = transport(SHOWN[amount], entry => toStderr(entry.message));
  const journald = transport('info', entry => toJournal(entry.level, entry.message, entry));
  return logBy(
    winston.createLogger({
      levels: PRIORITY,
      level: 'debug', // each transport has its own
      format: winston.format(entry => entry)(), // else each entry would be made into JSON, which nobody reads
      transports: journal ? [stderr, journald] : [stderr],
    }),
  );
};
