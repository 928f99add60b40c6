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
