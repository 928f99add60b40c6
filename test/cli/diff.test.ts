/** What the comparison of two generations says. */
import { expect, it } from 'vitest';
import { diffText } from '../../src/cli/diff.ts';
import { parseDifferences } from '../../src/linux/tree-difference.ts';
import { describeChanges, packageChanges } from '../../src/update/packages.ts';

const packages = (text: string) =>
  new Map(
    text.split(' ').flatMap(p => (p ? [[p.split('=')[0] ?? '', { version: p.split('=')[1] ?? '' }]] : [])),
  );

it.each([
  ['', '', []],
  ['a=1 b=1', 'b=1 a=1', []],
  ['a=1', 'a=2', [{ name: 'a', before: '1', after: '2' }]],
  [
    'b=1',
    'a=1',
    [
      { name: 'a', after: '1' },
      { name: 'b', before: '1' },
    ],
  ],
])('packages %j and %j differ in %j', (before, after, expected) => {
  expect(packageChanges(packages(before), packages(after))).toEqual(expected);
});

it.each([
  ['a=1', 'a=2', 5, '1 package changed: a 1 -> 2'],
  ['', 'a=2 b=1', 5, '2 packages new: a 2, b 1'],
  ['a=1 b=1 c=1', 'a=2 b=3 d=4', 5, '2 packages changed, 1 new, 1 gone: a 1 -> 2, b 1 -> 3, c gone, d 4'],
  ['a=1 b=1 c=1', 'a=2 b=2 c=2', 2, '3 packages changed: a 1 -> 2, b 1 -> 2 and 1 more'],
])('%j and %j, %d of them, are told as %j', (before, after, most, words) => {
  expect(describeChanges(packageChanges(packages(before), packages(after)), most)).toBe(words);
});

it('differences are read as they were printed, in the order of their paths', () => {
  expect(parseDifferences('')).toEqual([]);
  expect(parseDifferences('new\x000\x005\x00usr/b\nc\x00gone\x007\x000\x00etc/a\x00')).toEqual([
    { kind: 'gone', before: 7, after: 0, path: 'etc/a' },
    { kind: 'new', before: 0, after: 5, path: 'usr/b\nc' },
  ]);
});

it('nothing, a few files and a package are told in words', () => {
  expect(diffText(1, 2, { packages: [], files: [] }, true)).toBe(
    'generation 1 -> 2\npackages: none\nfiles: none',
  );
  const files = parseDifferences('new\x000\x005\x00usr/b\nc\x00gone\x003000000\x000\x00etc/a\x00');
  const found = { packages: packageChanges(packages('a=1 c=3'), packages('a=2 bb=1')), files };
  expect(diffText(3, 12, found, true)).toBe(
    [
      'generation 3 -> 12',
      'packages: 1 new, 1 changed, 1 gone',
      '  changed  a   1 -> 2',
      '  new      bb  1',
      '  gone     c   3',
      'files: 1 new, 1 gone, 2 MiB less',
      '  gone  /etc/a',
      '  new   /usr/b c',
    ].join('\n'),
  );
  expect(diffText(3, 12, found, false)).not.toContain('/etc/a');
});
