/**
 * The Debian package on a machine that has just been made: built, installed with the distribution's own Node.js,
 * used with the default directories, removed and purged. The machine is a fresh Debian tree with its own root.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildPackage } from './build-package.ts';
import { must, type Ran, sh, tarball } from './lab.ts';

let dir: string;
let machine: string;

/** Runs a script in the machine, in a mount namespace of its own, so that what it mounts is gone with it. */
function inMachine(script: string): Ran {
  fs.writeFileSync(`${machine}/root/script`, script);
  const enter = `
    set -e
    mount --bind "$1" "$1"
    for d in proc sys dev; do mount --rbind --make-rslave "/$d" "$1/$d"; done
    mount -t tmpfs none "$1/run"
    exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 sh -eu /root/script`;
  return sh('unshare', ['-m', '--propagation', 'private', 'sh', '-c', enter, 'sh', machine]);
}

function ok(script: string): string {
  const r = inMachine(script);
  expect(r.code, `${script}\n${r.out}\n${r.err}`).toBe(0);
  return r.out;
}

beforeAll(() => {
  dir = fs.mkdtempSync('/var/lib/mayfly-test-');
  machine = `${dir}/machine`;
  const packages = 'nodejs,schroot,sudo,mount,passwd,btrfs-progs,e2fsprogs,bsdutils,procps,perl';
  const image = tarball('machine', packages);
  fs.mkdirSync(machine);
  must('tar', ['-xf', image, '--exclude=./dev/*', '-C', machine]);
});
afterAll(() => {
  const left = fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(l => l.includes(dir));
  expect(left).toEqual([]);
  fs.rmSync(dir, { recursive: true });
});

describe('the Debian package', () => {
  let deb: string;

  it('builds from a clean copy of the sources, without an error or warning of lintian', () => {
    deb = buildPackage(dir);
    const lint = sh('lintian', ['--fail-on', 'error,warning', '--allow-root', deb]);
    expect(lint.code, lint.out + lint.err).toBe(0);
    fs.copyFileSync(deb, `${machine}/root/mayfly.deb`);
  });

  it('installs, and the program speaks, with the distribution’s Node.js', () => {
    ok(
      'find / -xdev ! -path "/proc/*" ! -path "/root/*" ! -path "/var/log/*" ! -path "/var/lib/dpkg/*" ! -path "/run/*" ! -path "/tmp/*" | sort >/root/before',
    );
    const out = ok(
      'dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1; node --version; mayfly --version; mayfly status; mayfly config | head -1',
    );
    expect(out).toMatch(/^v\d+\.\d+/);
    expect(out).toMatch(/pool +none; make one with "mayfly init"/);
    expect(out).toMatch(/# from \/etc\/mayfly\/mayfly\.toml/);
    console.log(`the package runs under node ${out.split('\n')[0]}`);
  });

  it('does nothing to logins until it is enabled', () => {
    expect(ok('STARTUP=desktop; . /etc/X11/Xsession.d/97mayfly; echo "$STARTUP"')).toBe('desktop\n');
    expect(
      ok(
        'touch /etc/mayfly/enabled; STARTUP=desktop; . /etc/X11/Xsession.d/97mayfly; echo "$STARTUP"; rm /etc/mayfly/enabled',
      ),
    ).toBe('/usr/lib/mayfly/hooks/session-wrapper desktop\n');
  });

  it('does the whole job with its defaults: init from the running system, login, logout, recover, destroy', () => {
    const out = ok(`
      useradd -m -s /bin/sh carol
      mkdir -p /etc/ssh; echo secret >/etc/ssh/ssh_host_rsa_key
      echo 'nothing of mine' >/home/carol/thesis
      mayfly init --from host --quiet
      hook() { env -i USER=carol DISPLAY=:0 /usr/lib/mayfly/hooks/lightdm/$1 --quiet; }
      hook session-setup
      id=$(cat /run/mayfly/users/$(id -u carol)/session)
      schroot -l
      schroot -d / -c "$id" -u carol -- sh -c 'id -un; cat ~/thesis; test ! -e /etc/ssh/ssh_host_rsa_key && echo no host key'
      schroot -d / -c "$id" -u root -- rm -rf --one-file-system /usr /etc
      ls /usr/bin/env
      hook session-cleanup
      mayfly sessions
      mayfly run -- sh -c 'ls /usr/bin/env; grep -c carol /etc/passwd || true; cat /etc/machine-id'
      mayfly recover
      ! grep /run/mayfly/roots/ /proc/self/mountinfo`);
    expect(out).toMatch(
      /^chroot:u\d+-[0-9a-f]{8}\ncarol\nnothing of mine\nno host key\n\/usr\/bin\/env\nno sessions\n\/usr\/bin\/env\n0\nnothing to recover\n$/,
    );
  });

  it('a second login of an upgraded package finds the session of the first', () => {
    ok(`
      hook() { env -i USER=carol DISPLAY=$2 /usr/lib/mayfly/hooks/lightdm/$1 --quiet; }
      hook session-setup :0
      before=$(cat /run/mayfly/users/$(id -u carol)/session)
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1
      hook session-setup :1
      test "$before" = "$(cat /run/mayfly/users/$(id -u carol)/session)"
      if dpkg -r mayfly >/root/refused 2>&1; then echo "was removed under a session" >&2; exit 1; fi
      grep -q "mayfly end $before" /root/refused
      hook session-cleanup :0
      hook session-cleanup :1`);
  });

  it('is removed and purged without a trace, once its pool is destroyed', () => {
    const kept = ok(
      'dpkg -r mayfly >/dev/null 2>&1; dpkg -P mayfly 2>&1; ls /var/lib/mayfly/pool/generations',
    );
    expect(kept).toMatch(/the pool at \/var\/lib\/mayfly\/pool is kept[\s\S]*\n1\n$/);
    const out = ok(`
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1
      mayfly destroy --yes
      dpkg -P mayfly >/dev/null 2>&1
      userdel -r carol 2>/dev/null; rm -r /etc/ssh
      find / -xdev ! -path "/proc/*" ! -path "/root/*" ! -path "/var/log/*" ! -path "/var/lib/dpkg/*" ! -path "/run/*" ! -path "/tmp/*" | sort >/root/after
      diff /root/before /root/after | grep -v -e '^[0-9,acd]*$' -e '/etc/.*-$' -e /var/lib/systemd -e /var/cache || true`);
    expect(out).toBe('the pool and all generations are removed\n');
  });
});
