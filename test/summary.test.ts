/** What the layers of tests came to, as `scripts/test` prints it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';

function summary(files: Readonly<Record<string, string>>): { lines: string[]; code: number | null } {
  const dir = mkdtempSync(`${tmpdir()}/mayfly-summary-`);
  for (const [name, text] of Object.entries(files)) writeFileSync(`${dir}/${name}`, text);
  const r = spawnSync(process.execPath, ['scripts/summary.mjs', dir], { encoding: 'utf8' });
  rmSync(dir, { recursive: true });
  return { lines: r.stdout.trim().split('\n'), code: r.status };
}

const report = (failed: number): string =>
  JSON.stringify({ numPassedTests: 2, numPendingTests: 0, numFailedTests: failed, testResults: [] });

it.each([
  ['all is well', 0, 'unit: passed (1 s)\n', '2 passed, 0 failed', 0],
  ['a test fails, and so its layer', 1, 'unit: FAILED (1 s)\n', '2 passed, 1 failed', 1],
  [
    'a test fails, and another layer',
    1,
    'types: FAILED (1 s)\nunit: FAILED (1 s)\n',
    '2 passed, 2 failed',
    1,
  ],
  ['a layer without tests fails', 0, 'types: FAILED (1 s)\nunit: passed (1 s)\n', '2 passed, 1 failed', 1],
])('%s', (_, failedTests, layers, words, code) => {
  const { lines, code: ended } = summary({ 'unit.json': report(failedTests), layers });
  expect([lines.at(-1), ended]).toEqual([words, code]);
});

it('names the ten slowest files of all layers, the slowest first', () => {
  const seconds = (layer: string): string =>
    Array.from({ length: 8 }, (_, i) => `${i}.5 test/${layer}/${i}.test.ts\n`).join('');
  const { lines } = summary({
    'unit.json': report(0),
    'system.seconds': seconds('system'),
    'lvm.seconds': `100.0 test/lvm/slow.test.ts\n${seconds('lvm')}`,
    layers: '',
  });
  const begin = lines.indexOf('the slowest files, in seconds');
  const named = lines.slice(begin + 1, -1).map(line => line.trim().replace(/ +/, ' '));
  expect(named).toHaveLength(10);
  expect(named.slice(0, 3)).toEqual([
    '100.0 test/lvm/slow.test.ts',
    expect.stringMatching(/^7\.5 test\/(lvm|system)\/7\.test\.ts$/),
    expect.stringMatching(/^7\.5 /),
  ]);
});
