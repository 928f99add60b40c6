// Mayflies of our own to measure: users, pools, schroot entries, and taking all of it away again.
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { fileURLToPath } from 'node:url';
import { breathe, ENV, run, until } from './measure.mjs';

const project = fileURLToPath(new URL('../..', import.meta.url));
export const scratch = `/var/tmp/mayfly-bench-${process.pid}`;
/** What the names of everything we make outside of the scratch directory begin with. */
export const prefix = `mfb${process.pid}`;
const app = `${scratch}/app`;
export const hooks = `${app}/hooks`;
export const bundle = `${app}/dist/mayfly.cjs`;
const schrootDirectory = '/etc/schroot/chroot.d';

const undo = [];
/** Registers what to do at the end; the last is done first. */
export const atEnd = (what, act) => undo.push({ what, act });

/** Undoes everything. Goes on past what fails, and says so. Returns the number of failures. */
export async function cleanUp() {
  let failures = 0;
  while (undo.length > 0) {
    const { what, act } = undo.pop();
    try {
      await act();
    } catch (error) {
      failures++;
      console.error(`clean-up of ${what}: ${error.message}`);
    }
  }
  return failures;
}

/** Mount points at or below `path`. */
export function mountsBelow(path, table = '/proc/self/mountinfo') {
  return readFileSync(table, 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point === path || point.startsWith(`${path}/`));
}

/** Deletes a tree in which nothing is mounted. */
export function removeTree(path) {
  const mounted = mountsBelow(path);
  if (mounted.length > 0) throw new Error(`${mounted.join(', ')} is still mounted; "${path}" is left alone`);
  rmSync(path, { recursive: true, force: true });
}

/** The scratch directory with a copy of what is measured, so that a build meanwhile changes nothing. */
export function openScratch() {
  mkdirSync(scratch, { mode: 0o755 });
  atEnd('the scratch directory', () => removeTree(scratch));
  for (const part of ['dist', 'hooks']) cpSync(`${project}/${part}`, `${app}/${part}`, { recursive: true });
  // The agent is our own, and not that of a Mayfly on this machine.
  const text = readFileSync(`${hooks}/run`, 'utf8').replace(
    '\nagent=/run/mayfly/agent\n',
    `\nagent=${place}\n`,
  );
  if (!text.includes(place)) throw new Error('hooks/run names no place for the socket of the agent');
  writeFileSync(`${hooks}/run`, text);
}

const place = `${scratch}/agent`;
const apart = `${scratch}/agent-apart`;

/** Starts the agent, as the service does, and waits until it listens; hooks find it within {@link withAgent} only. */
export async function startAgent(s) {
  mkdirSync(apart, { mode: 0o700 });
  const child = spawn(
    'node',
    ['--v8-pool-size=1', '--max-semi-space-size=2', bundle, 'agent', apart, s.config],
    {
      env: ENV,
      cwd: '/',
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  undo.push({ what: 'the agent', act: () => child.stdin.end() });
  if (!(await until(() => existsSync(`${apart}/${child.pid}.sock`), 30_000)))
    throw new Error('the agent does not listen');
}

/** Runs `act` while hooks find the agent. */
export function withAgent(act) {
  renameSync(apart, place);
  try {
    return act();
  } finally {
    renameSync(place, apart);
  }
}

const users = [];
/** `count` temporary users without password or home. */
export async function temporaryUsers(count) {
  while (users.length < count) {
    await breathe();
    const name = `${prefix}n${users.length}`;
    // Last of all: an account can only go when nothing runs in its name any more.
    undo.unshift({ what: `user ${name}`, act: () => run('userdel', ['-r', name], { expect: [0, 6, 12] }) });
    // With a home below /home, as most have: one elsewhere may be on a file server, and is looked at first.
    run('useradd', ['-m', '-N', '-g', 'nogroup', '-d', `/home/${name}`, '-s', '/bin/sh', name]);
    const [, , uid, gid] = run('getent', ['passwd', name]).stdout.split(':');
    users.push({ name, uid: Number(uid), gid: Number(gid) });
  }
  return users.slice(0, count);
}

export function sessionsOf(s) {
  if (!existsSync(`${s.runtime}/sessions`)) return [];
  return readdirSync(`${s.runtime}/sessions`)
    .filter(name => /^u.*\.json$/.test(name))
    .map(name => name.slice(0, -5));
}

/** The record of the one session this user has. */
export function recordOf(s, user) {
  const id = sessionsOf(s).find(name => name.startsWith(`u${user.uid}-`));
  if (!id) throw new Error(`${user.name} has no session`);
  return JSON.parse(readFileSync(`${s.runtime}/sessions/${id}.json`, 'utf8'));
}

/** A Mayfly of its own with one generation from `from`. */
export function makeSandbox(name, backend, from) {
  const base = `${scratch}/${name}`;
  const s = {
    backend,
    config: `${base}/mayfly.toml`,
    state: `${base}/state`,
    runtime: `${base}/run`,
    pool: `${base}/pool`,
    tree: `${base}/pool/generations/1`,
  };
  mkdirSync(base);
  mkdirSync(`${base}/conf.d`); // as in /etc/mayfly
  const text = [
    '[directories]',
    `state = "${s.state}"`,
    `run = "${s.runtime}"`,
    '[pool]',
    `path = "${s.pool}"`,
    'image_size = "8G"',
    '',
  ];
  writeFileSync(s.config, text.join('\n'));
  atEnd(`the sandbox ${name}`, () => {
    endAll(s);
    mayfly(s, ['destroy', '--yes']);
  });
  mayfly(s, ['init', '--backend', backend, ...from]);
  return s;
}

export function mayfly(s, args, through = []) {
  const [file, ...rest] = [...through, 'node', bundle, ...args, '--config', s.config];
  return run(file, rest);
}

/** Ends every session there is, whatever it went through. */
export function endAll(s, through = []) {
  const attempt = args => {
    try {
      mayfly(s, args, through);
    } catch (error) {
      console.error(error.message);
    }
  };
  if (sessionsOf(s).length > 0) attempt(['recover', '--quiet']);
  for (const id of sessionsOf(s)) attempt(['end', id]);
}

/** The command of a lightdm hook for one user. The display is the user's own, as on a machine with many seats. */
export function lightdm(s, which, user) {
  const env = { USER: user.name, DISPLAY: `:${user.uid}` };
  return [`${hooks}/lightdm/session-${which}`, ['--config', s.config], env];
}

/** Runs a lightdm hook, `through` another command where given; milliseconds. */
export function hook(s, which, user, through = []) {
  const [file, args, env] = lightdm(s, which, user);
  const [first, ...rest] = [...through, file, ...args];
  return run(first, rest, { env }).ms;
}

/** Throws unless the session is whole: recorded, mounted, and a person could enter. */
export function mustBeUp(r, table) {
  const expected = 1 + r.mounts.length;
  const found = mountsBelow(r.root, table).length;
  if (r.state !== 'live' || found < expected) {
    throw new Error(`session ${r.id} is ${r.state} with ${found} mounts of at least ${expected}`);
  }
  mustBeListed(`chroot:${r.id}`);
}

export function mustBeListed(line) {
  const { stdout } = run('schroot', ['-l', '--all']);
  if (!stdout.split('\n').includes(line)) throw new Error(`schroot does not list ${line}`);
}

/** What is left of an ended session, in words; empty where nothing is. */
export function leftOf(s, r) {
  const group = `mayfly${s.runtime.replaceAll('/', '.')}.${r.id}`;
  const places = [
    r.root,
    `${s.pool}/sessions/${r.id}`,
    `${s.runtime}/sessions/${r.id}.json`,
    `${schrootDirectory}/mayfly-${r.id}`,
    `/sys/fs/cgroup/${group}`,
    `/sys/fs/cgroup/unified/${group}`,
  ];
  return [...mountsBelow(r.root), ...places.filter(existsSync)];
}

export function mustBeGone(s, r) {
  const left = leftOf(s, r);
  if (left.length > 0) throw new Error(`session ${r.id} left ${left.join(', ')}`);
}

/** Adds an entry to schroot's configuration; `lines` are its keys. Returns its name. */
export function schrootEntry(kind, lines) {
  const name = `${prefix}-${kind}`;
  const file = `${schrootDirectory}/${name}`;
  atEnd(`the schroot entry ${name}`, () => {
    for (const session of schrootSessions(name)) run('schroot', ['-e', '-f', '-c', session]);
    rmSync(file, { force: true });
  });
  writeFileSync(file, [`[${name}]`, ...lines, ''].join('\n'), { mode: 0o644 });
  return name;
}

const schrootSessions = name =>
  run('schroot', ['-l', '--all-sessions'])
    .stdout.split('\n')
    .filter(line => line.startsWith(`session:${name}`))
    .map(line => line.slice('session:'.length));
