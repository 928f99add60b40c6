/** The table of storage faults names tests that exist. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const rows = [
  ...readFileSync('docs/storage-faults.md', 'utf8').matchAll(/^\| (\d+) \| .* \| (.*) \|$/gm),
].map(([, number, tests = '']) => ({ number: Number(number), tests }));

it('the storage faults are numbered without a gap', () =>
  expect(rows.map(r => r.number)).toEqual(Array.from({ length: 74 }, (_, i) => i + 1)));

it.each(rows.map(r => [r.number, r.tests] as const))('the tests of fault %i are there: %s', (_, tests) => {
  const files = [...tests.matchAll(/`(test\/[^`]+)`/g)].map(m => m[1] ?? '');
  expect(files.filter(file => !existsSync(file))).toEqual([]);
  const text = files.map(file => readFileSync(file, 'utf8')).join('\n');
  for (const [, title = ''] of tests.matchAll(/"([^"]+)"/g)) expect(text).toContain(title);
  expect(files.length > 0 || tests.startsWith('none: ')).toBe(true);
});
