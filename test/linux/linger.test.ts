/** The names of logind's files of users who linger, and of users in commands that people type. */
import { expect, it } from 'vitest';
import { LINGER, lingerFile, lingeringUser } from '../../src/linux/linger.ts';
import { shellWord } from '../../src/names.ts';

it.each([
  ['alice', 'alice', 'alice'],
  ['sam@example.com', 'sam@example.com', 'sam@example.com'],
  ['DOM\\alice', 'DOM\\\\alice', "'DOM\\alice'"],
  ["o'brien", "o\\'brien", "'o'\\''brien'"],
  ['john smith', 'john smith', "'john smith'"],
  ['åsa', '\\303\\245sa', "'åsa'"],
  ['1871002', '1871002', '1871002'],
])('%s has the file "%s", and is typed as %s', (user, file, word) => {
  expect(lingerFile(user)).toBe(`${LINGER}/${file}`);
  expect(lingeringUser(file)).toBe(user);
  expect(shellWord(user)).toBe(word);
});
