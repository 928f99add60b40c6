/** Updates that break the tree, or do not end: no login ever gets one, each says why, and nothing is left of them. */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, forgetUsers, type Lab, user } from './lab.ts';
import { closeQuickLab, loginWorks, quickLab, type Refusal, refused } from './updates.ts';

const A = 'mayfly-up';
const OWNED = '/var/lib/mayfly-owned';
let lab: Lab;

const desktop = (exec: string): string =>
  [
    'mkdir -p /usr/share/xsessions /etc/X11',
    'printf "#!/bin/sh\\n" >/etc/X11/Xsession',
    'chmod +x /etc/X11/Xsession',
    `printf '[Desktop Entry]\\nName=X\\nExec=${exec}\\n' >/usr/share/xsessions/x.desktop`,
  ].join('; ');

/** By what is wrong with them. `wait`: a time limit in seconds, in which all that does not hang has ended here. */
const cases = (wait: number): Readonly<Record<string, Refusal>> => ({
  'a command that fails': {
    run: 'touch /etc/broken; echo "no such mirror" >&2; exit 7',
    phase: 'refresh',
    says: /^"sh -c .*" failed with exit code 7: no such mirror$/,
  },
  'a command that does not exist': {
    update: 'command = ["no-such-updater", "--now"]',
    phase: 'refresh',
    says: /^"no-such-updater --now" failed with exit code 127: .*no-such-updater.*No such file or directory$/,
  },
  'the shell is gone': {
    run: 'rm /bin/bash',
    phase: 'check',
    says: /^shells: missing: \/bin\/bash$/,
  },
  '/bin/sh leads nowhere': {
    run: 'ln -sfn nowhere /bin/sh',
    phase: 'check',
    says: /^nobody cannot enter the session: .*\/bin\/sh.*: No such file or directory$/,
  },
  '/bin/sh is not a program': {
    run: 'echo nonsense >/bin/new; chmod 755 /bin/new; mv /bin/new /bin/dash',
    phase: 'check',
    says: /^nobody cannot enter the session: .*\/bin\/sh.*: Exec format error$/,
  },
  'no file of users': {
    run: 'rm /etc/passwd',
    phase: 'check',
    says: /^the trial login failed: the generation has no regular file ".*\/etc\/passwd"; it is not a complete system$/,
  },
  'no libc': {
    run: 'exec rm /lib/*/libc.so.6',
    phase: 'check',
    says: /^nobody cannot enter the session: .*libc\.so\.6: cannot open shared object file/,
  },
  'an emptied tree': {
    run: 'rm -rf --one-file-system /usr /etc || true',
    phase: 'check',
    says: /^the trial login failed: the generation has no regular file ".*\/etc\/passwd"/,
  },
  '/home is a file': {
    run: 'rmdir /home; touch /home',
    phase: 'check',
    says: /^the trial login failed: "\/home" in the generation is a file; cannot mount "\/home" on it$/,
  },
  'users do not resolve': {
    run: 'echo "passwd: nothing" >/etc/nsswitch.conf',
    phase: 'check',
    says: /^users: the user "root" is unknown in the generation$/,
  },
  'the cache of libraries is empty': {
    run: ': >/etc/ld.so.cache',
    phase: 'check',
    says: /^libraries: "\/etc\/ld\.so\.cache" does not work: ./,
  },
  'a session entry without its program': {
    run: desktop('/usr/bin/no-such-desktop --session'),
    phase: 'check',
    says: /: missing: \/usr\/bin\/no-such-desktop \(xsessions\/x\.desktop\)$/,
  },
  'session entries, but nothing that starts X sessions': {
    run: `${desktop('/bin/true')}; rm /etc/X11/Xsession`,
    phase: 'check',
    says: /: missing: \/etc\/X11\/Xsession$/,
  },
  'the trial command fails': {
    check: 'command = ["sh", "-c", "echo no display >&2; exit 3"]',
    phase: 'check',
    says: /^trial login: "sh -c .*" as nobody failed with exit code 3: no display$/,
  },
  'a check of the administrator’s fails': {
    scripts: { 'checks.d/fonts': 'echo "no fonts in $3"; exit 1' },
    phase: 'check',
    says: /^fonts: failed with exit code 1: no fonts in \d+$/,
  },
  'a check hangs': {
    check: `timeout = ${wait}`,
    scripts: { 'checks.d/slow': 'setsid sleep 8600001 & chroot "$1" sleep 8600002; true' },
    phase: 'check',
    says: new RegExp(String.raw`^the checks did not finish within ${wait} s: ".*/checks\.d/slow .*"$`),
  },
  'the trial command hangs': {
    check: `timeout = ${wait}\ncommand = ["sh", "-c", "setsid sleep 8600003 & sleep 8600004; true"]`,
    phase: 'check',
    says: new RegExp(`^the checks did not finish within ${wait} s: "schroot .*"$`),
  },
  'the refresh hangs': {
    run: 'setsid sleep 8600005 & sleep 8600006; true',
    update: `timeout = ${wait}`,
    phase: 'refresh',
    says: new RegExp(`^"sh -c .*" did not finish within ${wait} s and was killed$`),
  },
  'a refresh script fails': {
    scripts: { 'refresh.d/10-menu': 'echo "$(ls -d "$1"/etc)" >&2; touch "$1/etc/broken"; exit 4' },
    phase: 'refresh',
    says: /^".*\/refresh\.d\/10-menu .*" failed with exit code 4: \/.*\/etc$/,
  },
  'a refresh script hangs': {
    update: `timeout = ${wait}`,
    scripts: { 'refresh.d/slow': 'setsid sleep 8600007 & sleep 8600008; true' },
    phase: 'refresh',
    says: new RegExp(String.raw`refresh\.d/slow .*" did not finish within ${wait} s and was killed$`),
  },
  'a refresh script that others may write': {
    scripts: { 'refresh.d/10-open': `touch ${OWNED}` },
    mode: 0o777,
    phase: 'refresh',
    says: /^"\/.*\/refresh\.d\/10-open" is writable by users other than root; it is not run$/,
  },
  'a check that its group may write': {
    scripts: { 'checks.d/open': `touch ${OWNED}` },
    mode: 0o775,
    phase: 'check',
    says: /^"\/.*\/checks\.d\/open" is writable by users other than root; it is not run$/,
  },
});

afterEach(() => {
  const owned = fs.existsSync(OWNED);
  fs.rmSync(OWNED, { force: true });
  expect(owned).toBe(false);
});
afterAll(forgetUsers);

/** What has to do with the backend. */
const SOME = ['the shell is gone', 'an emptied tree'];

function casesOn(backend: string): string[] {
  if (backend === 'btrfs') return Object.keys(cases(0));
  return backend === 'overlay' ? [...SOME, 'the refresh hangs', 'a check hangs'] : SOME;
}

describe.each(BACKENDS.map(backend => [backend, casesOn(backend)] as const))(
  'refused on %s',
  (backend, names) => {
    let wait = 0;
    beforeAll(() => {
      user(A);
      lab = quickLab(backend, A);
      // Whatever else the machine does: many times what a login takes on it just now.
      const begun = performance.now();
      loginWorks(lab, A);
      wait = Math.max(2, Math.ceil((performance.now() - begun) / 100));
    });
    afterAll(() => closeQuickLab(lab));

    it.each(names)('%s', name => refused(lab, A, cases(wait)[name] as Refusal));
  },
);
