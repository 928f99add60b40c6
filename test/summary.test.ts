/** The summary of all test layers that `scripts/test` prints. */
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
  ['succeeds if everything passed', 0, 'unit: passed (1 s)\n', '2 passed, 0 failed', 0],
  ['counts a failed test and its failed layer once', 1, 'unit: FAILED (1 s)\n', '2 passed, 1 failed', 1],
  [
    'counts a failed test and another failed layer',
    1,
    'types: FAILED (1 s)\nunit: FAILED (1 s)\n',
    '2 passed, 2 failed',
    1,
  ],
  [
    'counts a failed layer without tests',
    0,
    'types: FAILED (1 s)\nunit: passed (1 s)\n',
    '2 passed, 1 failed',
    1,
  ],
])('the summary %s', (_, failedTests, layers, words, code) => {
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

const NOT_APPLICABLE = 'spares [not applicable: no spares]';
const caseOf = (title: string, status: string, backend = 'backend one') => ({
  ...{ title, status, ancestorTitles: [backend], fullName: `${backend} ${title}` },
});
it.each([
  ['prints and does not count as skipped what does not apply to a backend', [], '', 0],
  ['counts a skipped case of the contract', [caseOf('b', 'pending')], ', 1 skipped', 1],
  [
    'lets no other test call itself not applicable',
    [caseOf(NOT_APPLICABLE, 'pending', 'x')],
    ', 1 skipped',
    1,
  ],
] as const)('in CI the summary %s', (_, more, words, code) => {
  const dir = mkdtempSync(`${tmpdir()}/mayfly-summary-`);
  const usual = [caseOf('a', 'passed'), caseOf('c', 'passed'), caseOf(NOT_APPLICABLE, 'skipped')];
  const assertionResults = [...usual, ...more];
  const counts = { numPassedTests: 2, numPendingTests: 1 + more.length, numFailedTests: 0 };
  writeFileSync(`${dir}/unit.json`, JSON.stringify({ ...counts, testResults: [{ assertionResults }] }));
  writeFileSync(`${dir}/layers`, '');
  const env = { ...process.env, CI: '1' };
  const r = spawnSync(process.execPath, ['scripts/summary.mjs', dir], { encoding: 'utf8', env });
  rmSync(dir, { recursive: true });
  const all = more.some(t => t.ancestorTitles[0] === 'backend one') ? 3 : 2;
  expect(r.stdout).toContain(`  one                  2 of ${all}, 1 not applicable: no spares\n`);
  expect([r.stdout.trim().split('\n').at(-1), r.status]).toEqual([`2 passed, 0 failed${words}`, code]);
});
