/** The command line: whom a word means, what is refused as wrong use, and in which words. */
import { resolve } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { runCli } from '../src/cli/cli.ts';
import { sessionNamed, sessionsNamed } from '../src/cli/run.ts';
import { preparedWorld } from './world.ts';

const said = { 1: '', 2: '' };
vi.mock('../src/command.ts', async original => ({
  ...(await original<typeof import('../src/command.ts')>()),
  say: (fd: 1 | 2, text: string) => {
    said[fd] += text;
  },
}));
vi.spyOn(process, 'getuid').mockReturnValue(0);
afterEach(() => {
  said[1] = '';
  said[2] = '';
});

describe('a command line', () => {
  it.each([
    [['config', '--config', ''], 2, /^mayfly: --config needs a file\n/],
    [['status', '--config', 'typo.toml'], 3, /there is no configuration file "\/.*\/typo.toml"\n/],
    [
      ['config', '--config', 'package.json'],
      3,
      new RegExp(`^mayfly: ${resolve('package.json')}:1: not valid TOML`),
    ],
  ])('%j exits with %i', async (argv, code, words) => {
    expect(await runCli(argv)).toBe(code);
    expect(said[2]).toMatch(words);
  });
});

describe('a session named in a word', () => {
  const session = (id: string, name: string) => ({ id, user: { name } });
  const all = [
    session('u1001-8954eb22', 'r2xa'),
    session('u1002-00000001', 'u1003'),
    session('u1002-00000002', 'u1003'),
    session('u1003-00000003', 'bob'),
  ];

  it.each([
    ['u1001-8954eb22', ['u1001-8954eb22']],
    ['r2xa', ['u1001-8954eb22']],
    ['u1001-', ['u1001-8954eb22']],
    ['u1002-0', ['u1002-00000001', 'u1002-00000002']],
    ['u1003', ['u1002-00000001', 'u1002-00000002']], // a name, not the beginning of bob's
    ['u1001', []], // may be an account that is not logged in
    ['u', []],
    ['', []],
    ['-', []],
  ])('%j is %j', (word, ids) => expect(sessionsNamed(all, word).map(s => s.id)).toEqual(ids));

  it.each([
    ['', 'usage', /is empty/],
    ['nobody', 'unknown-session', /there is no session "nobody"/],
  ])('%j is %s', (word, code, words) => {
    const on = preparedWorld().machine();
    expect(() => sessionNamed(on, word)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(words) }),
    );
  });
});
