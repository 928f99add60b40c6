/** A process that logs and then ends as the program does. Bundled by log.contract.ts. */
import { print } from '../../src/linux/command.ts';
import { logged, makeLog } from '../../src/linux/log.ts';
import { makeWinstonLog } from '../../src/linux/winston-log.ts';

/** Entries are [level, message, fields, fields of a child log, ...]; a string is printed on stderr. */
const [, , name, amount = 'normal', journal, entries = '[]'] = process.argv;
const log = (name === 'winston' ? makeWinstonLog : makeLog)(amount as 'normal', journal === 'journal');

for (const entry of JSON.parse(entries)) {
  if (typeof entry === 'string') {
    print(2, entry);
    continue;
  }
  const [level, message, fields, ...children] = entry;
  const by = children.reduce((l: typeof log, f: object) => l.child(f), log);
  by(level, message, fields);
}
logged().then(() => process.exit(0));
