/** Reading the list of loop devices; test/session/guards.test.ts and test/system/holders.test.ts release some. */
import { expect, it } from 'vitest';
import { parseLoops } from '../../src/linux/loops.ts';

it.each([
  [
    '/dev/loop1 \\x20\\x20\\x20254:0\\x20\\x20 /var/a.img',
    [{ name: 'loop1', on: 65024, file: '/var/a.img' }],
  ],
  ['/dev/loop12 0:81 /a\\x20b (deleted)', [{ name: 'loop12', on: 81, file: '/a b (deleted)' }]],
  ['/dev/loop3 0:300 ', [{ name: 'loop3', on: 1048620, file: '' }]],
  ['/dev/loop4', []],
  ['/dev/sda 8:0 /x', []],
  ['', []],
])('the line %j', (line, expected) => {
  expect(parseLoops(`${line}\n`)).toEqual(expected);
});
