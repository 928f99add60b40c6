/**
 * What the layers of tests came to: one line for each, the contract of the storage backends as a table, and every test
 * that failed or was skipped. Arguments: a directory with vitest's JSON reports and `layers`, and how many layers failed.
 */
import * as fs from 'node:fs';

const [directory = '', broken = '0'] = process.argv.slice(2);
const reports = fs
  .readdirSync(directory)
  .filter(name => name.endsWith('.json'))
  .map(name => JSON.parse(fs.readFileSync(`${directory}/${name}`, 'utf8')));
const tests = reports.flatMap(r => r.testResults.flatMap(file => file.assertionResults));
const sum = key => reports.reduce((n, r) => n + r[key], 0);

/** Of each backend, by the name its part of the contract has: how many cases passed, of how many. */
const backends = new Map();
for (const t of tests) {
  const title = t.ancestorTitles.find(words => words.startsWith('backend '))?.slice('backend '.length);
  if (title === undefined) continue;
  const row = backends.get(title) ?? { passed: 0, all: 0 };
  backends.set(title, { passed: row.passed + (t.status === 'passed' ? 1 : 0), all: row.all + 1 });
}

console.log(`\n== summary\n${fs.readFileSync(`${directory}/layers`, 'utf8')}`);
if (backends.size > 0) console.log('the contract of the storage backends');
for (const [name, { passed, all }] of backends) console.log(`  ${name.padEnd(20)} ${passed} of ${all}`);
for (const t of tests) {
  if (t.status === 'pending') console.log(`skipped: ${t.fullName}`);
  if (t.status === 'failed') console.log(`FAILED: ${t.fullName}`);
}
const passed = sum('numPassedTests');
const skipped = sum('numPendingTests');
// A layer whose tests failed is counted by them, one that failed otherwise by itself.
const failed = sum('numFailedTests') + Number(broken) - reports.filter(r => r.numFailedTests > 0).length;
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
if (failed > 0 || passed === 0 || (process.env.CI && skipped > 0)) process.exitCode = 1;
