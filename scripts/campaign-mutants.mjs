/**
 * Breaks one safety rule after the other (test/mutants.json) in a copy of the tree and runs the tests, one of which must
 * fail. Prints the table of docs/testing.md, and exits with 1 if a mutant survives. With `--unit` it leaves out the
 * mutants that need a system test, and with that root; other arguments are parts of rules and files to select by.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * In `file`, below src/, `from` occurs once and is replaced by `to`. The test file `by` runs first, and then all unit
 * tests; of a mutant with `system` only that file runs.
 */
const MUTANTS = JSON.parse(fs.readFileSync('test/mutants.json', 'utf8'));

const args = process.argv.slice(2);
const unitOnly = args.includes('--unit');
const names = args.filter(a => !a.startsWith('--'));
const chosen = MUTANTS.filter(m => !(unitOnly && m.system)).filter(
  m => names.length === 0 || names.some(n => m.rule.includes(n) || m.file.includes(n)),
);

const copy = fs.mkdtempSync(join(tmpdir(), 'mayfly-mutants-'));
for (const name of fs.readdirSync('.'))
  if (!['node_modules', '.git', '.cache', 'dist'].includes(name))
    fs.cpSync(name, join(copy, name), { recursive: true, verbatimSymlinks: true });
fs.symlinkSync(fs.realpathSync('node_modules'), join(copy, 'node_modules'));
fs.rmSync(join(copy, 'test/mutants.test.ts')); // it would find each mutant

/** Mounts and processes that a test leaves, because the mutant broke it, go with the namespaces. */
const NAMESPACES = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
const ALONE = ['unshare', ...NAMESPACES, 'sh', '-c', 'mount -t tmpfs mayfly /var/lib && exec "$@"', 'sh'];

/** Runs tests in the copy and returns the name of one that failed; undefined if none did. */
function run(project, files) {
  const report = join(copy, 'report.json');
  fs.rmSync(report, { force: true });
  const words = ['run', '--project', project, '--bail=1', '--reporter=json', `--outputFile=${report}`, ...files];
  const [file, ...own] = project === 'system' ? ALONE : [];
  const all = [...own, 'node_modules/.bin/vitest', ...words];
  const r = spawnSync(file ?? all.shift(), all, { cwd: copy, encoding: 'utf8' });
  if (r.status === 0) return undefined;
  if (!fs.existsSync(report)) throw new Error(`vitest did not run: ${r.stdout}${r.stderr}`);
  const { testResults } = JSON.parse(fs.readFileSync(report, 'utf8'));
  const failed = testResults.flatMap(f => f.assertionResults).find(t => t.status === 'failed');
  // A mutant that cannot be loaded proves nothing about its rule.
  if (!failed) throw new Error(`no test failed, but: ${testResults.map(f => f.message).join('\n')}`);
  return failed.fullName;
}

/** The test that finds a mutant; undefined if it survives. */
function finder({ by, system }) {
  if (system) return run('system', [system]);
  return (by && fs.existsSync(by) ? run('unit', [by]) : undefined) ?? run('unit', []);
}

const survivors = [];
try {
  const begins =
    run('unit', []) ??
    [...new Set(chosen.flatMap(m => m.system ?? []))].map(file => run('system', [file])).find(Boolean);
  if (begins !== undefined) throw new Error(`the tests fail without a mutant: ${begins}`);
  console.log('| rule that the mutant breaks | file below `src/` | test that fails |\n| --- | --- | --- |');
  for (const m of chosen) {
    const path = join(copy, 'src', m.file);
    const text = fs.readFileSync(path, 'utf8');
    if (text.split(m.from).length !== 2) throw new Error(`"${m.from}" does not occur once in src/${m.file}`);
    fs.writeFileSync(path, text.replace(m.from, () => m.to));
    const found = finder(m);
    fs.writeFileSync(path, text);
    if (found === undefined) survivors.push(m.rule);
    console.log(`| ${m.rule} | \`${m.file}\` | ${found ?? '**none**'} |`);
  }
} finally {
  fs.rmSync(copy, { recursive: true });
}
console.log(`\n${chosen.length - survivors.length} of ${chosen.length} mutants make a test fail`);
if (survivors.length > 0) process.exitCode = 1;
