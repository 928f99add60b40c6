/** The hook scripts as display managers run them, with a program that refuses every login in place of Mayfly. */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { GDM_HOOKS, GDM_SCRIPTS, renderGdm } from '../src/desktop/adapters/gdm.ts';
import { isStatic } from '../src/desktop/adapters/pam.ts';
import { CARELESS_HOOK, foundProofs, hostileVariables, splitHostile, writeHostileTools } from './hostile.ts';

let dir: string;

beforeAll(() => {
  dir = fs.mkdtempSync(`${tmpdir()}/mayfly-hooks-`);
  fs.cpSync('hooks', `${dir}/hooks`, { recursive: true });
  fs.mkdirSync(`${dir}/dist`);
  fs.writeFileSync(
    `${dir}/dist/mayfly.cjs`,
    'console.log(process.argv.slice(2).join(" ")); process.exit(4);\n',
  );
});
afterAll(() => fs.rmSync(dir, { recursive: true }));

const login = { PAM_TYPE: 'open_session', PAM_USER: 'alice', PAM_SERVICE: 'gdm-password' };
const called = (adapter: string, action: string, rest = ''): string =>
  `hook ${adapter} ${action}${rest} --caller ${process.pid}\n`;

describe('a hook', () => {
  const program = /\bnode --v8-pool-size=1 --preserve-symlinks-main "\$program" hook /;
  it.each(['run', 'gdm/PostSession'])('starts Node with one thread in the background: %s', hook => {
    expect(fs.readFileSync(`hooks/${hook}`, 'utf8').split(program)).toHaveLength(2);
  });

  it.each(['gdm/PreSession', 'lightdm/session-setup', 'lightdm/session-cleanup', 'pam/session'])(
    'asks the agent first: %s',
    hook => {
      const text = fs.readFileSync(`hooks/${hook}`, 'utf8');
      expect(text).toMatch(/^\. "\$\{0%\/\*\}\/\.\.\/run"$/m);
      expect(text).not.toContain('mayfly.cjs');
    },
  );
});

describe('a hook whose login is refused', () => {
  it.each([
    [
      'lets an automatic login begin and prints nothing',
      'pam/session',
      { ...login, PAM_SERVICE: 'x-autologin' },
      0,
      '',
    ],
    ['lets xrdp show the reason itself', 'pam/session', { ...login, PAM_SERVICE: 'xrdp-sesman' }, 0, ''],
    ['lets tigervnc show the reason itself', 'pam/session', { ...login, PAM_SERVICE: 'tigervnc' }, 0, ''],
    [
      'fails at a logout of xrdp',
      'pam/session',
      { ...login, PAM_SERVICE: 'xrdp-sesman', PAM_TYPE: 'close_session' },
      4,
      called('pam', 'stop', ' --quiet'),
    ],
    [
      'fails at a logout',
      'pam/session',
      { ...login, PAM_TYPE: 'close_session' },
      4,
      called('pam', 'stop', ' --quiet'),
    ],
    ['ignores PAM calls that open no session', 'pam/session', { ...login, PAM_TYPE: 'auth' }, 0, ''],
    ['does not fail the script of gdm', 'gdm/PreSession', { USER: 'alice' }, 0, called('gdm', 'start')],
  ])('%s', (_, hook, env, code, said) => {
    const r = spawnSync(`${dir}/hooks/${hook}`, [], { env, encoding: 'utf8' });
    expect([r.status, r.stdout, r.stderr]).toEqual([code, said, '']);
  });

  it('waits before it fails, because the greeter of gdm shows the reason only until then', async () => {
    const child = spawn(`${dir}/hooks/pam/session`, [], { env: login, detached: true });
    const said = await new Promise(yes => child.stdout.once('data', data => yes(String(data))));
    expect(said).toBe(called('pam', 'start', ' --quiet'));
    await new Promise(yes => setTimeout(yes, 500));
    expect(child.exitCode).toBeNull();
    process.kill(-(child.pid ?? 0));
  });

  it('registers the session with gdm through the wrapper, so that gdm does not log in again and again', () => {
    const bin = `${dir}/bin`;
    fs.mkdirSync(bin);
    fs.writeFileSync(`${bin}/mayfly`, '#!/bin/sh\necho alice gets a session\n', { mode: 0o755 });
    fs.writeFileSync(`${bin}/busctl`, `#!/bin/sh\necho "$@" >${dir}/told\nexit 1\n`, { mode: 0o755 });
    const args = ['--run', `${dir}/run`, 'echo', 'a desktop'];
    const env = { PATH: `${bin}:/usr/bin:/bin` };
    const r = spawnSync(`${dir}/hooks/session-wrapper`, args, { env, encoding: 'utf8' });
    expect([r.status, r.stdout]).toEqual([1, '']);
    expect(r.stderr).toMatch(/^mayfly: there is no session for you .*\n$/);
    expect(fs.readFileSync(`${dir}/told`, 'utf8')).toMatch(/ RegisterSession a\{sv\} 0\n$/);
  });
});

describe('a hook whose agent has begun', () => {
  /** Runs a hook with an agent that says `first` at once, and `then` after `go`. */
  async function run(hook: string, first: string, then: (say: (text: string) => void) => void) {
    const place = fs.mkdtempSync(`${dir}/agent-`);
    const run = fs.readFileSync('hooks/run', 'utf8');
    const text = run.replace('\nagent=/run/mayfly/agent\n', `\nagent=${place}\n`);
    expect(text).not.toBe(run);
    fs.writeFileSync(`${dir}/hooks/run`, text);
    const server = createServer(socket => {
      socket.on('error', () => undefined);
      socket.once('data', () => {
        socket.write(first);
        socket.once('data', () => then(words => void socket.write(words)));
      });
    });
    await new Promise<void>(yes => server.listen(`${place}/1.sock`, () => yes()));
    try {
      const child = spawn(`${dir}/hooks/${hook}`, [], { env: { USER: 'alice' } });
      let said = '';
      child.stdout.on('data', data => {
        said += data;
      });
      const code = await new Promise(yes => child.on('close', yes));
      return { code, said };
    } finally {
      server.close();
      fs.writeFileSync(`${dir}/hooks/run`, run);
    }
  }

  it.each([
    ['lightdm/session-setup', 'start'],
    ['lightdm/session-cleanup', 'stop'],
  ])('and does not answer in time only says so, without beginning anew: %s', async (hook, action) => {
    const { code, said } = await run(hook, 'ready 1\n', () => undefined);
    expect([code, said]).toEqual([4, called('lightdm', action).replace('\n', ' --unanswered\n')]);
  });

  it('waits longer if the agent says so', async () => {
    const { code, said } = await run('lightdm/session-setup', 'ready 1\n', say => {
      say('1 2\na\n');
      say('w 600\n');
      // The only proof that it still waits is that more than the first second has passed.
      setTimeout(() => say('1 2\nb\nx 3\n'), 1500);
    });
    expect([code, said]).toEqual([3, 'a\nb\n']);
  });
});

describe('a hook with the limits of a user', () => {
  const program = `const rows = require('fs').readFileSync('/proc/self/limits', 'utf8').split('\\n').slice(1, -1);
    const soft = row => [row.slice(0, 26).trim(), row.slice(26).trim().split(/ +/)[0]];
    console.log(JSON.stringify([process.cwd(), Object.fromEntries(rows.map(soft))]));`;
  const wanted = {
    'Max cpu time': 'unlimited',
    'Max file size': 'unlimited',
    'Max data size': 'unlimited',
    'Max address space': 'unlimited',
    'Max stack size': `${8192 << 10}`,
    'Max open files': '4096',
  };
  // What pam_limits sets; the upper limits stay, because a container may forbid root to raise them. Without the shell's
  // own need: it has 16 descriptors.
  const low = [
    '--fsize=0:',
    '--as=67108864:',
    '--data=4194304:',
    '--cpu=1:',
    '--stack=65536:',
    '--nofile=16:',
  ];
  let old: string;
  beforeAll(() => {
    old = fs.readFileSync(`${dir}/dist/mayfly.cjs`, 'utf8');
    fs.writeFileSync(`${dir}/dist/mayfly.cjs`, program);
  });
  afterAll(() => fs.writeFileSync(`${dir}/dist/mayfly.cjs`, old));

  it.each([
    'pam/session',
    'gdm/PreSession',
    'gdm/PostSession',
    'lightdm/session-setup',
    'lightdm/session-cleanup',
  ])('has its own, and no working directory of others: %s', hook => {
    const place = fs.mkdtempSync(`${dir}/gone-`);
    const script = 'cd "$1" && rmdir "$1" && shift && exec prlimit "$@"';
    const args = ['-c', script, 'sh', place, ...low, `${dir}/hooks/${hook}`];
    const r = spawnSync('sh', args, { env: { ...login, USER: 'alice' }, encoding: 'utf8' });
    expect([r.status, r.stderr]).toEqual([0, '']);
    expect(JSON.parse(r.stdout)).toEqual(['/', expect.objectContaining(wanted)]);
  });
});

describe('a setup script of the administrator', () => {
  let old: string;
  beforeAll(() => {
    old = fs.readFileSync(`${dir}/dist/mayfly.cjs`, 'utf8');
    const text =
      'const a = process.argv.slice(2); console.log(a.join(" ")); process.exit(a.includes("--failed") ? 4 : 0)';
    fs.writeFileSync(`${dir}/dist/mayfly.cjs`, text);
  });
  afterAll(() => fs.writeFileSync(`${dir}/dist/mayfly.cjs`, old));

  it.each<[string, string[], number]>([
    ['that succeeds', ['/bin/true'], 0],
    ['that fails', ['/bin/sh', '-c', 'exit 3'], 3],
    ['that does not exist', ['/nowhere'], 127],
    ['that cannot be run', ['/etc/passwd'], 126],
  ])('%s decides, and the hook says why', (_, command, status) => {
    const hook = `${dir}/hooks/lightdm/session-setup-then`;
    const r = spawnSync(hook, command, { env: { USER: 'alice', DISPLAY: ':0' }, encoding: 'utf8' });
    const call = `hook lightdm start --caller PID --caller ${process.pid}`;
    const why = `the setup script "${command[0]}" of lightdm failed with exit code ${status}`;
    expect(r.status).toBe(status);
    expect(
      r.stdout
        .replace(/(?<=start --caller )\d+/g, 'PID')
        .trim()
        .split('\n'),
    ).toEqual([call, ...(status === 0 ? [] : [`${call} --failed ${why}`])]);
  });
});

describe('a hook that runs as root with variables of a user', () => {
  const proofs = (): string => `${dir}/proofs`;
  const variables = (): Record<string, string> => hostileVariables(proofs(), `${dir}/tools`);
  beforeAll(() => {
    writeHostileTools(proofs(), `${dir}/tools`);
    for (const script of GDM_SCRIPTS) {
      const text = renderGdm(script).replaceAll(GDM_HOOKS, `${dir}/hooks/gdm`);
      fs.writeFileSync(`${dir}/hooks/gdm/${script}.Default`, text, { mode: 0o755 });
    }
    fs.writeFileSync(`${dir}/hooks/pam/careless`, CARELESS_HOOK, { mode: 0o755 });
    const text = fs.readFileSync('hooks/pam/session', 'utf8').replace('#!/bin/busybox sh', '#!/bin/sh');
    fs.writeFileSync(`${dir}/hooks/pam/dynamic`, text, { mode: 0o755 });
  });
  beforeEach(() => {
    fs.rmSync(proofs(), { recursive: true, force: true });
    fs.mkdirSync(proofs());
  });
  const given = { USER: 'alice', DISPLAY: ':0', PAM_USER: 'alice', PAM_TTY: ':0' };
  const run = (hook: string, args: readonly string[], env: Record<string, string>) =>
    spawnSync(`${dir}/hooks/${hook}`, args, { env: { ...env, ...given }, encoding: 'utf8' });

  it.each([
    ['pam/session', [], 'close_session'],
    ['pam/session', [], 'open_session'],
    ['gdm/PreSession.Default', [], ''],
    ['gdm/PostSession.Default', [], ''],
    ['lightdm/session-setup', [], ''],
    ['lightdm/session-cleanup', [], ''],
    // With a script of the administrator, which gets the environment of lightdm.
    ['lightdm/session-setup-then', ['/bin/busybox', 'true'], ''],
    ['lightdm/session-cleanup-after', ['/bin/busybox', 'true'], ''],
  ] as const)('obeys none of them: %s %j %s', (hook, args, type) => {
    // A login of this kind is not refused, so the hook does not wait.
    const pam = { PAM_TYPE: type, PAM_SERVICE: type === 'open_session' ? 'x-autologin' : 'x' };
    const xauthority = { XAUTHORITY: '/x' };
    // The hook that another one runs names that one too.
    const said = (r: { stdout: string }): string => r.stdout.replace(/ --caller \d+(?= --caller)/, '');
    const clean = run(hook, args, { ...pam, ...xauthority });
    const r = run(hook, args, { ...variables(), ...pam, ...xauthority });
    expect(foundProofs(proofs())).toEqual([]);
    expect([r.status, said(r), r.stderr]).toEqual([clean.status, said(clean), clean.stderr]);
  });

  it('can be tested: a hook with another shell obeys them', () => {
    run('pam/dynamic', [], { ...variables(), PAM_TYPE: 'open_session', PAM_SERVICE: 'x-autologin' });
    expect(foundProofs(proofs())).toContain('library');
  });

  it.each([0, 1])('can be tested: each of them has an effect on a careless hook, part %i', part => {
    const [env = {}, left = []] = splitHostile(variables())[part] ?? [];
    run('pam/careless', [], env);
    expect(foundProofs(proofs())).toEqual(left);
  });

  it('begins with the static shell, and so do all hooks that root runs', () => {
    const all = fs.readdirSync('hooks', { recursive: true, encoding: 'utf8' });
    const roots = all.filter(name => /^(gdm|lightdm|pam)\/(?!profile$)[^.]+$/.test(name));
    expect(roots).toHaveLength(7);
    for (const name of roots)
      expect(fs.readFileSync(`hooks/${name}`, 'utf8')).toMatch(/^#!\/bin\/busybox sh\n/);
    for (const script of GDM_SCRIPTS) expect(renderGdm(script)).toMatch(/^#!\/bin\/busybox sh\n/);
    expect(isStatic(fs.readFileSync('/bin/busybox', 'utf8'))).toBe(true);
    expect(isStatic(fs.readFileSync('/bin/sh', 'utf8'))).toBe(false);
    expect([undefined, '', '#!/bin/sh\n'].map(isStatic)).toEqual([false, false, false]);
  });
});
