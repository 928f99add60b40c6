/**
 * The PAM hook below the real modules of PAM, with variables that the user sets in ~/.pam_environment (sddm's stack) and
 * that a greeter sets (greetd). In a mount namespace with accounts and stacks of its own.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { must, sh } from './lab.ts';

/** The session part of /etc/pam.d/sddm in Debian 12 and 13; pam_loginuid is left out, it does not work in containers. */
const SDDM = `auth required pam_permit.so
account required pam_permit.so
session [success=ok ignore=ignore module_unknown=ignore default=bad] pam_selinux.so close
session optional pam_keyinit.so force revoke
session required pam_limits.so
@include common-session
session [success=ok ignore=ignore module_unknown=ignore default=bad] pam_selinux.so open
session required pam_env.so
session required pam_env.so envfile=/etc/default/locale user_readenv=1
`;

/** /etc/pam.d/greetd includes login, which has no user_readenv; the variables come from the greeter. */
const GREETD = `auth required pam_permit.so
account required pam_permit.so
session required pam_env.so
@include common-session
`;

/** The lines that the profile of pam-auth-update(8) writes. */
const COMMON = (hook: string): string => `session required pam_permit.so
session [success=ignore default=1] pam_succeed_if.so quiet service in sddm:greetd
session requisite pam_exec.so quiet stdout ${hook}
session required pam_unix.so
`;

const NAMESPACE = `set -e
mount --bind "$1/passwd" /etc/passwd; mount --bind "$1/shadow" /etc/shadow; mount --bind "$1/pam.d" /etc/pam.d
shift; exec "$@"`;

describe('a user who sets variables of PAM', () => {
  let dir: string;
  const proofs = (): string[] => fs.readdirSync(`${dir}/proofs`);
  const calls = (): string[] =>
    fs.readdirSync(dir).includes('calls') ? fs.readFileSync(`${dir}/calls`, 'utf8').trim().split('\n') : [];

  /** What the loader, shells, Node and Perl obey; the name of the user is one that PAM itself gives to the hook. */
  const variables = (): Record<string, string> => ({
    LD_DEBUG: 'files',
    LD_DEBUG_OUTPUT: `${dir}/proofs/ld`,
    LD_PRELOAD: `${dir}/nothing.so`,
    ENV: `${dir}/env.sh`,
    BASH_ENV: `${dir}/env.sh`,
    NODE_OPTIONS: `--require=${dir}/evil.cjs`,
    PERL5OPT: '-MEvil',
    PERL5LIB: dir,
    PATH: `${dir}/bin`,
    PAM_USER: 'root',
    PAM_TYPE: 'auth',
    GLIBC_TUNABLES: 'glibc.malloc.check=3',
  });

  beforeAll(() => {
    dir = fs.mkdtempSync('/var/tmp/mayfly-pam-');
    fs.chmodSync(dir, 0o755);
    for (const name of ['home', 'pam.d', 'dist', 'bin']) fs.mkdirSync(`${dir}/${name}`);
    fs.cpSync('hooks', `${dir}/hooks`, { recursive: true });
    fs.cpSync('hooks/pam/session', `${dir}/hooks/pam/dynamic`);
    const text = fs.readFileSync('hooks/pam/session', 'utf8');
    fs.writeFileSync(`${dir}/hooks/pam/dynamic`, text.replace('#!/bin/busybox sh', '#!/bin/sh'));
    const call = `${dir}/calls`;
    fs.writeFileSync(
      `${dir}/dist/mayfly.cjs`,
      `require('fs').appendFileSync('${call}', process.argv.slice(2, 5).join(' ') + ' ' + Object.keys(process.env).sort() + ' ' + process.env.USER + '\\n')\n`,
    );
    fs.writeFileSync(`${dir}/env.sh`, `echo env >${dir}/proofs/env\n`);
    fs.writeFileSync(`${dir}/evil.cjs`, `require('fs').writeFileSync('${dir}/proofs/node', '')\n`);
    for (const name of ['node', 'env', 'sleep'])
      fs.writeFileSync(`${dir}/bin/${name}`, `#!/bin/sh\necho ${name} >${dir}/proofs/path\n`, {
        mode: 0o755,
      });
    fs.writeFileSync(`${dir}/pam.d/sddm`, SDDM);
    fs.writeFileSync(`${dir}/pam.d/greetd`, GREETD);
    fs.writeFileSync(`${dir}/pam.d/other`, 'session required pam_deny.so\n');
    const account = 'mayfly-eve:x:54322:54322::';
    fs.writeFileSync(
      `${dir}/passwd`,
      `${fs.readFileSync('/etc/passwd', 'utf8')}${account}${dir}/home:/bin/sh\n`,
    );
    fs.writeFileSync(`${dir}/shadow`, 'root:*:19000::::::\nmayfly-eve:*:19000::::::\n', { mode: 0o600 });
    const lines = Object.entries(variables()).map(([name, value]) => `${name} DEFAULT=${value}\n`);
    fs.writeFileSync(`${dir}/home/.pam_environment`, lines.join(''));
    must('chown', ['-R', '54322:54322', `${dir}/home`]);
  });
  beforeEach(() => {
    fs.rmSync(`${dir}/proofs`, { recursive: true, force: true });
    fs.rmSync(`${dir}/calls`, { force: true });
    fs.mkdirSync(`${dir}/proofs`);
  });
  afterAll(() => fs.rmSync(dir, { recursive: true }));

  /** Opens and closes a session of the user, as a display manager does. */
  function logIn(service: 'sddm' | 'greetd', hook: 'session' | 'dynamic') {
    fs.writeFileSync(`${dir}/pam.d/common-session`, COMMON(`${dir}/hooks/pam/${hook}`));
    const greeter =
      service === 'sddm' ? [] : Object.entries(variables()).flatMap(([n, v]) => ['-E', `${n}=${v}`]);
    const pam = ['pamtester', ...greeter, service, 'mayfly-eve', 'open_session', 'close_session'];
    return sh('unshare', ['-m', '--propagation', 'private', 'sh', '-c', NAMESPACE, 'sh', dir, ...pam]);
  }

  it.each(['sddm', 'greetd'] as const)('runs nothing as root, at login or at logout: %s', service => {
    const r = logIn(service, 'session');
    expect([r.code, r.err]).toEqual([0, '']);
    expect(calls()).toEqual([
      'hook pam start DISPLAY,PATH,USER mayfly-eve',
      'hook pam stop DISPLAY,PATH,USER mayfly-eve',
    ]);
    expect(proofs()).toEqual([]);
  });

  it.each(['sddm', 'greetd'] as const)('would, with a hook whose shell has a loader: %s', service => {
    logIn(service, 'dynamic');
    expect(proofs().some(name => name.startsWith('ld.'))).toBe(true);
  });
});
