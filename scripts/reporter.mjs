/**
 * A reporter for vitest. Into the directory $MAYFLY_RESULTS it writes, in files named after the project: how long each file
 * took, with what it does before its first test; and why tests failed, which vitest's own JSON report does not say in full.
 */
import * as fs from 'node:fs';
import { stripVTControlCharacters } from 'node:util';

const LINES = 40;

export default class Reporter {
  onTestModuleEnd(file) {
    const { collectDuration, duration } = file.diagnostic();
    const seconds = ((collectDuration + duration) / 1000).toFixed(1);
    const write = (kind, text) =>
      fs.appendFileSync(`${process.env.MAYFLY_RESULTS}/${file.project.name}.${kind}`, text);
    write('seconds', `${seconds} ${file.relativeModuleId}\n`);
    for (const error of file.errors()) write('failures', this.#words(file.relativeModuleId, [error]));
    for (const suite of file.children.allSuites()) // where beforeAll or afterAll fails
      if (suite.errors().length > 0) write('failures', this.#words(suite.fullName, suite.errors()));
    for (const test of file.children.allTests('failed'))
      write('failures', this.#words(test.fullName, test.result().errors));
  }

  #words(name, errors) {
    const lines = errors.flatMap(({ message, diff }) => `${message}\n${diff ?? ''}`.trim().split('\n'));
    const shown = lines.slice(0, LINES).map(line => `    ${stripVTControlCharacters(line)}\n`);
    return `FAILED: ${name}\n${shown.join('')}`;
  }
}
