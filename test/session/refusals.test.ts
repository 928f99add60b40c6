/** Commands whose effect would be gone with the session, other people's names, and what guests leave. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { ipcObjects } from '../../src/session/guest-leftovers.ts';
import { withNames } from '../../src/session/other-names.ts';
import { refusingStack, writeRefusals } from '../../src/session/refusals.ts';
import { World } from '../world.ts';

describe('the names of other people', () => {
  const image = 'root:x:0:0::/:/bin/sh\nalice:x:1001:1001:::\nimage:x:998:998:::\n';
  it.each([
    ['bob:x:1002:1002:Bob:/home/bob:/bin/sh', 'bob:x:1002:1002:Bob:/home/bob:/bin/sh\n'],
    ['bob:$6$secret:1002:1002:Bob:/home/bob:/bin/sh', 'bob:x:1002:1002:Bob:/home/bob:/bin/sh\n'],
    ['bob::1002:1002:Bob:/home/bob:/bin/sh', 'bob:x:1002:1002:Bob:/home/bob:/bin/sh\n'],
    ['image:x:1002:1002:::', ''], // the image's own account of that name
    ['bob:x:998:998:::', ''], // its number is the image's
    ['bob:x:0:0:::', ''],
    ['+::::::', ''],
    ['-bob:x:1002:1:::', ''],
    ['', ''],
    ['bob:x:1002:1002:::\nbob:x:1003:1:::\nrob:x:1002:1:::', 'bob:x:1002:1002:::\n'],
  ])('%j adds %j', (host, added) => expect(withNames(image, host, 'passwd')).toBe(image + added));
  it('bring no membership in groups', () =>
    expect(withNames('root:x:0:\n', 'root:x:0:eve\nlab:!:2000:bob,eve\n', 'group')).toBe(
      'root:x:0:\nlab:x:2000:\n',
    ));
});

describe('commands that say in a session what they cannot do', () => {
  const tree = (...files: string[]): World => {
    const w = new World();
    for (const path of ['etc/pam.d', 'usr/bin', 'usr/sbin', 'usr/local/bin']) w.makeDirs(`/r/${path}`);
    for (const path of files) w.put(`/r/${path}`, 'the image’s own\n');
    return w;
  };
  const text = (w: World, path: string): string => w.host.read(`/r/${path}`) ?? '';
  const alice = { uid: 1001, local: true, admin: false };

  it('are crontab, at and batch where the image has them', () => {
    const w = tree('usr/bin/crontab', 'usr/bin/at');
    writeRefusals(w.host, '/r', alice);
    for (const name of ['crontab', 'at'])
      expect(text(w, `usr/bin/${name}`)).toMatch(/ends when you log out.*exit 1/s);
    expect(w.host.lstat('/r/usr/bin/crontab')?.mode).toBe(0o755); // no set-gid program any more
    expect(w.host.exists('/r/usr/bin/batch')).toBe(false);
  });
  it('are passwd, chsh and chfn for the user’s own account on the host, and for no other', () => {
    const w = tree('etc/pam.d/passwd', 'etc/pam.d/chsh');
    writeRefusals(w.host, '/r', alice);
    expect(text(w, 'etc/pam.d/passwd')).toMatch(/^password \[success=ignore default=2\] .* uid = 1001\n/);
    expect(text(w, 'etc/pam.d/passwd')).toMatch(/\nthe image’s own\n$/);
    expect(text(w, 'etc/pam.d/chsh')).toMatch(/^auth /);
    expect(w.host.exists('/r/etc/pam.d/chpasswd')).toBe(false);
  });
  it.each([
    [false, 'password [success=2 default=ignore] pam_unix.so\npassword requisite pam_deny.so\n', 'refused'],
    [false, 'password sufficient pam_unix.so\npassword sufficient pam_sss.so use_authtok\n', 'left'],
    [false, '  -password optional pam_odd.so\n', 'left'],
    [false, '# password pam_sss.so\nauth sufficient pam_sss.so\npassword required pam_unix.so\n', 'refused'],
    [true, 'password sufficient pam_sss.so\n', 'refused'],
  ])('passwd of an account of the host: %s, where the image has %j, is %s', (local, stack, expected) => {
    const w = tree('etc/pam.d/passwd', 'etc/pam.d/chsh', 'etc/pam.d/chfn', 'etc/pam.d/chpasswd');
    w.put('/r/etc/pam.d/common-password', stack);
    writeRefusals(w.host, '/r', { ...alice, local, admin: true });
    const isRefused = (name: string): boolean => text(w, `etc/pam.d/${name}`).includes('pam_deny');
    expect(['passwd', 'chpasswd'].map(isRefused)).toEqual(Array(2).fill(expected === 'refused'));
    // The session has a line of its own for an account of a directory, too.
    expect(['chsh', 'chfn'].map(isRefused)).toEqual([true, true]);
    expect(text(w, 'etc/pam.d/common-password')).toBe(stack);
  });
  it('is chpasswd only for those who become root', () => {
    const w = tree('etc/pam.d/chpasswd');
    writeRefusals(w.host, '/r', alice);
    expect(text(w, 'etc/pam.d/chpasswd')).toBe('the image’s own\n');
  });
  it('are services of packages, and systemctl asks the host, for those who become root', () => {
    const w = tree('usr/bin/systemctl');
    writeRefusals(w.host, '/r', alice);
    expect(w.host.list('/r/usr/sbin')).toEqual([]);
    writeRefusals(w.host, '/r', { ...alice, admin: true });
    expect(text(w, 'usr/sbin/policy-rc.d')).toMatch(/exit 101/);
    expect(text(w, 'usr/local/bin/systemctl')).toMatch(/SYSTEMD_IGNORE_CHROOT=1/);
  });
  // A unit of the user's manager that calls systemctl while it starts, as gpg-agent.socket does, must not wait for its bus.
  it.each([
    [true, ['start', 'cron'], {}, true],
    [true, ['start', 'cron--user'], {}, true],
    [true, ['start', 'cron'], { DPKG_MAINTSCRIPT_PACKAGE: 'cron' }, false],
    [true, ['--user', 'set-environment', 'A=1'], {}, false],
    [true, ['set-environment', 'A=1', '--user'], {}, false],
    [false, ['--user', 'set-environment', 'A=1'], {}, false],
    [false, ['start', 'cron'], {}, false],
  ])('by root: %s, systemctl %j with %j asks the host by the bus: %s', (root, words, env, expected) => {
    const w = tree('usr/bin/systemctl');
    writeRefusals(w.host, '/r', { ...alice, admin: true });
    const script = text(w, 'usr/local/bin/systemctl')
      .replace('/usr/bin/systemctl "$@"', 'env')
      .replace('-O /proc/1', root ? '-d /' : '-f /');
    const ran = spawnSync('/bin/sh', ['-c', script, 'systemctl', ...words], { env, encoding: 'utf8' });
    expect(ran.stdout.includes('SYSTEMCTL_FORCE_BUS=1')).toBe(expected);
    expect(ran.stdout.includes('SYSTEMD_IGNORE_CHROOT=1')).toBe(expected);
  });
  it('are left as they are where the administrator has others', () => {
    const w = tree('usr/bin/systemctl', 'usr/local/bin/systemctl', 'usr/sbin/policy-rc.d');
    writeRefusals(w.host, '/r', { ...alice, admin: true });
    expect(text(w, 'usr/local/bin/systemctl')).toBe('the image’s own\n');
    expect(text(w, 'usr/sbin/policy-rc.d')).toBe('the image’s own\n');
  });
  it('have a stack whose lines skip exactly what refuses', () => {
    const lines = refusingStack('password', 'password', 7, '@include common-password\n').split('\n');
    expect(lines.map(line => line.split(' ')[0])).toEqual([
      'password',
      'password',
      'password',
      '@include',
      '',
    ]);
  });
});

describe('objects of interprocess communication', () => {
  it.each([
    [
      '       key      shmid perms  size  cpid  lpid nattch   uid   gid  cuid  cgid\n 0 3 600 8 1 1 0 1001 1 1001 1\n 0 4 600 8 1 1 0 0 1 1001 1\n 0 5 600 8 1 1 0 1002 1 1002 1\n',
      ['3', '4'],
    ],
    [
      '       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n 0 12 600 1 1001 1 1001 1 0 0\n',
      ['12'],
    ],
    ['       key      msqid perms cbytes qnum lspid lrpid   uid   gid  cuid  cgid\n', []],
    ['', []],
  ])('%j', (text, ids) => expect(ipcObjects(text, 1001)).toEqual(ids));
});
