/** What reaches a terminal: escape sequences in names are shown, not acted upon. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { buildSync } from 'esbuild';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { table } from '../../src/cli/format.ts';
import { printable, printableLine } from '../../src/linux/printable.ts';
import { processName } from '../../src/linux/processes.ts';
import { World } from '../world.ts';

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be left
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\p{Bidi_Control}\p{Zl}\p{Zp}]/u;

/** Characters that terminals act on, and those beside them. */
const nasty = fc.string({
  unit: fc.oneof(
    fc.integer({ min: 0, max: 0xa0 }).map(n => String.fromCharCode(n)),
    // All characters that change the direction of text or end a line, and those beside them.
    fc.integer({ min: 0x2020, max: 0x2070 }).map(n => String.fromCharCode(n)),
    fc.constantFrom('\u061c', '\u200e', '\u200f', 'ä', '猫', '🐈', '\\', '"'),
  ),
});

describe('printable text', () => {
  it.each([
    ['\u001b[2J\u001b]52;c;ZXZpbA==\u0007', '\\u001b[2J\\u001b]52;c;ZXZpbA==\\u0007'],
    ['\u009b31m\u0090q\u009c', '\\u009b31m\\u0090q\\u009c'],
    ['a\rb\bc\u007f', 'a\\u000db\\u0008c\\u007f'],
    ['txt.\u202egpj', 'txt.\\u202egpj'],
    ['a\u200eb\u200fc\u061cd', 'a\\u200eb\\u200fc\\u061cd'],
    ['one\u2028two\u2029three', 'one\\u2028two\\u2029three'],
    ['a table\twith\ttabs\nand lines', 'a table\twith\ttabs\nand lines'],
    ['Zoë’s “session” – 猫 🐈', 'Zoë’s “session” – 猫 🐈'],
  ])('%j becomes %j', (text, expected) => expect(printable(text)).toBe(expected));

  it('has no control character left, and stays as it is if it is escaped again', () => {
    fc.assert(
      fc.property(nasty, text => {
        const safe = printable(text);
        expect(safe).not.toMatch(CONTROL);
        expect(printable(safe)).toBe(safe);
        expect(printableLine(text)).not.toMatch(/\n/);
      }),
    );
  });

  it('of JSON means the same', () => {
    fc.assert(
      fc.property(nasty, nasty, (name, value) => {
        const object = { [`k${name}`]: value };
        expect(JSON.parse(printable(JSON.stringify(object, null, 2)))).toEqual(object);
      }),
    );
  });
});

it('a table keeps its columns and has one line per row', () => {
  const rows = [
    ['SESSION', 'STATE'],
    ['u1-\u001b[2J', 'stuck: in use by a\nmayfly: all is well'],
  ];
  expect(table(rows).split('\n')).toEqual([
    `${'SESSION'.padEnd(12)}  STATE`,
    'u1-\\u001b[2J  stuck: in use by a mayfly: all is well',
  ]);
});

it('the name of a process is one line', () => {
  const w = new World();
  w.processes.set(77, { start: '1', dev: 1, comm: 'a\nmayfly: ok', ignoresTerm: false, cgroup: '' });
  expect(processName(w.host, 77)).toBe('a mayfly: ok');
});

describe('a program that prints', () => {
  const directory = mkdtempSync(`${tmpdir()}/mayfly-print-`);
  const program = `${directory}/print.cjs`;
  beforeAll(() => {
    const contents = `import { print } from '${process.cwd()}/src/linux/command.ts';
      print(process.argv[2] === '1' ? 1 : 2, JSON.parse(process.argv[3]), JSON.parse(process.argv[4]));`;
    buildSync({
      ...{ stdin: { contents, resolveDir: process.cwd(), loader: 'ts' } },
      ...{ bundle: true, platform: 'node', format: 'cjs', outfile: program },
    });
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  it.each([
    [1, 'stdout'],
    [2, 'stderr'],
  ] as const)('escapes on %i (%s) all but its own sequence', (fd, stream) => {
    const args = [
      program,
      String(fd),
      JSON.stringify('name \u001b[31m\u009b\n'),
      JSON.stringify('\r\u001b[K'),
    ];
    const out = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(out[stream]).toBe('\r\u001b[Kname \\u001b[31m\\u009b\n');
  });
});
