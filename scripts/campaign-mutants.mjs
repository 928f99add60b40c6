/**
 * Breaks one safety rule after the other in a copy of the tree and runs the tests: each must make one fail. Prints a
 * table, as docs/mutants.md has it, and exits with 1 where a mutant survives. Arguments: `--unit` leaves out those that
 * only a system test can find (which need root); others are parts of names of mutants to run alone.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const STEPS = 'record, volume, mounts, home, processes, access';
const BACKENDS = 'test/system/backends.test.ts';

/**
 * `from` stands once in `file`, below src/, and becomes `to`. `by` is the file of the test that is to find it, which is
 * run first; what it does not find, all unit tests may.
 */
const MUTANTS = [
  // Nobody of the host is killed, and nothing of the host is unmounted.
  {
    rule: 'the host’s devices are no session’s',
    file: 'linux/processes.ts',
    from: 'if (dev !== undefined && devices.has(dev)) {',
    to: 'if (dev === -1) {',
    by: 'test/linux/kill.test.ts',
  },
  {
    rule: 'killing asks that guard first',
    file: 'linux/kill.ts',
    from: '  refuseHostDevices(host, devices);\n',
    to: '',
    by: 'test/linux/kill.test.ts',
  },
  {
    rule: 'looking for holders asks that guard first',
    file: 'linux/processes.ts',
    from: '  refuseHostDevices(host, devices);\n',
    to: '',
    by: 'test/linux/kill.test.ts',
  },
  {
    rule: 'a login whose mount did not happen ends',
    file: 'session/steps/mounts.ts',
    from: '    refuseHostDevice(host, s.root);\n',
    to: '',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'recorded device numbers count only while they show',
    file: 'session/steps/processes.ts',
    from: 'devices: await presentDevices(s, on)',
    to: 'devices: new Set(s.devices)',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'what is mounted over a session’s root later is not the session’s',
    file: 'session/steps/processes.ts',
    from: 'shown.filter(d => s.devices.includes(d))',
    to: 'shown',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'of a login that died half-way only the root is its own',
    file: 'session/steps/processes.ts',
    from: 'shown.slice(0, 1)',
    to: 'shown',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'a number that shows nowhere counts only while the volume is in use',
    file: 'session/steps/processes.ts',
    from: 'held === undefined ? [] : [s.devices[0]]',
    to: '[s.devices[0]]',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'device numbers of another boot do not count',
    file: 'session/steps/processes.ts',
    from: ' || s.boot !== bootId(on.host)',
    to: '',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'of other people’s processes only those that have their root inside die',
    file: 'linux/kill.ts',
    from: 'deep && uidOf(host, pid) === uid && look.useOf(pid)',
    to: 'deep && look.useOf(pid)',
    by: 'test/linux/kill.test.ts',
  },
  {
    rule: 'we do not kill ourselves',
    file: 'linux/kill.ts',
    from: '    found.delete(host.pid);\n',
    to: '',
    by: 'test/linux/kill.test.ts',
  },
  {
    rule: 'an unfinished tree is made a slave before it is detached',
    file: 'linux/mounts.ts',
    from: 'if (unfinished) calls.unshift',
    to: 'if (root === "") calls.unshift',
    by: 'test/linux/mounts.test.ts',
  },
  {
    rule: 'a tree without a record of its devices is unfinished',
    file: 'session/steps/mounts.ts',
    from: 's.devices.length === 0, on.lockFds',
    to: 'false, on.lockFds',
    by: 'test/session/crash.test.ts',
  },
  {
    rule: 'binds of the host are slaves',
    file: 'session/mount-plan.ts',
    from: "? 'rbind,rslave' :",
    to: "? 'rbind' :",
    by: 'test/planners.test.ts',
  },
  {
    rule: 'nothing is mounted on a symlink of the generation',
    file: 'linux/mount-program.ts',
    from: '} elsif (-l $target) {',
    to: '} elsif (-l $target && 0) {',
    by: 'test/planners.test.ts',
  },
  {
    rule: 'loop devices of a session are released',
    file: 'session/steps/mounts.ts',
    from: '    await releaseLoops(on.host, s.root);\n',
    to: '',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'loop devices of others are not',
    file: 'session/steps/mounts.ts',
    from: '?.startsWith(`${root}/`)',
    to: '?.startsWith(root)',
    by: 'test/session/guards.test.ts',
  },
  // A login gets the generation that was proven, whole, or none.
  {
    rule: 'a login looks for its generation after it has written its record',
    file: 'session/session.ts',
    from: '      if (step === steps[0]) await verifyGeneration(on, s, generation);\n',
    to: '',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'a generation whose volume was replaced gets no login',
    file: 'session/session.ts',
    from: 'isSameVolume(identity, generation.identity)',
    to: 'identity !== undefined',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'two identities are compared',
    file: 'volume/backend.ts',
    from: 'identity === recorded ||',
    to: 'identity !== recorded ||',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'a retired generation gets no login',
    file: 'session/session.ts',
    from: 'const sealed = isSealed(on.host, on.paths, generation.number);',
    to: 'const sealed = true;',
    by: 'test/update/retention.test.ts',
  },
  {
    rule: 'nobody logs in while logins are blocked',
    file: 'session/session.ts',
    from: "s.kind === 'login' ? loginBlockReason(on) : undefined",
    to: 'undefined',
    by: 'test/update/update.test.ts',
  },
  {
    rule: 'a full pool admits nobody',
    file: 'session/steps/volume.ts',
    from: '    admit(await backend.usage(s.volume.pool), s.volume.pool, { max_used_percent, min_free });\n',
    to: '',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'nor does a full file system around a pool’s image',
    file: 'session/steps/volume.ts',
    from: 'if (image !== undefined) admit(',
    to: 'if (image === "") admit(',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'the limit in percent counts',
    file: 'volume/usage.ts',
    from: 'usage.percent > limits.max_used_percent',
    to: 'usage.percent > 100',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'the least room counts',
    file: 'volume/usage.ts',
    from: 'usage.free < limits.min_free',
    to: 'usage.free < 0',
    by: 'test/session/guards.test.ts',
  },
  // The order of login and logout.
  {
    rule: 'the record is written first and deleted last',
    file: 'session/steps.ts',
    from: STEPS,
    to: 'volume, mounts, home, processes, access, record',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'access is opened last and closed first',
    file: 'session/steps.ts',
    from: STEPS,
    to: 'record, access, volume, mounts, home, processes',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'processes die before their tree is detached',
    file: 'session/steps.ts',
    from: STEPS,
    to: 'record, volume, processes, mounts, home, access',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'a volume is removed after its tree is detached',
    file: 'session/steps.ts',
    from: STEPS,
    to: 'record, mounts, volume, home, processes, access',
    by: 'test/session/crash.test.ts',
  },
  {
    rule: 'a logout halts at the step that fails',
    file: 'session/session.ts',
    from: '${reasonOf(error)}` });\n      throw error;\n',
    to: '${reasonOf(error)}` });\n',
    by: 'test/session/stuck.test.ts',
  },
  {
    rule: 'a storage command that is still running is left alone',
    file: 'session/session.ts',
    from: "error.code === 'timeout'",
    to: "error.code === 'usage'",
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'recovery ends no session that may be alive',
    file: 'session/over.ts',
    from: 's.logins.every(',
    to: 's.logins.some(',
    by: 'test/service/service.test.ts',
  },
  // Generations.
  {
    rule: 'a generation that sessions use is not retired',
    file: 'update/retention.ts',
    from: ' || pinned.has(number);',
    to: ';',
    by: 'test/update/retention.test.ts',
  },
  {
    rule: 'nor is one while a record cannot be read',
    file: 'update/retention.ts',
    from: '    if (!s && host.lstat(`${paths.sessions}/${id}.json`)) return undefined;\n',
    to: '',
    by: 'test/update/retention.test.ts',
  },
  {
    rule: 'nor is the stable one',
    file: 'update/retention.ts',
    from: 'const needed = stableNumber(host, paths) === number || ',
    to: 'const needed = ',
    by: 'test/update/retention.test.ts',
  },
  {
    rule: 'pins are looked for after the file was taken away',
    file: 'update/retention.ts',
    from: "  if (proven) changeState(host, paths, number, 'proven', 'retired');\n",
    to: '',
    by: 'test/update/retention.test.ts',
  },
  {
    rule: 'what a generation on probation falls back to is kept',
    file: 'update/retention.ts',
    from: 'if (number === o.fallback)',
    to: 'if (number === -1)',
    by: 'test/update/update.test.ts',
  },
  {
    rule: 'a generation is checked before it is promoted',
    file: 'update/update.ts',
    from: "    enter('check');\n",
    to: "    pointStableAt(host, paths, number);\n    enter('check');\n",
    by: 'test/update/update.test.ts',
  },
  {
    rule: 'one that fails its checks is not promoted',
    file: 'update/update.ts',
    from: 'await checkGeneration(on, generation, o.say);',
    to: 'await checkGeneration(on, generation, o.say).catch(() => ({ warnings: [] }));',
    by: 'test/update/update.test.ts',
  },
  {
    rule: 'what is about to be promoted is written down first',
    file: 'update/update.ts',
    from: '  writeIntent(host, paths, number, before);\n',
    to: '',
    by: 'test/update/update.test.ts',
  },
  {
    rule: 'a rollback meanwhile is not undone',
    file: 'update/update.ts',
    from: 'if (now !== before) {',
    to: 'if (now === -1) {',
    by: 'test/update/retention.test.ts',
  },
  // Who gets what.
  {
    rule: 'accounts of the system are out of scope',
    file: 'session/scope.ts',
    from: 'user.uid < config.min_uid || user.uid === 65534',
    to: 'user.uid === 65534',
    by: 'test/planners.test.ts',
  },
  {
    rule: 'who is excluded is out of scope',
    file: 'session/scope.ts',
    from: ' && !isMember(config.exclude, user, groups)',
    to: '',
    by: 'test/planners.test.ts',
  },
  {
    rule: 'sudo is for those who are named',
    file: 'session/identity.ts',
    from: 'return allowed ?',
    to: 'return !allowed ?',
    by: 'test/planners.test.ts',
  },
  {
    rule: 'it is looked up who is named',
    file: 'session/identity.ts',
    from: 'isMember(config.sudo, s.user, groups)',
    to: 'true',
    by: 'test/session/guards.test.ts',
  },
  {
    rule: 'membership in groups that make root is not carried in',
    file: 'session/identity.ts',
    from: ' || !ROOT_GROUPS.has(g.name)',
    to: ' || true',
    by: 'test/planners.test.ts',
  },
  {
    rule: 'only a session’s own user may enter it',
    file: 'session/schroot.ts',
    from: '`users=${s.user.name}`',
    to: "'users=*'",
    by: 'test/planners.test.ts',
  },
  {
    rule: 'a script that others can write is not run as root',
    file: 'linux/run-parts.ts',
    from: 'if (there.uid !== 0 || (there.mode & 0o022) !== 0) {',
    to: 'if (there.uid !== 0) {',
    by: 'test/linux/run-parts.test.ts',
  },
  {
    rule: 'nor one of another owner',
    file: 'linux/run-parts.ts',
    from: 'if (there.uid !== 0 || (there.mode & 0o022) !== 0) {',
    to: 'if ((there.mode & 0o022) !== 0) {',
    by: 'test/linux/run-parts.test.ts',
  },
  {
    rule: 'nor one in a directory that others can write',
    file: 'linux/run-parts.ts',
    from: 'if (own && (own.uid !== 0 || (own.mode & 0o022) !== 0)) {',
    to: 'if (own && own.uid !== 0) {',
    by: 'test/linux/run-parts.test.ts',
  },
  {
    rule: 'a name that is no volume’s leads nowhere',
    file: 'volume/directory-layout.ts',
    from: 'if (!isNameOf(v.role, v.name)) {',
    to: "if (v.name === '') {",
    by: 'test/volume/memory.test.ts',
  },
  // Storage, for which the real file systems are needed.
  {
    rule: 'a subvolume in use is not deleted',
    file: 'volume/btrfs.ts',
    from: "if (busy) throw new MayflyError('stuck'",
    to: "if (busy === '') throw new MayflyError('stuck'",
    system: BACKENDS,
  },
  {
    rule: 'a subvolume is known by its UUID',
    file: 'volume/btrfs.ts',
    from: '`subvolume ${await uuidOf(v, rootOf(v))}`',
    to: "'subvolume'",
    system: BACKENDS,
  },
  {
    rule: 'a kept UUID holds for one state of the directory',
    file: 'volume/btrfs-uuids.ts',
    from: 'known.directory === directory ?',
    to: 'known.directory !== undefined ?',
    system: BACKENDS,
  },
  {
    rule: 'a directory is known by more than its inode',
    file: 'volume/overlay.ts',
    from: ' of ${s.birthtimeMs}`',
    to: '`',
    system: BACKENDS,
  },
  {
    rule: 'a copy becomes a generation when it is whole',
    file: 'volume/overlay.ts',
    from: "const aside = asidePath(to, 'new');\n      if (host.lstat(aside)) await erase(aside);",
    to: 'const aside = path;',
    system: BACKENDS,
  },
];

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

/** Runs tests in the copy; the first that failed, or why none was run. */
function run(project, files) {
  const report = join(copy, 'report.json');
  fs.rmSync(report, { force: true });
  const words = ['run', '--project', project, '--bail=1', '--reporter=json', `--outputFile=${report}`, ...files];
  const r = spawnSync('node_modules/.bin/vitest', words, { cwd: copy, encoding: 'utf8' });
  if (r.status === 0) return undefined;
  if (!fs.existsSync(report)) throw new Error(`vitest did not run: ${r.stdout}${r.stderr}`);
  const { testResults } = JSON.parse(fs.readFileSync(report, 'utf8'));
  const failed = testResults.flatMap(f => f.assertionResults).find(t => t.status === 'failed');
  // A mutant that cannot be loaded, or an error between the tests, says nothing about the rule.
  if (!failed) throw new Error(`no test failed, but: ${testResults.map(f => f.message).join('\n')}`);
  return failed.fullName;
}

/** What finds a mutant: all unit tests where the named file does not. */
function finder({ by, system }) {
  if (system) return run('system', [system]);
  return (by && fs.existsSync(by) ? run('unit', [by]) : undefined) ?? run('unit', []);
}

const survivors = [];
try {
  const begins = run('unit', []);
  if (begins !== undefined) throw new Error(`the tests fail without a mutant: ${begins}`);
  console.log('| rule that is broken | file | found by |\n| --- | --- | --- |');
  for (const m of chosen) {
    const path = join(copy, 'src', m.file);
    const text = fs.readFileSync(path, 'utf8');
    if (text.split(m.from).length !== 2) throw new Error(`"${m.from}" does not stand once in src/${m.file}`);
    fs.writeFileSync(path, text.replace(m.from, () => m.to));
    const found = finder(m);
    fs.writeFileSync(path, text);
    if (found === undefined) survivors.push(m.rule);
    console.log(`| ${m.rule} | \`${m.file}\` | ${found ?? '**nothing**'} |`);
  }
} finally {
  fs.rmSync(copy, { recursive: true });
}
console.log(`\n${chosen.length - survivors.length} of ${chosen.length} mutants are found`);
if (survivors.length > 0) process.exitCode = 1;
