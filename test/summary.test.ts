/** What the layers of tests came to, as `scripts/test` prints it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';

it.each([
  ['all is well', 0, 0, '2 passed, 0 failed', 0],
  ['a test fails, and so its layer', 1, 1, '2 passed, 1 failed', 1],
  ['a test fails, and another layer', 1, 2, '2 passed, 2 failed', 1],
  ['a layer without tests fails', 0, 1, '2 passed, 1 failed', 1],
])('%s', (_, failedTests, failedLayers, words, code) => {
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
