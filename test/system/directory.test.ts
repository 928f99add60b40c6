/** Accounts and groups of a directory service, with the names that schools and companies give: a real login of each. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BareMachine } from './bare-machine.ts';
import { sharedPackage } from './build-package.ts';
import { makeMiniTree } from './mini.ts';

const GROUPS = 200;

/** name, uid, and the group with which `include` lets the account in */
const PEOPLE = [
  ['1871002', 70001, 'students'], // its name is mallory's uid
  ['70001', 70002, 'students'], // its name is the uid of the one before
  ['4711', 4711, 'students'],
  ['john smith', 70003, 'domain admins'],
  ['LAB\\eve', 70004, 'LAB\\domain users'],
  ['dora@lab.example', 70005, 'students'],
] as const;

describe('a directory', () => {
  let m: BareMachine;

  beforeAll(() => {
    m = new BareMachine();
    fs.copyFileSync(sharedPackage(), `${m.root}/root/mayfly.deb`);
    makeMiniTree(`${m.root}/root/tree`, ['id']);
    fs.appendFileSync(`${m.root}/root/tree/etc/group`, 'dialout:x:20:\nkey:x:85000:\n');
    fs.writeFileSync(`${m.root}/root/tree/etc/hostname`, 'builder\n');
    fs.writeFileSync(`${m.root}/root/tree/etc/resolv.conf`, 'nameserver 192.0.2.1\n');
    const names = PEOPLE.map(([name]) => name);
    const passwd = PEOPLE.map(([, uid], i) => `${names[i]}:x:${uid}:80000:Pupil:/home/${uid}:/bin/sh`);
    const members = (group: string): string =>
      PEOPLE.flatMap(([, , of], i) => (of === group ? [names[i]] : [])).join(',');
    const group = [...new Set(PEOPLE.map(([, , of]) => of))].map(
      (of, i) => `${of}:x:${80001 + i}:${members(of)}`,
    );
    const many = Array.from({ length: GROUPS }, (_, i) => `course ${i}:x:${90000 + i}:1871002`);
    fs.mkdirSync(`${m.root}/var/lib/extrausers`, { recursive: true });
    const put = (name: string, lines: readonly string[]): void =>
      fs.writeFileSync(`${m.root}/var/lib/extrausers/${name}`, `${lines.join('\n')}\n`);
    put('passwd', [
      ...passwd,
      'mallory:x:1871002:80000::/home/mallory:/bin/sh',
      'nameless:x:70009:85000::/home/70009:/bin/sh',
    ]);
    put('group', ['pupils:x:80000:', ...group, ...many]);
    put(
      'shadow',
      [...names, 'mallory', 'nameless'].map(name => `${name}:*:20000::::::`),
    );
    // Counts what a login asks NSS.
    fs.writeFileSync(
      `${m.root}/root/getent`,
      '#!/bin/sh\necho "$*" | cut -c 1-60 >>/root/asked\nexec /usr/bin/getent.real "$@"\n',
      { mode: 0o755 },
    );
    m.must(`
      sed -i 's/^\\(passwd\\|group\\|shadow\\):.*/\\1: files extrausers/' /etc/nsswitch.conf
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1
      mv /usr/bin/getent /usr/bin/getent.real; mv /root/getent /usr/bin/getent
      printf 'include = ["@students", "@domain admins", "@LAB\\\\\\\\domain users", "mallory", "nameless"]\n' >/etc/mayfly/mayfly.toml
      for uid in ${PEOPLE.map(([, uid]) => uid).join(' ')} 70009 mallory; do mkdir -p /home/$uid; chown 1000:80000 /home/$uid; done
      mayfly init --from /root/tree --quiet`);
  });
  afterAll(() => m.close());

  // Not setpriv(1), which takes a number for a name if it is one.
  it('has names of digits, with spaces, with domains: each logs in and out as itself', () => {
    const logins = PEOPLE.map(
      ([name, uid], i) => `
        USER='${name}' DISPLAY=:${i} mayfly hook lightdm start
        name=$(mayfly sessions --json | node -e 'for (const s of JSON.parse(require("fs").readFileSync(0))) console.log(s.id, s.user)' | sed -n 's/^u${uid}-[^ ]* //p')
        [ "$name" = '${name}' ]
        id=$(sed -n 's/^\\[\\(u${uid}-.*\\)\\]$/\\1/p' /etc/schroot/chroot.d/mayfly-u${uid}-*)
        as=$(timeout 60 perl -e '$) = "80000 80000"; $( = 80000; $< = $> = ${uid}; exec @ARGV' schroot -c "$id" -d / -- /bin/sh -c 'printf "%s;%s;" "$(id -u)" "$(id -un)"')
        printf '%s\\n' "$as"
        USER='${name}' DISPLAY=:${i} mayfly hook lightdm stop
        [ -z "$(ls /etc/schroot/chroot.d)" ]`,
    );
    const out = m.must(`mayfly recover --quiet\nUSER=mallory DISPLAY=:9 mayfly hook lightdm start >/dev/null
      entry=$(ls /etc/schroot/chroot.d); mkdir /root/aside; mv /etc/schroot/chroot.d/* /root/aside/
      (\n${logins.join('\n')}\n)
      mv /root/aside/* /etc/schroot/chroot.d/; rmdir /root/aside
      mayfly sessions | grep -q mallory
      USER=mallory DISPLAY=:9 mayfly hook lightdm stop
      [ -z "$(ls /etc/schroot/chroot.d)" ]`);
    expect(out.trim().split('\n')).toEqual(PEOPLE.map(([name, uid]) => `${uid};${name};`));
  });

  it(`is asked with three processes for an account in ${GROUPS} groups`, () => {
    const out = m.must(`mayfly recover --quiet; rm -f /root/asked
      USER=1871002 DISPLAY=:1 mayfly hook lightdm start; cat /root/asked
      grep -c '^course [0-9]*:x:[0-9]*:1871002$' /run/mayfly/roots/u70001-*/etc/group
      USER=1871002 DISPLAY=:1 mayfly hook lightdm stop`);
    const [first, second, ...rest] = out.trim().split('\n');
    expect(first).toBe('-- initgroups 1871002');
    expect(second).toMatch(/^-- group 8000\d .*9000\d/);
    expect(rest).toEqual([String(GROUPS)]);
  });

  it('has people of its own in groups of the machine, also where NSS leaves those out', () => {
    const out = m.must(`mayfly recover --quiet
      cp /etc/nsswitch.conf /root/; cp /etc/mayfly/mayfly.toml /root/
      echo 'initgroups: extrausers' >>/etc/nsswitch.conf
      sed -i 's/^dialout:.*/&dora@lab.example/' /etc/group
      echo 'include = ["@dialout"]' >/etc/mayfly/mayfly.toml
      mayfly scope dora@lab.example
      USER=dora@lab.example DISPLAY=:1 mayfly hook lightdm start
      grep -h ^dialout: /run/mayfly/roots/u70005-*/etc/group
      mayfly end dora@lab.example --quiet
      cp /root/nsswitch.conf /etc/; cp /root/mayfly.toml /etc/mayfly/
      sed -i 's/^\\(dialout:.*:\\).*/\\1/' /etc/group`);
    expect(out.split('\n').slice(0, 2)).toEqual([
      'dora@lab.example gets a session; on failure: refuse',
      'dialout:x:20:dora@lab.example',
    ]);
  });

  it('does not tell the name of a number: whoever is in the group gets a session all the same', () => {
    const out = m.must(`mayfly recover --quiet
      mv /usr/bin/getent /root/getent.own
      printf '#!/bin/sh\\nfor a; do shift; [ "$a" = 80001 ] || set -- "$@" "$a"; done\\nexec /usr/bin/getent.real "$@"\\n' >/usr/bin/getent
      chmod 755 /usr/bin/getent
      getent -- group 80001 90000 | wc -l
      mayfly scope 1871002
      USER=1871002 DISPLAY=:1 mayfly hook lightdm start
      mayfly sessions | grep -c 1871002
      mayfly end 1871002 --quiet; mv /root/getent.own /usr/bin/getent`);
    expect(out).toBe('1\n1871002 gets a session; on failure: refuse\n1\n');
  });

  it('knows no name for a primary group: the login is refused with its reason, and no file of others is shown', () => {
    const start = 'USER=nameless DISPLAY=:1 mayfly hook lightdm start';
    const r = m.run(`mayfly recover --quiet; ${start}`);
    expect(r.code).toBe(4);
    expect(r.err).toMatch(
      /the primary group 85000 of "nameless" has no name on this machine, .*\nhint: groupadd --gid 85000 /,
    );
    expect(m.run(`mayfly recover --quiet; mayfly sessions; ls /etc/schroot/chroot.d`).out).not.toMatch(
      /nameless|u70009/,
    );
    const inside = m.must(
      'mayfly recover --quiet; mayfly run --user nameless -- sh -c "id -g; getent group key"',
    );
    expect(inside).toMatch(/^85000\nkey:x:5\d{4}:\n$/);
    expect(
      m.must(
        `mayfly recover --quiet; ${r.err.split('hint: ')[1]}\n${start}\nmayfly sessions; mayfly end nameless --quiet`,
      ),
    ).toMatch(/^u70009-\S+ +nameless .* live$/m);
  });

  it('does not tell a group that lets people in: they are refused with words, and those of the machine log in', () => {
    const start = (name: string): string => `USER='${name}' DISPLAY=:1 mayfly hook lightdm start`;
    m.must(`mayfly recover --quiet; cp /var/lib/extrausers/group /root/group
      echo 'staff1:x:1500:1500::/home/staff1:/bin/sh' >>/etc/passwd; echo 'staff1:x:1500:' >>/etc/group
      sed -i '/^students:/d' /var/lib/extrausers/group`);
    try {
      const r = m.run(`${start('dora@lab.example')} || echo $?
        cat /run/mayfly/users/70005/reason; ls /run/mayfly/users/70005`);
      expect(r.out).toMatch(/^4\nnobody can tell .* now \(MAYFLY-UNKNOWN-GROUP\)\nreason\n$/);
      expect(r.err).toBe(
        'mayfly: nobody can tell whether "dora@lab.example" gets a session: this machine does not know "@students" in "include" now\nhint: getent group students\n',
      );
      const scope = m.run('mayfly scope dora@lab.example');
      expect([scope.code, scope.out]).toEqual([4, '']);
      expect(m.run('mayfly config >/dev/null').err).toContain('no group has the name "students"');
      expect(m.run('mayfly doctor').out).toMatch(/problem +groups +no group has the name "students"/);
      const out = m.must(`
        ${start('staff1')}; ${start('root')}; mayfly sessions
        ${start('john smith')} >/dev/null; mayfly sessions | grep -c 'john smith'; mayfly end 'john smith' --quiet
        echo 'on_failure = "host"' >/root/policy; cat /root/policy /etc/mayfly/mayfly.toml >/root/both
        mayfly scope --config /root/both dora@lab.example`);
      expect(out).toBe('no sessions\n1\ndora@lab.example gets a session; on failure: host\n');
    } finally {
      m.must(`cp /root/group /var/lib/extrausers/group; sed -i '/^staff1:/d' /etc/passwd /etc/group`);
    }
    expect(
      m.must(`${start('dora@lab.example')}; mayfly sessions; mayfly end dora@lab.example --quiet`),
    ).toMatch(/u70005-/);
  });

  it('does not answer, or slowly: a login is whole or refused with words, and no hook waits for ever', () => {
    const out =
      m.must(`mayfly recover --quiet; cp /usr/bin/getent /root/getent; cp /etc/mayfly/mayfly.toml /root/
      printf '[hook]\ntimeout = 5\n' >>/etc/mayfly/mayfly.toml
      export USER=dora@lab.example DISPLAY=:1
      for seconds in 0.2 20; do
        printf '#!/bin/sh\nsleep %s || exit; exec /root/getent "$@"\n' $seconds >/usr/bin/getent
        timeout 120 mayfly hook lightdm start 2>&1 | sed 's/.*: dora@lab.example logged in.*/in/'
        timeout 120 mayfly hook lightdm stop --quiet; echo "stop $?"
        [ -z "$(ls /etc/schroot/chroot.d)" ]
      done
      cp /root/getent /usr/bin/getent; cp /root/mayfly.toml /etc/mayfly/
      mayfly hook lightdm start --quiet; mayfly hook lightdm stop --quiet; mayfly sessions`);
    expect(out.split('\n')).toEqual([
      'in',
      'stop 0',
      'mayfly: the directory of accounts did not answer in time about "dora@lab.example"',
      'hint: getent passwd dora@lab.example',
      'stop 0',
      'no sessions',
      '',
    ]);
  });

  it('knows somebody no more, or under another number, when they log out: the session ends', () => {
    const out = m.must(`mayfly recover --quiet; cp /var/lib/extrausers/passwd /root/passwd
      for change in '/^dora@/d' 's/^\\(dora@[^:]*:x\\):[0-9]*/\\1:70077/'; do
        USER=dora@lab.example DISPLAY=:1 mayfly hook lightdm start
        ls /etc/schroot/chroot.d
        sed "$change" /root/passwd >/var/lib/extrausers/passwd
        mayfly status >/dev/null; mayfly recover --quiet
        USER=dora@lab.example DISPLAY=:2 mayfly hook lightdm stop
        mayfly sessions | grep -c dora
        rm -f /root/asked
        USER=dora@lab.example DISPLAY=:1 mayfly hook lightdm stop
        [ ! -e /root/asked ]
        [ -z "$(ls /etc/schroot/chroot.d)" ]
        [ -z "$(ls /run/mayfly/sessions)" ]
        cp /root/passwd /var/lib/extrausers/passwd
      done`);
    expect(out).toMatch(/^(mayfly-u70005-\S+\n1\n){2}$/);
  });

  it('is on a host whose files are missing, empty, links to nothing or directories', () => {
    const files = ['hostname', 'hosts', 'localtime', 'machine-id', 'resolv.conf', 'timezone', 'subuid'];
    const made = { absent: ':', empty: ': >$at', dangling: 'ln -s /nowhere $at', dir: 'mkdir $at; : >$at/x' };
    const login = `USER=4711 DISPLAY=:1 mayfly hook lightdm start --quiet
        at=$(echo /run/mayfly/roots/u4711-*/etc); cat $at/hostname; readlink $at/resolv.conf || cat $at/resolv.conf
        grep -cx '[0-9a-f]*' $at/machine-id; mayfly end 4711 --quiet >/dev/null`;
    const out = m.must(`mayfly recover --quiet; mkdir /root/etc; hostname
      for file in ${files.join(' ')}; do mv /etc/$file /root/etc/ 2>/dev/null || true; done
      ${Object.entries(made)
        .map(
          ([how, make]) =>
            `echo ${how}; for file in ${files.join(' ')}; do at=/etc/$file; ${make}; done; ${login}; for file in ${files.join(' ')}; do rm -rf /etc/$file; done`,
        )
        .join('\n')}
      cp -a /root/etc/. /etc/`);
    const [name = '', ...lines] = out.trim().split('\n');
    expect(lines).toEqual(['absent', name, '1', 'empty', '1', 'dangling', name, '1', 'dir', name, '1']);
  });

  it.each([
    ['an uid instead of a name', '70003', 'unknown-user'],
    ['a name that nobody has', '99', 'unknown-user'],
    ['a name with a space at its end', 'john smith ', 'bad-user'],
  ])('refuses %s', (_, name, code) => {
    const r = m.run(`mayfly recover --quiet; USER='${name}' DISPLAY=:1 mayfly hook lightdm start`);
    expect(r.code).not.toBe(0);
    expect(`${r.out}${r.err}`).toMatch(code === 'bad-user' ? /invalid user name/ : /there is no user/);
  });
});
