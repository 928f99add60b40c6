/** The summary of all test layers that `scripts/test` prints. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';

it.each([
  ['succeeds if everything passed', 0, 0, '2 passed, 0 failed', 0],
  ['counts a failed test and its failed layer once', 1, 1, '2 passed, 1 failed', 1],
  ['counts a failed test and another failed layer', 1, 2, '2 passed, 2 failed', 1],
  ['counts a failed layer without tests', 0, 1, '2 passed, 1 failed', 1],
])('the summary %s', (_, failedTests, failedLayers, words, code) => {
  const dir = mkdtempSync(`${tmpdir()}/mayfly-summary-`);
  const report = { numPassedTests: 2, numPendingTests: 0, numFailedTests: failedTests, testResults: [] };
  writeFileSync(`${dir}/unit.json`, JSON.stringify(report));
  writeFileSync(`${dir}/layers`, '');
  const r = spawnSync(process.execPath, ['scripts/summary.mjs', dir, String(failedLayers)], {
    encoding: 'utf8',
  });
  rmSync(dir, { recursive: true });
  expect([r.stdout.trim().split('\n').at(-1), r.status]).toEqual([words, code]);
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
  const usual = [caseOf('a', 'passed'), caseOf('c', 'passed'), caseOf(NOT_APPLICABLE, 'pending')];
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
