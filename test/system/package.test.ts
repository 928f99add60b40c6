/**
 * The Debian package on a machine that has just been made: built, installed with the distribution's own Node.js,
 * used with the default directories, removed and purged. The machine is a fresh Debian tree with its own root.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BareMachine } from './bare-machine.ts';
import { buildPackage } from './build-package.ts';
import { sh } from './lab.ts';

let m: BareMachine;
const ok = (script: string): string => m.must(script);

beforeAll(() => {
  m = new BareMachine();
});
afterAll(() => m.close());

describe('the Debian package', () => {
  let deb: string;

  it('builds from a clean copy of the sources, without an error or warning of lintian', () => {
    deb = buildPackage(m.dir);
    const lint = sh('lintian', ['--fail-on', 'error,warning', '--allow-root', deb]);
    expect(lint.code, lint.out + lint.err).toBe(0);
    fs.copyFileSync(deb, `${m.root}/root/mayfly.deb`);
  });

  it('installs, and the program speaks, with the distribution’s Node.js', () => {
    ok(
      'find / -xdev ! -path "/proc/*" ! -path "/root/*" ! -path "/var/log/*" ! -path "/var/lib/dpkg/*" ! -path "/run/*" ! -path "/tmp/*" | sort >/root/before',
    );
    const out = ok(
      'dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1; node --version; mayfly --version; mayfly status; mayfly config | head -1',
    );
    expect(out).toMatch(/^v\d+\.\d+/);
    expect(out).toMatch(/pool +none; create one with "mayfly init"/);
    expect(out).toMatch(/# from \/etc\/mayfly\/mayfly\.toml/);
    expect(ok('cat /etc/needrestart/conf.d/mayfly.conf')).toContain('qr(^mayfly-)} = 0;');
    console.log(`the package runs under node ${out.split('\n')[0]}`);
  });

  it('does nothing to logins until it is enabled', () => {
    const part = 'set -- desktop; . /etc/X11/Xsession.d/00mayfly; echo "goes on: $*"';
    expect(ok(part)).toBe('goes on: desktop\n');
    // Root is never in scope.
    const enabled = (user: number) => {
      const as = `setpriv --reuid ${user} --regid ${user} --clear-groups sh -c '${part.replace('desktop', 'true')}'`;
      return m.run(
        `touch /etc/mayfly/enabled; ${as} && code=0 || code=$?; rm /etc/mayfly/enabled; exit $code`,
      );
    };
    expect(enabled(0)).toMatchObject({ code: 0, out: 'goes on: true\n' });
    const other = enabled(4242);
    expect(other).toMatchObject({ code: 1, out: '' });
    expect(other.err).toMatch(/\(MAYFLY-NO-SESSION\)\n$/);
  });

  it('takes the file of an earlier version out of Xsession.d', () => {
    const old = '/etc/X11/Xsession.d/97mayfly';
    ok(`cd /root; dpkg-deb -R mayfly.deb old
      mv old/etc/X11/Xsession.d/00mayfly old${old}; sed -i 's,00mayfly,97mayfly,' old/DEBIAN/conffiles
      sed -i '/97mayfly/d' old/DEBIAN/*inst old/DEBIAN/*rm; sed -i 's/^Version: .*/Version: 0.0.1/' old/DEBIAN/control
      rm -f old/DEBIAN/md5sums; dpkg-deb -b old old.deb >/dev/null
      dpkg --force-depends --force-downgrade -i old.deb >/dev/null 2>&1; test -e ${old}
      dpkg --force-depends -i mayfly.deb >/dev/null 2>&1; rm -r old old.deb`);
    expect(ok('ls /etc/X11/Xsession.d | grep mayfly')).toBe('00mayfly\n');
  });

  it('does the whole job with its defaults: init from the running system, login, logout, recover, destroy', () => {
    const out = ok(`
      useradd -m -s /bin/sh carol
      printf '%032d\\n' 7 >/etc/machine-id
      mkdir -p /etc/ssh; echo secret >/etc/ssh/ssh_host_rsa_key
      echo 'nothing of mine' >/home/carol/thesis
      mayfly init --from host --quiet
      hook() { env -i USER=carol DISPLAY=:0 /usr/lib/mayfly/hooks/lightdm/$1 --quiet; }
      hook session-setup
      id=$(cat /run/mayfly/users/$(id -u carol)/session)
      schroot -l
      tar -C /var/lib/mayfly/pool -c --exclude-caches sessions | tar -t
      schroot -d / -c "$id" -u carol -- sh -c 'id -un; cat ~/thesis; test ! -e /etc/ssh/ssh_host_rsa_key && echo no host key'
      schroot -d / -c "$id" -u root -- rm -rf --one-file-system /usr /etc
      ls /usr/bin/env
      hook session-cleanup
      mayfly sessions
      mayfly run -- sh -c 'ls /usr/bin/env; grep -c carol /etc/passwd || true'
      cat /var/lib/mayfly/pool/generations/1/etc/machine-id
      mayfly run -- cat /etc/machine-id | cmp - /etc/machine-id
      mayfly recover
      ! grep /run/mayfly/roots/ /proc/self/mountinfo`);
    expect(out).toMatch(
      /^chroot:u\d+-[0-9a-f]{8}\nsessions\/\nsessions\/CACHEDIR.TAG\ncarol\nnothing of mine\nno host key\n\/usr\/bin\/env\nno sessions\n\/usr\/bin\/env\n0\nnothing to recover\n$/,
    );
  });

  // What lightdm and gdm do is done by hand here; diversions, conffiles and hooks are the real ones.
  const files = `
    picture() { find /etc/lightdm /etc/gdm3 /etc/pam.d /etc/mayfly/enabled /etc/systemd/system -printf '%p %y %m %U %G %l\\n' -type f -exec md5sum {} + 2>/dev/null | sort; dpkg-divert --list; }
    setting() { sed -n "s/^session-$1-script=//p" /etc/lightdm/lightdm.conf.d/50-mayfly.conf; }
    as_lightdm() { env -i SHELL=/bin/sh PATH=/usr/sbin:/usr/bin:/sbin:/bin USER=carol DISPLAY=:0 $(setting $1); }
    as_pam() { env -i PATH=/usr/bin:/bin PAM_TYPE=$1 PAM_USER=carol PAM_TTY=:0 /usr/lib/mayfly/hooks/pam/session; }
    as_gdm() { env -i PATH=/usr/local/bin:/usr/bin:/bin USER=carol DISPLAY=:0 /etc/gdm3/$1/Default; }`;

  /** What is said of schroot and of people's service managers; systemd is installed there, but does not run. */
  const dropIns = ['user-runtime-dir@', 'user@'].map(unit => `/etc/systemd/system/${unit}.service.d`);
  const inside = {
    on: [
      'write /etc/pam.d/schroot: what enters a session gets a mount namespace, in which sandboxes work',
      ...dropIns.flatMap(d => [
        `create the directory ${d}: systemd reads settings of this unit there`,
        `write ${d}/50-mayfly.conf: services of users run in their sessions`,
      ]),
    ],
    off: [
      'write /etc/pam.d/schroot: sessions are entered by chroot only',
      ...dropIns.flatMap(d => [
        `remove ${d}/50-mayfly.conf: services of users run on the host`,
        `remove the directory ${d}: it is empty`,
      ]),
    ],
  };

  it('lightdm is enabled around the administrator’s own scripts, and disabled byte for byte', () => {
    const out = ok(`${files}
      mkdir -p /etc/lightdm/lightdm.conf.d
      printf '#!/bin/sh\n' | install -m 755 /dev/stdin /usr/sbin/lightdm
      printf '#!/bin/sh\necho "$@, $USER at $DISPLAY, $(ls /run/mayfly/sessions | wc -l)"; exit $(cat /root/code)\n' >/root/theirs
      chmod 755 /root/theirs; echo 0 >/root/code
      printf '[Seat:*]\nsession-setup-script=/root/theirs in\n' >/etc/lightdm/lightdm.conf
      mayfly enable lightdm 2>/root/said && exit 1
      cat /root/said
      mv /etc/lightdm/lightdm.conf /etc/lightdm/lightdm.conf.d/40-local.conf
      echo 'session-cleanup-script=/root/theirs out' >>/etc/lightdm/lightdm.conf.d/40-local.conf
      chmod 640 /etc/lightdm/lightdm.conf.d/40-local.conf
      picture >/root/without
      mayfly enable lightdm --dry-run >/root/dry
      picture | diff /root/without -
      mayfly enable lightdm | tee /root/done
      diff /root/dry /root/done
      mayfly enable lightdm
      as_lightdm setup
      mayfly sessions --json | grep -e '"state"'
      mayfly recover
      mayfly disable lightdm 2>/root/said && exit 1
      grep -c 'there are sessions: u' /root/said
      as_lightdm cleanup
      mayfly sessions
      echo 3 >/root/code
      as_lightdm setup || echo refused
      as_lightdm cleanup || true
      mayfly sessions
      mayfly disable lightdm
      picture | diff /root/without -
      rm -r /etc/lightdm /usr/sbin/lightdm`);
    const conf = '/etc/lightdm/lightdm.conf.d';
    expect(out.split('\n')).toEqual([
      `mayfly: these settings would override ${conf}/50-mayfly.conf, because lightdm reads them later: /etc/lightdm/lightdm.conf:2 (session-setup-script)`,
      `hint: move these lines, with their section, to ${conf}/40-local.conf, then repeat the command; Mayfly runs those scripts too`,
      `write ${conf}/50-mayfly.conf: lightdm runs the hooks at every login and logout, and they run your own scripts`,
      ...inside.on,
      'write /etc/mayfly/enabled: Xsession runs desktops in their sessions',
      expect.stringContaining('systemctl restart lightdm'),
      'lightdm is already enabled; nothing to do',
      'in, carol at :0, 1',
      '    "state": "live",',
      'nothing to recover',
      '1',
      'out, carol at :0, 1',
      'no sessions',
      'in, carol at :0, 1',
      'refused',
      'out, carol at :0, 0', // the session has ended with what has failed
      'no sessions',
      'remove /etc/mayfly/enabled: Xsession runs desktops on the host',
      `remove ${conf}/50-mayfly.conf: lightdm runs the same scripts as before`,
      ...inside.off,
      expect.stringContaining('systemctl restart lightdm'),
      '',
    ]);
  });

  const gdmUnit = '/etc/systemd/system/gdm.service.d';

  it('gdm is enabled by diversions that its upgrades respect, and disabled byte for byte', () => {
    const gdm = `${files}
      gdm3() {
        rm -rf /root/gdm3; mkdir -p /root/gdm3/DEBIAN /root/gdm3/etc/gdm3/PreSession /root/gdm3/etc/gdm3/PostSession /root/gdm3/usr/sbin
        printf 'Package: gdm3\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' $1 >/root/gdm3/DEBIAN/control
        printf '/etc/gdm3/PreSession/Default\n/etc/gdm3/PostSession/Default\n' >/root/gdm3/DEBIAN/conffiles
        printf "#!/bin/sh\necho pre $1; exit $2\n" >/root/gdm3/etc/gdm3/PreSession/Default
        printf "#!/bin/sh\necho post $1; exit $2\n" >/root/gdm3/etc/gdm3/PostSession/Default
        touch /root/gdm3/usr/sbin/gdm3
        chmod 755 /root/gdm3/etc/gdm3/*/Default
        dpkg-deb --root-owner-group -b /root/gdm3 /root/gdm3.deb >/dev/null
        dpkg -i /root/gdm3.deb >/dev/null
        rm -r /root/gdm3 /root/gdm3.deb
      }`;
    const out = ok(`${gdm}
      gdm3 43.0-3 0
      picture >/root/without
      mayfly enable gdm --quiet
      mayfly enable gdm
      grep -c /usr/lib/mayfly/hooks/pam/session /etc/pam.d/common-session
      sed -n 's/^session.*\\(hooks.pam.session\\|pam_systemd\\).*/\\1/p' /etc/pam.d/common-session
      as_pam open_session
      id=$(ls /run/mayfly/sessions); as_gdm PreSession; [ "$id" = "$(ls /run/mayfly/sessions)" ]
      mayfly sessions --json | grep -e '"state"'
      mayfly recover
      as_pam close_session
      as_gdm PostSession
      mayfly sessions
      as_gdm PreSession
      as_gdm PostSession
      mayfly sessions
      mayfly disable gdm
      picture | diff /root/without -
      mayfly enable gdm --quiet 2>/dev/null
      gdm3 48.0-2 7
      as_gdm PreSession || echo "refused with $?"
      mayfly sessions
      mayfly disable gdm --quiet
      grep -h echo /etc/gdm3/*/Default
      gdm3 50.0-1 0
      picture >/root/without
      mayfly enable gdm --quiet
      ls /etc/gdm3/PreSession
      mayfly disable pam 2>&1 && exit 1
      mayfly disable gdm --quiet
      mayfly enable pam --quiet; mayfly disable pam --quiet
      picture | diff /root/without -`);
    expect(out.split('\n')).toEqual([
      'gdm is already enabled; nothing to do',
      '1',
      'hooks/pam/session',
      'pre 43.0-3',
      '    "state": "live",',
      'nothing to recover',
      'post 43.0-3',
      'no sessions',
      'pre 43.0-3',
      'post 43.0-3',
      'no sessions',
      'remove /etc/mayfly/enabled: Xsession runs desktops on the host',
      `remove ${gdmUnit}/50-mayfly.conf: gdm offers the desktops of the host`,
      `remove the directory ${gdmUnit}: it is empty`,
      'remove the Mayfly profile from /etc/pam.d/common-session: logins through PAM get the host',
      ...['PreSession', 'PostSession'].flatMap(script => [
        `rename /etc/gdm3/${script}/Default.before-mayfly to /etc/gdm3/${script}/Default: the original script is restored`,
        `remove the diversion of /etc/gdm3/${script}/Default: the file belongs to gdm3 again`,
      ]),
      ...inside.off,
      expect.stringMatching(/systemctl restart gdm3$/),
      'pre 48.0-2',
      'refused with 7',
      'no sessions',
      'echo post 48.0-2; exit 7',
      'echo pre 48.0-2; exit 7',
      'Default',
      'mayfly: gdm is enabled, and PAM creates its sessions',
      'hint: mayfly disable gdm, which disables both',
      '',
    ]);
  });

  it('needs the static shell of its hooks: dpkg keeps it, and enable and doctor refuse another program', () => {
    const out = ok(`
      dpkg-deb -f /root/mayfly.deb Depends | grep -ow busybox-static
      dpkg -r --no-act busybox-static 2>&1 | grep -o 'mayfly depends on busybox-static'
      printf 'session required pam_env.so user_readenv=1\n' >/etc/pam.d/sddm
      mayfly enable pam --quiet
      doctor() { mayfly doctor 2>&1 | sed -n '/ PAM /,/hint/p' | sed 's/  */ /g'; }
      doctor | head -n 1
      cp -a /bin/busybox /root/static
      cp /bin/true /bin/busybox
      doctor
      mayfly disable pam --quiet
      mayfly enable pam 2>&1 && exit 1
      rm /bin/busybox
      mayfly enable pam 2>&1 && exit 1
      cp -a /root/static /bin/busybox
      rm /etc/pam.d/sddm`);
    const refusal = [
      'mayfly: "/bin/busybox" is missing or is not static, and the hooks need it',
      'hint: apt install busybox-static',
    ];
    expect(out.split('\n')).toEqual([
      'busybox-static',
      'mayfly depends on busybox-static',
      ' ok PAM nothing of the user starts before the hook',
      ' problem PAM "/bin/busybox" is missing or is not static: users could run code as root (/etc/pam.d/sddm: user_readenv=1)',
      ' hint: apt install busybox-static',
      ...refusal,
      ...refusal,
      '',
    ]);
  });

  it('is removed with both enabled, and leaves neither told of it', () => {
    ok(`${files}
      printf '[Seat:*]\n' | install -D /dev/stdin /etc/lightdm/lightdm.conf
      install -m 755 /dev/null /usr/sbin/lightdm
      dpkg -r --force-depends gdm3 >/dev/null; dpkg -P gdm3 >/dev/null
      install -D -m 755 /dev/null /usr/sbin/gdm3
      mkdir -p /etc/gdm3/PostSession; printf 'x\n' | install -D -m 711 /dev/stdin /etc/gdm3/PreSession/Default
      mkdir -p /etc/lightdm/lightdm.conf.d
      picture >/root/without
      mayfly enable lightdm --quiet; mayfly enable gdm --quiet 2>/dev/null
      picture | diff -q /root/without - >/dev/null && exit 1
      dpkg -r mayfly >/root/said 2>&1
      grep 'systemctl restart lightdm' /root/said
      picture | diff /root/without -
      echo 'exec /usr/lib/mayfly/hooks/gdm/PreSession' >>/etc/gdm3/PreSession/Default
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1
      dpkg -r mayfly >/root/said 2>&1 && exit 1
      grep 'not written by Mayfly: line 2' /root/said
      rm -r /etc/lightdm /usr/sbin/lightdm /etc/gdm3 /usr/sbin/gdm3`);
  });

  it('an upgrade from a version without the PAM module changes no stack, and says what to repeat', () => {
    ok(`
      stacks() { find /etc/pam.d -type f -exec md5sum {} + | sort; }
      mkdir -p /etc/lightdm; install -m 755 /dev/null /usr/sbin/lightdm
      stacks >/root/without
      mayfly enable lightdm --quiet
      grep -q '^-session .* pam_mayfly.so' /etc/pam.d/schroot
      dpkg --force-depends -i /root/mayfly.deb >/root/said 2>&1
      ! grep 'until you repeat' /root/said
      sed -i '/mayfly enable/,+2d' /etc/pam.d/schroot; rm -f /etc/pam.d/systemd-user
      stacks | diff /root/without -
      dpkg --force-depends -i /root/mayfly.deb >/root/said 2>&1
      grep 'sandboxes fail in sessions until you repeat: mayfly enable lightdm' /root/said
      stacks | diff /root/without -
      mayfly enable lightdm --quiet
      grep -q '^-session .* pam_mayfly.so' /etc/pam.d/schroot
      rm /usr/lib/*/security/pam_mayfly.so
      hook() { env -i USER=carol DISPLAY=:0 /usr/lib/mayfly/hooks/lightdm/$1 --quiet; }
      hook session-setup
      schroot -d / -c "$(cat /run/mayfly/users/$(id -u carol)/session)" -u carol -- true
      hook session-cleanup
      mayfly disable lightdm --quiet
      stacks | diff /root/without -
      rm -r /etc/lightdm /usr/sbin/lightdm
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1`);
  });

  it('a second login of an upgraded package finds the session of the first', () => {
    ok(`
      hook() { env -i USER=carol DISPLAY=$2 /usr/lib/mayfly/hooks/lightdm/$1 --quiet; }
      hook session-setup :0
      before=$(cat /run/mayfly/users/$(id -u carol)/session)
      touch /var/cache/mayfly/of-another-build.code
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1
      test ! -e /var/cache/mayfly/of-another-build.code
      hook session-setup :1
      test "$before" = "$(cat /run/mayfly/users/$(id -u carol)/session)"
      if dpkg -r mayfly >/root/refused 2>&1; then echo "was removed under a session" >&2; exit 1; fi
      grep -q "mayfly end $before" /root/refused
      hook session-cleanup :0
      hook session-cleanup :1`);
  });

  // The records that an earlier version knows are on disk; /run/mayfly/roots is mounted by the first login after a boot.
  const records = `
    memory=/run/mayfly/sessions; disk=/var/lib/mayfly/sessions
    hook() { env -i USER=carol DISPLAY=:0 /usr/lib/mayfly/hooks/lightdm/$1 --quiet; }
    boot() { umount /run/mayfly/roots; mayfly recover --quiet; test ! -e $disk; }`;

  it('an upgrade in which somebody logs in shows the session to programs of an earlier version', () => {
    ok(`${records}
      mkdir -m 700 $disk
      dpkg --force-depends --unpack /root/mayfly.deb >/dev/null 2>&1
      hook session-setup
      record=$(cat /run/mayfly/users/$(id -u carol)/session).json
      test -e $disk/$record; test ! -e $memory/$record
      dpkg --force-depends --configure mayfly >/dev/null 2>&1
      test "$(mayfly recover)" = 'nothing to recover'
      test -e $disk/$record; test ! -e $memory/$record
      hook session-cleanup
      test -z "$(ls -A $disk; ls -A $memory)"
      boot
      hook session-setup; ls $memory/u*.json; hook session-cleanup`);
  });

  it('a downgrade gives the records of sessions to the earlier version', () => {
    ok(`${records}
      cd /root; dpkg-deb -R mayfly.deb old
      sed -i 's/^Version: .*/Version: 0.0.1/' old/DEBIAN/control; dpkg-deb -b old old.deb >/dev/null
      hook session-setup
      record=$(cat /run/mayfly/users/$(id -u carol)/session).json
      cp $memory/$record /root/record
      dpkg --force-depends -i mayfly.deb >/dev/null 2>&1
      test -e $memory/$record; test ! -e $disk
      dpkg --force-depends --force-downgrade -i old.deb >/dev/null 2>&1
      cmp /root/record $disk/$record; test -z "$(ls -A $memory)"
      test "$(stat -c '%a %U' $disk) $(stat -c '%a %U' $disk/$record)" = '700 root 600 root'
      dpkg --force-depends -i mayfly.deb >/dev/null 2>&1
      mayfly sessions --json | grep '"state": "live"'
      hook session-cleanup
      test -z "$(ls -A $disk)"
      boot
      rm -r old old.deb /root/record`);
  });

  it('without systemd, cron removes at boot what a power cut has left, without which the package stays', () => {
    ok(`${records}
      entry=/etc/schroot/chroot.d/mayfly-u1001-0000000a
      printf '[u1001-0000000a]\ntype=plain\ndirectory=/run/mayfly/roots/u1001-0000000a\n' >$entry
      printf '[x]\ndirectory=/srv/x\n' >/etc/schroot/chroot.d/mayfly-u1001-0000000b
      if dpkg -r mayfly >/root/refused 2>&1; then echo "was removed with leftovers" >&2; exit 1; fi
      grep -q u1001-0000000a /root/refused
      if grep u1001-0000000b /root/refused; then exit 1; fi
      grep -q '"mayfly recover" removes leftovers' /root/refused
      sed -n 's/^@reboot root //p' /etc/cron.d/mayfly >/root/job
      grep -q recover /root/job
      env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /root/job
      test ! -e $entry
      rm /etc/schroot/chroot.d/mayfly-u1001-0000000b /root/job`);
  });

  it('without systemd, cron updates also where the priority for the disk cannot be set', () => {
    // As a user who may not have this class.
    const out = ok(`
      job=$(sed -n "s/.*|| \\\\(nice .*ionice .*\\\\) -c 3 mayfly update .*/\\\\1/p" /etc/cron.d/mayfly)
      setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "$job -c 1 echo updates"`);
    expect(out).toBe('updates\n');
  });

  it('is removed and purged without a trace, once its pool is destroyed', () => {
    const kept = ok(
      `mkdir -p /run/mayfly/users/65000; echo 1 >/run/mayfly/users/65000/host # somebody who got the host
      dpkg -r mayfly 2>&1 | grep 'failed to remove' && exit 1
      dpkg -P mayfly 2>&1; ls /var/lib/mayfly/pool/generations`,
    );
    expect(kept).toMatch(/the pool at \/var\/lib\/mayfly\/pool is kept[\s\S]*\n1\n$/);
    const out = ok(`
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1
      mayfly destroy --yes
      dpkg -P mayfly >/dev/null 2>&1
      userdel -r carol 2>/dev/null; rm -r /etc/ssh /etc/machine-id
      find / -xdev ! -path "/proc/*" ! -path "/root/*" ! -path "/var/log/*" ! -path "/var/lib/dpkg/*" ! -path "/run/*" ! -path "/tmp/*" | sort >/root/after
      diff /root/before /root/after | grep -v -e '^[0-9,acd]*$' -e '/etc/.*-$' -e /var/lib/systemd -e /var/cache || true`);
    expect(out).toBe('removed the pool and all generations\n');
  });
});
