/**
 * The PAM hook below the real modules of PAM and in the real stacks of sddm and greetd, with variables that the user sets
 * in ~/.pam_environment (sddm) and that a greeter sets (greetd). In a mount namespace with accounts and stacks of its own.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CARELESS_HOOK, foundProofs, hostileVariables, splitHostile, writeHostileTools } from '../hostile.ts';
import { filesOfPackages, must, type Ran, sh } from './lab.ts';

/** What login's part of greetd's stack writes goes to empty directories. */
const NAMESPACE = `set -e
mount -t tmpfs none /var/log; mount -t tmpfs none /run
for file in passwd shadow pam.d; do mount --bind "$1/$file" "/etc/$file"; done
shift; exec "$@"`;

const UID = 54_322;

describe('a user who sets variables of PAM', () => {
  let dir: string;
  const proofs = (): string => `${dir}/proofs`;
  const variables = (): Record<string, string> => hostileVariables(proofs(), `${dir}/tools`);
  const calls = (): string[] =>
    fs.existsSync(`${dir}/calls`) ? fs.readFileSync(`${dir}/calls`, 'utf8').trim().split('\n') : [];

  beforeAll(() => {
    dir = fs.mkdtempSync('/var/tmp/mayfly-pam-');
    fs.chmodSync(dir, 0o755);
    for (const name of ['home', 'dist']) fs.mkdirSync(`${dir}/${name}`);
    fs.cpSync('hooks', `${dir}/hooks`, { recursive: true });
    const text = fs.readFileSync('hooks/pam/session', 'utf8');
    // As it was: a shell that has a loader, and no other before it.
    const old = text.replace('#!/bin/busybox sh', '#!/bin/sh').replace('clean) ;;', 'clean | "") ;;');
    expect(old.match(/bin\/sh|"" *\)/g)).toHaveLength(2);
    fs.writeFileSync(`${dir}/hooks/pam/old`, old, { mode: 0o755 });
    fs.writeFileSync(`${dir}/hooks/pam/careless`, CARELESS_HOOK, { mode: 0o755 });
    fs.writeFileSync(
      `${dir}/dist/mayfly.cjs`,
      `const call = [...process.argv.slice(2, 5), Object.keys(process.env).sort(), process.env.USER, process.cwd()];
       require('fs').appendFileSync('${dir}/calls', call.join(' ') + '\\n');\n`,
    );
    writeHostileTools(proofs(), `${dir}/tools`);
    const account = `mayfly-eve:x:${UID}:${UID}::${dir}/home:/bin/sh\n`;
    fs.writeFileSync(`${dir}/passwd`, fs.readFileSync('/etc/passwd', 'utf8') + account);
    fs.writeFileSync(`${dir}/shadow`, 'root:*:19000::::::\nmayfly-eve:*:19000::::::\n', { mode: 0o600 });
  });
  beforeEach(() => {
    fs.rmSync(proofs(), { recursive: true, force: true });
    fs.rmSync(`${dir}/calls`, { force: true });
    fs.mkdirSync(proofs());
  });
  afterAll(() => fs.rmSync(dir, { recursive: true }));

  /** This machine's stacks and those of a release's display managers. */
  function install(hook: string, suite?: string): void {
    fs.rmSync(`${dir}/pam.d`, { recursive: true, force: true });
    fs.cpSync('/etc/pam.d', `${dir}/pam.d`, { recursive: true });
    must('tar', [
      '-xf',
      filesOfPackages(['sddm', 'greetd'], '/etc/pam.d', suite),
      '-C',
      dir,
      '--strip-components=2',
      './etc/pam.d',
    ]);
    // Where no audit identifies logins, as in containers, pam_loginuid fails.
    for (const name of fs.readdirSync(`${dir}/pam.d`)) {
      const text = fs.readFileSync(`${dir}/pam.d/${name}`, 'utf8');
      fs.writeFileSync(`${dir}/pam.d/${name}`, text.replaceAll(/^session.*pam_loginuid\.so.*$/gm, ''));
    }
    expect(fs.readFileSync(`${dir}/pam.d/sddm`, 'utf8')).toMatch(/^session .*pam_env\.so .*user_readenv=1$/m);
    // The lines that pam-auth-update(8) writes for our profile.
    const [, ours = ''] = /^Session:\n(.*)$/ms.exec(fs.readFileSync('hooks/pam/profile', 'utf8')) ?? [];
    const lines = ours.replaceAll(/^\s+/gm, 'session ').replace('/usr/lib/mayfly/hooks/pam/session', hook);
    fs.writeFileSync(`${dir}/pam.d/common-session`, `${lines}session required pam_unix.so\n`);
  }

  /** Opens and closes a session of the user, as a display manager does. */
  function logIn(service: string, actions: readonly string[], env: Readonly<Record<string, string>>) {
    const quoted = (value: string): string => `"${value.replaceAll(/[$@\\"]/g, '\\$&')}"`;
    const lines = Object.entries(env).map(([name, value]) => `${name} DEFAULT=${quoted(value)}\n`);
    fs.writeFileSync(`${dir}/home/.pam_environment`, lines.join(''));
    must('chown', ['-R', `${UID}:${UID}`, `${dir}/home`]);
    const greeter = service === 'greetd' ? Object.entries(env).flatMap(([n, v]) => ['-E', `${n}=${v}`]) : [];
    const pam = ['pamtester', ...greeter, service, 'mayfly-eve', ...actions];
    return sh('unshare', ['-m', '--propagation', 'private', 'sh', '-c', NAMESPACE, 'sh', dir, ...pam]);
  }
  const both = ['open_session', 'close_session'];

  /** When each stack has the variables: sddm's sets them after the hook has run for the login. */
  const when = [
    ['sddm', ['close_session']],
    ['greetd', both],
  ] as const;

  describe.each([undefined, 'trixie'])('the stacks of %s', suite => {
    it.each(['sddm', 'greetd'])('run nothing of theirs as root, at login or at logout: %s', service => {
      install(`${dir}/hooks/pam/session`, suite);
      const r = logIn(service, both, variables());
      expect([r.code, r.err]).toEqual([0, '']);
      expect(calls()).toEqual([
        'hook pam start DISPLAY,OPENSSL_CONF,PATH,USER,XAUTHORITY mayfly-eve /',
        'hook pam stop DISPLAY,OPENSSL_CONF,PATH,USER,XAUTHORITY mayfly-eve /',
      ]);
      expect(foundProofs(proofs())).toEqual([]);
    });
  });

  it.each(when)('would do it with the hook as it was: %s, %j', (service, actions) => {
    install(`${dir}/hooks/pam/old`);
    for (const action of both) {
      logIn(service, action === 'open_session' ? [action] : both, variables());
      expect(foundProofs(proofs()).includes('library')).toBe((actions as readonly string[]).includes(action));
    }
  });

  it.each(when.flatMap(([service]) => [0, 1].map(part => [service, part] as const)))(
    'sets all of them: %s, part %i',
    (service, part) => {
      install(`${dir}/hooks/pam/careless`);
      const [env = {}, left = []] = splitHostile(variables())[part] ?? [];
      logIn(service, both, env);
      expect(foundProofs(proofs())).toEqual(left);
      expect(fs.readdirSync(proofs()).map(name => fs.statSync(`${proofs()}/${name}`).uid)).not.toContain(UID);
    },
  );
});

describe('a hook in a mount namespace that is not the machine’s', () => {
  let dir: string;
  beforeAll(() => {
    dir = fs.mkdtempSync('/var/tmp/mayfly-hook-');
    fs.cpSync('hooks', `${dir}/ours/hooks`, { recursive: true });
    fs.mkdirSync(`${dir}/ours/dist`);
    fs.writeFileSync(
      `${dir}/ours/dist/mayfly.cjs`,
      `const { existsSync, readlinkSync } = require('fs');
       const machine = readlinkSync('/proc/self/ns/mnt') === readlinkSync('/proc/1/ns/mnt');
       console.log(...process.argv.slice(3, 5), machine ? 'machine' : 'own', existsSync('/mnt/own'), process.cwd());\n`,
    );
    fs.cpSync(`${dir}/ours`, `${dir}/other`, { recursive: true });
  });
  afterAll(() => fs.rmSync(dir, { recursive: true }));

  // Process 1 is the outer shell, whose namespace stands for the machine's.
  const inside = (before: string): Ran =>
    sh('unshare', [
      ...['-m', '-p', '-f', '--mount-proc', 'sh', '-c', 'unshare -m --propagation slave sh -c "$0" && exit'],
      `mount -t tmpfs none /mnt; : >/mnt/own; ${before} USER=alice ${dir}/ours/hooks/gdm/PreSession`,
    ]);

  it('makes the session in the machine’s, from which its mounts arrive', () => {
    expect(inside('')).toMatchObject({ code: 0, out: 'gdm start machine false /\n', err: '' });
  });

  it('stays where it is if the machine’s has another program at its path, as seen from a chroot', () => {
    const other = `mount --bind ${dir}/other ${dir}/ours;`;
    expect(inside(other)).toMatchObject({ code: 0, out: 'gdm start own true /\n', err: '' });
  });
});
