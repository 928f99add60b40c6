// Benchmarks 1 to 4: beginning a login, starting up, entering.
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { fileURLToPath } from 'node:url';
import { numberRow, p90Row, ratioRow, roundRobin, run } from './measure.mjs';
import {
  atEnd,
  bundle,
  hook,
  hooks,
  mountsBelow,
  mustBeGone,
  mustBeListed,
  mustBeUp,
  prefix,
  recordOf,
  removeTree,
  schrootEntry,
  scratch,
  startAgent,
  withAgent,
} from './sandbox.mjs';

/** One login and logout of ours, checked; milliseconds of each. */
export function ourRound(s, user) {
  const begin = hook(s, 'setup', user);
  const record = recordOf(s, user);
  mustBeUp(record);
  const end = hook(s, 'cleanup', user);
  mustBeGone(s, record);
  return { begin, end };
}

/** The same of schroot's. */
function schrootRound(entry) {
  const name = `${entry}-session`;
  const begin = run('schroot', ['-b', '-c', entry, '-n', name]).ms;
  const root = `/run/schroot/mount/${name}`;
  if (mountsBelow(root).length < 7) throw new Error(`schroot mounted only ${mountsBelow(root).join(', ')}`);
  mustBeListed(`session:${name}`);
  const end = run('schroot', ['-e', '-c', name]).ms;
  if (mountsBelow(root).length > 0) throw new Error(`schroot left ${root} mounted`);
  return { begin, end };
}

/** schroot's entry for the same tree on the same kind of volume, with its default profile. */
export function schrootPeer(s) {
  s.peer ??= makeSchrootPeer(s);
  return s.peer;
}

function makeSchrootPeer(s) {
  const own = `${s.backend === 'btrfs' ? s.pool : scratch}/${prefix}-peer`;
  mkdirSync(own, { mode: 0o755 });
  atEnd(own, () => removeTree(own));
  return schrootEntry(
    s.backend,
    s.backend === 'btrfs'
      ? ['type=btrfs-snapshot', `btrfs-source-subvolume=${s.tree}`, `btrfs-snapshot-directory=${own}`]
      : ['type=directory', `directory=${s.tree}`, 'union-type=overlay', `union-overlay-directory=${own}`],
  );
}

/** The plain script, with the mounts one of our own sessions has. */
function scriptPeer(s, user) {
  const base = `${scratch}/plain`;
  mkdirSync(base);
  const table = `${base}/table`;
  const entry = `/etc/schroot/chroot.d/${prefix}-plain`;
  hook(s, 'setup', user);
  const record = recordOf(s, user);
  hook(s, 'cleanup', user);
  const lines = record.mounts.map(m => {
    const options = m.options.replace(',rslave', '').replace(',slave', '');
    return `${m.source} ${m.target.slice(record.root.length)} ${m.type} ${options}\n`;
  });
  writeFileSync(table, lines.join(''));
  const script = `${scratch}/plain-login.sh`;
  writeFileSync(script, readFileSync(fileURLToPath(new URL('./plain-login.sh', import.meta.url))));
  chmodSync(script, 0o755);
  const id = `${prefix}-plain-session`;
  const root = `${base}/roots/${id}`;
  const takeDown = () => {
    rmSync(entry, { force: true });
    if (mountsBelow(root).length > 0) run('umount', ['-l', root]);
    if (existsSync(root)) rmdirSync(root);
    removeTree(`${base}/volumes/${id}`);
    rmSync(`${base}/records/${id}`, { force: true });
  };
  atEnd('the plain script', takeDown);
  return () => {
    const { ms } = run(script, [base, id, String(user.uid), s.tree, table, entry]);
    if (mountsBelow(root).length < 1 + record.mounts.length)
      throw new Error('the plain script mounts too little');
    mustBeListed(`chroot:${id}`);
    takeDown();
    return ms;
  };
}

const begins = results => results.map(r => r.begin);
const ends = results => results.map(r => r.end);

export async function overlayLogin({ rounds, overlay, users }) {
  const s = await overlay();
  const [user] = await users(1);
  const entry = schrootPeer(s);
  await startAgent(s);
  const { ours, agent, node, schroot, script } = await roundRobin(rounds, {
    ours: () => ourRound(s, user),
    agent: () => withAgent(() => ourRound(s, user)),
    node: () => run('node', ['-e', '0']).ms,
    schroot: () => schrootRound(entry),
    script: scriptPeer(s, user),
  });
  return [
    ratioRow('login-begin/overlay', 'schroot -b', begins(ours), begins(schroot), 0.35),
    ratioRow('login-begin/overlay/bash', 'plain bash', begins(ours), script, 2),
    ratioRow('login-end/overlay', 'schroot -e', ends(ours), ends(schroot), 0.6),
    ratioRow('login-begin/overlay/agent', 'schroot -b', begins(agent), begins(schroot), 0.05),
    ratioRow('login-begin/overlay/agent', 'node -e 0', begins(agent), node, 0.35),
    ratioRow('login-begin/overlay/agent/bash', 'plain bash', begins(agent), script, 1),
    ratioRow('login-end/overlay/agent', 'schroot -e', ends(agent), ends(schroot), 0.4),
  ];
}

export async function btrfsLogin({ rounds, btrfs, users }) {
  const s = await btrfs();
  const [user] = await users(1);
  const entry = schrootPeer(s);
  const rows = [];
  const measure = async (suffix, count) => {
    const { ours, schroot } = await roundRobin(count, {
      ours: () => ourRound(s, user),
      schroot: () => schrootRound(entry),
    });
    rows.push(ratioRow(`login-begin/btrfs${suffix}`, 'schroot -b', begins(ours), begins(schroot), 0.35));
    rows.push(ratioRow(`login-end/btrfs${suffix}`, 'schroot -e', ends(ours), ends(schroot), 0.6));
    if (suffix) rows.push(p90Row(`login-begin/btrfs${suffix}`, 'schroot -b', begins(ours), begins(schroot)));
  };
  await measure('', rounds);

  const file = `${s.pool}/${prefix}-written`;
  const loop = 'while :; do dd if=/dev/zero of="$0" bs=1M count=48 conv=fsync 2>/dev/null; done';
  // A process group of its own, so that one kill takes the shell and its dd.
  const writer = spawn('sh', ['-c', loop, file], { detached: true, stdio: 'ignore' });
  const stopWriter = async () => {
    if (writer.exitCode !== null || writer.signalCode !== null) return;
    const gone = new Promise(resolve => writer.once('exit', resolve));
    process.kill(-writer.pid, 'SIGKILL');
    await gone;
  };
  atEnd('the writer', async () => {
    await stopWriter();
    rmSync(file, { force: true });
  });
  await measure('+writer', rounds);
  await stopWriter();
  rmSync(file, { force: true });

  const many = `${s.pool}/${prefix}-many`;
  mkdirSync(many);
  atEnd('the snapshots', () => {
    run('sh', ['-c', 'cd "$0" && ls | xargs -r btrfs subvolume delete -- && rmdir "$0"', many]);
  });
  const make = 'for i in $(seq 1000); do btrfs subvolume snapshot -- "$0" "$1/$i" || exit; done';
  run('sh', ['-c', make, s.tree, many]);
  await measure('+1000', rounds);
  return rows;
}

/** What a bundle loads, wherever in it. */
const loadedBy = text =>
  [...text.matchAll(/\b(?:require|import)\(\s*["'`]([^"'`]+)["'`]\s*\)/g)].map(m => m[1]);

export async function startUp({ rounds, overlay, users }) {
  const s = await overlay();
  const [user] = await users(1);
  ourRound(s, user); // a machine that has seen a login: V8's code is kept, the place for mount points is there
  const env = { USER: user.name, DISPLAY: ':1' };
  // Node's options and the environment as in the hook.
  const script = readFileSync(`${hooks}/run`, 'utf8');
  const [, options] = /\bnode ((?:--\S+ )*)/.exec(script);
  const [, name, value] = /env -i (\w+)=(\S+) PATH=/.exec(script) ?? [];
  const own = name ? { ...env, [name]: value } : env;
  const command = ['hook', 'lightdm', 'start', '--dry-run', '--config', s.config];
  const args = [...options.split(' ').filter(Boolean), bundle, ...command];
  const { ours, node } = await roundRobin(rounds, {
    ours: () => {
      const { ms, stdout } = run('node', args, { env: own });
      if (!/^mount overlay on /m.test(stdout)) throw new Error('the dry run plans no mount');
      return ms;
    },
    node: () => run('node', ['-e', '0'], { env }).ms,
  });
  const hot = bundle.replace(/[^/]*$/, 'hot.js');
  const loaded = [bundle, hot].flatMap(path => loadedBy(readFileSync(path, 'utf8')));
  if (loaded.length === 0) throw new Error('nothing is found that the bundle loads');
  const foreign = loaded.filter(
    // Our own bundles are loaded on use.
    name => !name.startsWith('node:') && !builtinModules.includes(name) && !/^\.\/[\w-]+\.cjs$/.test(name),
  );
  return [
    ratioRow('start-up/dry-run', 'node -e 0', ours, node, 1.15),
    numberRow('start-up/requires', 'foreign modules', foreign.length, 0, '', { foreign }),
  ];
}

export async function enter({ rounds, overlay, users }) {
  const s = await overlay();
  const [user] = await users(1);
  hook(s, 'setup', user);
  const record = recordOf(s, user);
  mustBeUp(record);
  const entry = schrootEntry('enter', ['type=plain', `directory=${record.root}`, `users=${user.name}`]);
  const as = { uid: user.uid, gid: user.gid };
  const into = name => () => {
    const { ms, stdout } = run('schroot', ['-c', name, '-d', '/', '--', 'cat', '/etc/mayfly-session'], as);
    if (JSON.parse(stdout).session !== record.id) throw new Error(`"${name}" leads somewhere else`);
    return ms;
  };
  const { ours, plain } = await roundRobin(rounds, { ours: into(record.id), plain: into(entry) });
  hook(s, 'cleanup', user);
  mustBeGone(s, record);
  return [ratioRow('login-enter', 'type=plain entry', ours, plain, 1.1)];
}
