// Benchmarks 6 and 7: logging out with processes that do not want to go.
import { fork, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { schrootPeer } from './login.mjs';
import { breathe, ENV, median, numberRow, ratioRow, roundRobin, run, sleep, until } from './measure.mjs';
import { atEnd, endAll, hook, hooks, leftOf, mountsBelow, mustBeGone, prefix, recordOf } from './sandbox.mjs';

const CROWD = 500;
const CAP = 300;
const IGNORE = '$SIG{$_} = "IGNORE" for qw(TERM HUP INT QUIT USR1 USR2);';

/** Half of them forked, half forked twice and in a process session of their own. They end by themselves, late. */
const stubborn = count => [
  'perl',
  '-e',
  `use POSIX (); ${IGNORE}
  for my $i (1 .. ${count}) {
    my $pid = fork // die "fork: $!";
    if ($pid) { waitpid $pid, 0 if $i % 2; next }
    if ($i % 2) { POSIX::setsid(); my $again = fork // die "fork: $!"; exit 0 if $again }
    sleep 120; exit 0;
  }`,
];

/**
 * Processes that fork all the time and go at random, so that their numbers are new ones whenever somebody looks.
 * Capped by the user's own limit, which needs no controller and can not be raised from inside. Ends by itself.
 */
const bomb = [
  'prlimit',
  `--nproc=${CAP}:${CAP}`,
  'perl',
  '-e',
  `use POSIX (); ${IGNORE} $SIG{CHLD} = "IGNORE"; my $end = time + 8;
  exit 0 if fork;
  POSIX::setsid();
  while (time < $end) {
    my $pid = fork;
    if (!defined $pid) { select undef, undef, undef, 0.002; exit 0 if rand() < 0.005 }
    elsif ($pid) { exit 0 if rand() < 0.4 }
    else { srand }
  }`,
];

/** Processes of a user; those that are dead and only not yet reaped count where `dead` says so. */
function processesOf(uid, dead = false) {
  return readdirSync('/proc').filter(entry => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      const status = readFileSync(`/proc/${entry}/status`, 'utf8');
      return Number(/^Uid:\t(\d+)/m.exec(status)?.[1]) === uid && (dead || !/^State:\t[ZX]/m.test(status));
    } catch {
      return false; // gone meanwhile
    }
  });
}

/** A login the way gdm does it, in which `command` has run. `end()` runs PostSession. */
async function gdmLogin(s, user, command) {
  const { config, runtime } = s;
  const argument = JSON.stringify({ config, runtime, hooks, user, command });
  const worker = fork(new URL('./gdm-worker.mjs', import.meta.url), [argument], { env: ENV, cwd: '/' });
  const exit = new Promise(resolve => worker.once('exit', resolve));
  atEnd('a worker', async () => {
    if (worker.exitCode === null && worker.signalCode === null && worker.kill('SIGKILL')) await exit;
  });
  const answer = () =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve);
      exit.then(() => reject(new Error('the worker died')));
    });
  const { up, error } = await answer();
  if (!up) throw new Error(`no session through gdm's worker: ${error}`);
  return {
    record: recordOf(s, user),
    async end() {
      const reply = answer();
      worker.send('end');
      const { down } = await reply;
      await exit;
      return down;
    },
  };
}

/** The same the way lightdm does it: one daemon runs everybody's hooks, so nothing is adopted. */
function lightdmLogin(s, user, command) {
  hook(s, 'setup', user);
  const record = recordOf(s, user);
  run('schroot', ['-c', record.id, '-d', '/', '--', ...command], {
    uid: user.uid,
    gid: user.gid,
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  return {
    record,
    async end() {
      try {
        return { ms: hook(s, 'cleanup', user), code: 0, stderr: '' };
      } catch (error) {
        return { ms: Number.NaN, code: 1, stderr: error.message };
      }
    },
  };
}

/** Kills by user until nobody is left, then unmounts: what an administrator would write. */
function pkillLoop(user, root, milliseconds) {
  if (!user.name.startsWith(prefix)) throw new Error(`${user.name} is not a user of ours`);
  const script = 'while pkill -KILL -U "$0"; do :; done; umount -l "$1"';
  const begin = process.hrtime.bigint();
  const child = spawnSync('sh', ['-c', script, String(user.uid), root], {
    env: ENV,
    stdio: 'ignore',
    timeout: milliseconds,
  });
  const ms = Number(process.hrtime.bigint() - begin) / 1e6;
  if (child.status !== 0) run('umount', ['-l', root]);
  return ms;
}

/** One login with processes in it, its end timed: {ms, left}. `expected` processes must be there first. */
async function teardown(s, user, login, command, expected, peer) {
  const session = await login(s, user, command);
  // Without asking schroot: beside a fork bomb a child takes seconds.
  if (mountsBelow(session.record.root).length <= session.record.mounts.length)
    throw new Error(`session ${session.record.id} is not mounted`);
  if (!(await until(() => processesOf(user.uid).length >= expected, 5000)))
    throw new Error(`only ${processesOf(user.uid).length} of ${expected} processes came up`);
  const there = processesOf(user.uid).length;
  const peerMs = peer ? pkillLoop(user, session.record.root, 9000) : undefined;
  const survivors = peer ? processesOf(user.uid).length : 0;
  const { ms, code, stderr } = await session.end();
  if (peer) {
    await until(() => processesOf(user.uid).length === 0, 10_000);
    if (code !== 0) endAll(s);
    return { ms: peerMs, left: survivors, there };
  }
  const now = processesOf(user.uid).length;
  await sleep(300); // one that was missed would have forked again
  const left = Math.max(now, processesOf(user.uid).length) + leftOf(s, session.record).length;
  if (code !== 0) console.error(stderr.trim());
  if (left > 0 || code !== 0) {
    await until(() => processesOf(user.uid).length === 0, 10_000);
    endAll(s);
  }
  mustBeGone(s, session.record);
  return { ms, left: left + (code === 0 ? 0 : 1), there };
}

const column = (results, key) => results.map(r => r[key]);
const total = values => values.reduce((sum, value) => sum + value, 0);

export async function manyProcesses({ slowRounds, overlay, users }) {
  const s = await overlay();
  const [user] = await users(1);
  const once = (login, peer) => () => teardown(s, user, login, stubborn(CROWD), CROWD, peer);
  const { gdm, lightdm, pkill } = await roundRobin(
    slowRounds,
    { gdm: once(gdmLogin), lightdm: once(lightdmLogin), pkill: once(gdmLogin, true) },
    1,
  );
  const peer = `pkill loop ${median(column(pkill, 'ms')).toFixed(0)} ms`;
  const rows = [];
  for (const [name, results] of Object.entries({ gdm, lightdm })) {
    const ms = column(results, 'ms');
    const detail = { rounds: ms.length, worst_ms: Math.max(...ms), peer_ms: median(column(pkill, 'ms')) };
    rows.push(
      numberRow(`teardown/500-${name}`, 'ms', median(ms), 1000, peer, detail),
      numberRow(`teardown/500-${name}`, 'left behind', total(column(results, 'left')), 0),
    );
  }
  return [...rows, await againstKillprocs({ s, user, slowRounds })];
}

/** schroot kills one process after the other and sleeps a second after each: three are enough to wait for. */
async function againstKillprocs({ s, user, slowRounds }) {
  const entry = schrootPeer(s);
  const command = ['perl', '-e', 'for (1 .. 3) { next if fork; sleep 120; exit 0 }'];
  const { ours, schroot } = await roundRobin(
    Math.min(slowRounds, 5),
    {
      ours: async () => (await teardown(s, user, gdmLogin, command, 3)).ms,
      schroot: async () => {
        const name = `${entry}-three`;
        run('schroot', ['-b', '-c', entry, '-n', name]);
        run('schroot', ['-r', '-c', name, '-d', '/', '-u', user.name, '--', ...command], { stdio: 'ignore' });
        if (processesOf(user.uid).length !== 3) throw new Error('the three processes are not there');
        const { ms } = run('schroot', ['-e', '-c', name]);
        if (mountsBelow(`/run/schroot/mount/${name}`).length > 0) throw new Error('schroot left mounts');
        return ms;
      },
    },
    0,
  );
  return ratioRow('teardown/3-obedient', 'schroot -e', ours, schroot, 0.1);
}

export async function forkBomb({ slowRounds, overlay, users, say }) {
  const s = await overlay();
  const [user] = await users(1);
  const rows = [];
  const series = async (tries, login, peer) => {
    const results = [];
    for (let i = 0; i < tries; i++) {
      await breathe();
      const result = await teardown(s, user, login, bomb, CAP / 2, peer);
      say(`  ${result.there} processes: ${result.ms.toFixed(0)} ms, ${result.left} left`);
      results.push(result);
      // The dead count towards the cap of the next one until they are reaped.
      await until(() => processesOf(user.uid, true).length === 0, 20_000);
    }
    return results;
  };
  say('a fork bomb against the pkill loop');
  const pkill = await series(2, gdmLogin, true);
  const peer = `pkill loop ${median(column(pkill, 'ms')).toFixed(0)} ms`;
  for (const [name, login] of Object.entries({ gdm: gdmLogin, lightdm: lightdmLogin })) {
    say(`a fork bomb in a session of ${name}`);
    const results = await series(Math.max(10, slowRounds), login);
    const ms = column(results, 'ms');
    const late = results.filter(r => !(r.ms <= 1000) || r.left > 0).length;
    const detail = { rounds: ms.length, median_ms: median(ms), peer_ms: median(column(pkill, 'ms')) };
    rows.push(
      numberRow(`teardown/bomb-${name}`, 'worst ms', Math.max(...ms), 1000, peer, detail),
      numberRow(`teardown/bomb-${name}`, 'left behind', total(column(results, 'left')), 0),
      numberRow(`teardown/bomb-${name}`, `not in 1 s of ${ms.length}`, late, 0),
    );
  }
  return rows;
}
