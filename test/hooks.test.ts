/** The hook scripts as display managers run them, with a program that refuses every login in place of Mayfly. */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

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
  const program = /\tnode --v8-pool-size=1 "\S+\/dist\/mayfly\.cjs" hook /;
  it.each([
    'gdm/PreSession',
    'gdm/PostSession',
    'lightdm/session-setup',
    'lightdm/session-cleanup',
    'pam/session',
  ])('starts Node with one thread in the background, because each costs time: %s', hook => {
    const text = fs.readFileSync(`hooks/${hook}`, 'utf8');
    expect([text.split(program).length, text.split('mayfly.cjs').length]).toEqual([2, 2]);
  });
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
