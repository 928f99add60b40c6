/** The hook scripts as display managers run them, with a program that refuses every login in place of Mayfly. */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isStatic } from '../src/desktop/adapters/pam.ts';

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

describe('a hook whose login is refused', () => {
  it.each([
    [
      'lets an automatic login begin and prints nothing',
      'pam/session',
      { ...login, PAM_SERVICE: 'x-autologin' },
      0,
      '',
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

/** Every variable by which a program that root starts can be made to run other code, or to write a file. */
function hostile(proofs: string, tools: string): Record<string, string> {
  const file = (name: string): string => `${proofs}/${name}`;
  return {
    // Of the loader. The library does not exist: the loader says so, and LD_DEBUG writes a file for each program.
    ...{ LD_PRELOAD: `${tools}/evil.so`, LD_AUDIT: `${tools}/evil.so`, LD_LIBRARY_PATH: tools },
    ...{ LD_DEBUG: 'files', LD_DEBUG_OUTPUT: file('ld'), LD_PROFILE: 'libc.so.6', LD_PROFILE_OUTPUT: proofs },
    // Of the C library, also in static programs.
    ...{ GLIBC_TUNABLES: 'glibc.malloc.check=3', MALLOC_TRACE: file('malloc'), GCONV_PATH: tools },
    ...{ LOCPATH: tools, NLSPATH: `${tools}/%N`, LANG: 'xx_XX.EVIL', LC_ALL: 'xx_XX.EVIL', TZDIR: tools },
    // Of shells.
    ...{
      ENV: `${tools}/env.sh`,
      BASH_ENV: `${tools}/env.sh`,
      SHELLOPTS: 'xtrace',
      IFS: '/ae',
      CDPATH: tools,
    },
    ...{
      PS4: `$(touch ${file('ps4')})`,
      PS1: `$(touch ${file('ps1')})`,
      PATH: tools,
      PPID: '1',
      OPTIND: '7',
    },
    'BASH_FUNC_exec%%': `() { touch ${file('function')}; }`,
    // Of what the hooks start.
    ...{ NODE_OPTIONS: `--require=${tools}/evil.cjs`, NODE_PATH: tools, NODE_EXTRA_CA_CERTS: `${tools}/x` },
    ...{
      NODE_V8_COVERAGE: proofs,
      NODE_REDIRECT_WARNINGS: file('warnings'),
      OPENSSL_CONF: `${tools}/openssl.cnf`,
    },
    ...{
      PERL5OPT: '-MEvil',
      PERL5LIB: tools,
      PERL5DB: `BEGIN { open F, ">${file('perl5db')}" }`,
      PERLLIB: tools,
    },
    ...{ HOME: tools, TMPDIR: proofs, XDG_CONFIG_HOME: tools, HISTFILE: file('history') },
  };
}

describe('a hook that runs as root with variables of a user', () => {
  const proofs = (): string => `${dir}/proofs`;
  const tools = (): string => `${dir}/tools`;
  const prove = (by: string): string => `echo ${by} >>${proofs()}/${by}`;
  beforeAll(() => {
    fs.mkdirSync(tools());
    for (const name of ['node', 'env', 'sh', 'sleep', 'busybox', 'dirname', 'test'])
      fs.writeFileSync(`${tools()}/${name}`, `#!/bin/sh\n${prove('path')}\n`, { mode: 0o755 });
    fs.writeFileSync(`${tools()}/env.sh`, `${prove('env')}\n`);
    fs.writeFileSync(`${tools()}/evil.cjs`, `require('fs').writeFileSync('${proofs()}/node', '')\n`);
    fs.writeFileSync(`${tools()}/Evil.pm`, `open F, ">${proofs()}/perl"; 1;\n`);
  });
  beforeEach(() => {
    fs.rmSync(proofs(), { recursive: true, force: true });
    fs.mkdirSync(proofs());
  });
  const given = { USER: 'alice', DISPLAY: ':0', XAUTHORITY: '/x', PAM_TTY: ':0', PAM_SERVICE: 'x-autologin' };
  const run = (file: string, args: string[], env: Record<string, string>) =>
    spawnSync(file, args, { env: { ...given, ...env }, encoding: 'utf8' });
  const attack = (file: string, args: string[], env: Record<string, string> = {}) =>
    run(file, args, { ...hostile(proofs(), tools()), ...env });

  it.each([
    ['pam/session', 'open_session'],
    ['pam/session', 'close_session'],
    ['gdm/PreSession', ''],
    ['gdm/PostSession', ''],
    ['lightdm/session-setup', ''],
    ['lightdm/session-cleanup', ''],
  ])('obeys none of them: %s %s', (hook, type) => {
    const clean = run(`${dir}/hooks/${hook}`, [], { PAM_TYPE: type, PAM_USER: 'alice' });
    const r = attack(`${dir}/hooks/${hook}`, [], { PAM_TYPE: type, PAM_USER: 'alice' });
    expect(fs.readdirSync(proofs())).toEqual([]);
    expect([r.status, r.stdout, r.stderr]).toEqual([clean.status, clean.stdout, clean.stderr]);
  });

  it('can be tested: a hook with another shell obeys them', () => {
    const text = fs
      .readFileSync(`${dir}/hooks/pam/session`, 'utf8')
      .replace('#!/bin/busybox sh', '#!/bin/sh');
    fs.writeFileSync(`${dir}/hooks/pam/dynamic`, text, { mode: 0o755 });
    attack(`${dir}/hooks/pam/dynamic`, [], { PAM_TYPE: 'open_session', PAM_USER: 'alice' });
    expect(fs.readdirSync(proofs())).not.toEqual([]);
    for (const [program, args] of [
      ['/usr/bin/perl', ['-e', '1']],
      [process.execPath, ['-e', '1']],
    ] as const) {
      const one = hostile(proofs(), tools());
      const { PERL5OPT = '', PERL5LIB = '', NODE_OPTIONS = '' } = one;
      run(program, [...args], { PERL5OPT, PERL5LIB, NODE_OPTIONS });
    }
    expect(fs.readdirSync(proofs())).toEqual(expect.arrayContaining(['node', 'perl']));
  });

  it('begins with the static shell, and so do all hooks that root runs', () => {
    const all = fs.readdirSync('hooks', { recursive: true, encoding: 'utf8' });
    const roots = all.filter(name => /^(gdm|lightdm|pam)\/(?!profile$)/.test(name));
    expect(roots).toHaveLength(7);
    for (const name of roots)
      expect(fs.readFileSync(`hooks/${name}`, 'utf8')).toMatch(/^#!\/bin\/busybox sh\n/);
    expect(isStatic(fs.readFileSync('/bin/busybox', 'utf8'))).toBe(true);
    expect(isStatic(fs.readFileSync('/bin/sh', 'utf8'))).toBe(false);
    expect([undefined, '', '#!/bin/sh\n'].map(isStatic)).toEqual([false, false, false]);
  });
});
