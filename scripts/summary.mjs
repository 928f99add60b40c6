/**
 * What the layers of tests came to: one line for each, the contract of the storage backends as a table, every test that
 * failed or was skipped, and the slowest files. Argument: a directory with vitest's JSON reports, the seconds of their
 * files and why they failed (scripts/reporter.mjs), and `layers`, in which a line says how each layer went.
 */
import * as fs from 'node:fs';

const [directory = ''] = process.argv.slice(2);
const read = name => fs.readFileSync(`${directory}/${name}`, 'utf8');
const named = extension => fs.readdirSync(directory).filter(name => name.endsWith(extension));
const reports = named('.json').map(name => JSON.parse(read(name)));
const tests = reports.flatMap(r => r.testResults.flatMap(file => file.assertionResults));
const sum = key => reports.reduce((n, r) => n + r[key], 0);
const layers = read('layers');
const broken = layers.split('\n').filter(line => line.includes(': FAILED')).length;

/** A test that is skipped where it stands is "skipped", one that others leave out is "pending" (vitest 4). */
const isSkipped = t => t.status === 'pending' || t.status === 'skipped';

/** Why a case of the contract does not apply to a backend (test/volume/contract.ts); such a one is not a skipped test. */
const inapplicable = t =>
  isSkipped(t) && t.ancestorTitles.some(words => words.startsWith('backend '))
    ? / \[not applicable: (.*)\]$/.exec(t.title)?.[1]
    : undefined;

/** Of each backend, by the name its part of the contract has: how many cases passed, of how many, and why not all. */
const backends = new Map();
for (const t of tests) {
  const title = t.ancestorTitles.find(words => words.startsWith('backend '))?.slice('backend '.length);
  if (title === undefined) continue;
  const row = backends.get(title) ?? { passed: 0, all: 0, not: [] };
  backends.set(title, row);
  const why = inapplicable(t);
  if (why !== undefined) row.not.push(why);
  else row.all += 1;
  if (t.status === 'passed') row.passed += 1;
}

const slowest = named('.seconds')
  .flatMap(name => read(name).trim().split('\n'))
  .sort((a, b) => Number.parseFloat(b) - Number.parseFloat(a))
  .slice(0, 10);

console.log(`\n== summary\n${layers}`);
if (slowest.length > 0) console.log('the slowest files, in seconds');
for (const line of slowest) {
  const [seconds, file] = line.split(' ');
  console.log(`${seconds.padStart(8)}  ${file}`);
}
if (backends.size > 0) console.log('\nthe contract of the storage backends');
for (const [name, { passed, all, not }] of backends) {
  const others = not.length > 0 ? `, ${not.length} not applicable: ${[...new Set(not)].join('; ')}` : '';
  console.log(`  ${name.padEnd(20)} ${passed} of ${all}${others}`);
}
for (const t of tests) {
  if (isSkipped(t) && inapplicable(t) === undefined) console.log(`skipped: ${t.fullName}`);
}
for (const name of named('.failures')) process.stdout.write(read(name));
const passed = sum('numPassedTests');
const skipped = sum('numPendingTests') - tests.filter(t => inapplicable(t) !== undefined).length;
// A layer whose tests failed is counted by them, one that failed otherwise by itself.
const failed = sum('numFailedTests') + broken - reports.filter(r => r.numFailedTests > 0).length;
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
if (failed > 0 || passed === 0 || (process.env.CI && skipped > 0)) process.exitCode = 1;
