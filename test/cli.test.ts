/** The command line: whom a word means, what is refused as wrong use, and in which words. */
import { describe, expect, it } from 'vitest';
import { sessionNamed, sessionsNamed } from '../src/cli/run.ts';
import { preparedWorld } from './world.ts';

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
