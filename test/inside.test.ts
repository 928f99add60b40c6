/** docs/inside.md is made of what scripts/test-desktops measures. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ACTIONS, DIFFERENT } from './desktops/actions.ts';
import { SAVED } from './desktops/everyday.ts';
import { actionTable, parseMeasured, programTable, unexplained } from './desktops/tables.ts';

const page = readFileSync('docs/inside.md', 'utf8');
const section = (title: string): string => page.split(`\n## ${title}\n`)[1]?.split('\n## ')[0] ?? '';

describe('docs/inside.md', () => {
  it('has a row for every action', () => {
    const rows = [...section('What people do every day').matchAll(/^\| (.*?) \|/gm)].map(m => m[1]);
    expect(rows).toEqual(expect.arrayContaining([...Object.keys(ACTIONS), ...Object.keys(SAVED)]));
  });

  it('explains every difference', () => {
    const why = section('What differs, and why');
    const explained = [...why.matchAll(/^\| (.*?) \|/gm)].flatMap(m => (m[1] ?? '').split('; '));
    expect(explained).toEqual(expect.arrayContaining(Object.keys(DIFFERENT)));
  });
});

describe('the tables', () => {
  const one = parseMeasured(
    'Xfce (12)',
    '=\tbwrap\tok\t\nx\tcrontab\tok 1\t1 a session runs no jobs\n=\tumask\tok 0022\t\n',
  );
  const other = parseMeasured('LXQt (13)', 'x\tbwrap\tok\t1 no\n=\tumask\tok 0002\t\n');

  it.each([
    [programTable, '| bwrap | ok / ok | ok / 1 |'],
    [actionTable, '| crontab | ok 1 | 1 a session runs no jobs | differs |  |'],
    [actionTable, '| umask | ok 0022 | the same | = | = |'],
  ])('%o has %s', (make, row) => expect(make([one, other]).split('\n')).toContain(row));

  it('names what differs and is not explained', () =>
    expect(unexplained([one, other])).toEqual(['LXQt (13): bwrap']));
});
