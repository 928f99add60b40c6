/**
 * Programs that administrators have beside Mayfly and that walk through whole machines: each is run once while two people
 * are logged in. What README.Debian says of it must be true, and the sessions and their logouts as without it.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BareMachine } from './bare-machine.ts';
import { sharedPackage } from './build-package.ts';

const PACKAGES =
  'borgbackup,restic,rsync,plocate,clamav,needrestart,tmpreaper,systemd,fdisk,util-linux,xz-utils';

/** A file of a session that only root inside can have made; who reads a session finds it. */
const MARK = 'changed-in-session';

/** What each is run as, with `/backup` for its output; `$pool` is the pool. */
const PROGRAMS: Readonly<Record<string, string>> = {
  tar: `tar -C / --one-file-system --exclude-caches --exclude=./proc --exclude=./sys --exclude=./backup --exclude=pool.img -cf /backup/tar . 2>&1
    tar -tf /backup/tar | grep -c -e ${MARK} -e run/mayfly/roots/u.*/ || true`,
  borg: `export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
    borg init -e none /backup/borg
    borg create --exclude-caches --one-file-system --exclude '*/pool.img' /backup/borg::a /etc /var/lib/mayfly /run/mayfly 2>&1
    borg list /backup/borg::a | grep -c -e ${MARK} -e run/mayfly/roots/u.*/ || true`,
  restic: `export RESTIC_PASSWORD=x
    restic init -q -r /backup/restic
    restic backup -q -r /backup/restic --exclude-caches --one-file-system --exclude pool.img /var/lib/mayfly /run/mayfly
    restic ls -q -r /backup/restic latest | grep -c -e ${MARK} -e run/mayfly/roots/u.*/ || true`,
  rsync: `rsync -ax --exclude /pool/sessions --exclude /pool.img /var/lib/mayfly/ /backup/rsync/
    find /backup/rsync | grep -c ${MARK} || true`,
  plocate: `mayfly doctor | sed -n 's/^ *hint: \\(sed .*updatedb.conf\\)$/\\1/p' >/root/fix
    cat /root/fix
    sh /root/fix
    updatedb
    locate ${MARK} generations || true`,
  clamscan: `echo 'Test.UNOFFICIAL:0:*:${Buffer.from(MARK).toString('hex')}' >/root/test.ndb
    clamscan -r -i --no-summary -d /root/test.ndb --exclude-dir=^$pool --exclude-dir=^/run/mayfly --exclude=^$pool.img /var /run
    echo found nothing`,
  fstrim: 'fstrim --listed-in /proc/self/mountinfo --quiet-unsupported -n >/dev/null && echo done',
  tmpreaper: `sed -i "/^SHOWWARNING/d; s/^TMPREAPER_DELAY=.*/TMPREAPER_DELAY=0/" /etc/tmpreaper.conf
    sh /etc/cron.daily/tmpreaper && echo done`,
  'systemd-tmpfiles': `systemd-tmpfiles --exclude-prefix=/dev --exclude-prefix=/sys --exclude-prefix=/proc --clean --remove --create >/dev/null 2>&1
    echo done`,
  needrestart: `needrestart -b -r l 2>/dev/null | grep -c 'SVC: mayfly-' || true`,
};

/** What each must say; the mark must not be in it. */
const EXPECTED: Readonly<Record<string, RegExp>> = {
  tar: /^(tar: [^\n]*: (socket ignored|file changed as we read it)\n)*0\n$/,
  borg: /^0\n$/,
  restic: /^0\n$/,
  rsync: /^0\n$/,
  plocate: /^sed -i 's.*updatedb\.conf\n$/,
  clamscan: /^found nothing\n$/,
  fstrim: /^done\n$/,
  tmpreaper: /^done\n$/,
  'systemd-tmpfiles': /^done\n$/,
  needrestart: /^0\n$/,
};

describe.each(['overlay', 'btrfs'])('beside two sessions on %s', backend => {
  let m: BareMachine;
  const said = new Map<string, string>();

  beforeAll(() => {
    m = new BareMachine({ name: 'neighbours', packages: PACKAGES });
    fs.copyFileSync(sharedPackage(), `${m.root}/root/mayfly.deb`);
    const one = ([name, script]: [string, string]): string => `echo "== ${name}"; ( ${script}\n )`;
    const out = m.must(`
      pool=/var/lib/mayfly/pool
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1 || true
      for name in carol dave; do useradd -m -s /bin/sh $name; done
      printf '%032d\\n' 7 >/etc/machine-id
      mkdir /backup
      mayfly init --from host --backend ${backend} --quiet
      hook() { env -i USER=$2 DISPLAY=$3 /usr/lib/mayfly/hooks/lightdm/$1 --quiet; }
      trap 'hook session-cleanup carol :0; hook session-cleanup dave :1' EXIT # nothing runs on where a program fails
      hook session-setup carol :0
      hook session-setup dave :1
      id=$(cat /run/mayfly/users/$(id -u carol)/session)
      schroot -d / -c "$id" -u root -- sh -c 'echo ${MARK} >/usr/${MARK}'
      schroot -d / -c "$id" -u carol -- sh -c 'echo mine >~/mine'
      setsid schroot -d / -c "$id" -u carol -- sleep 100000 </dev/null >/dev/null 2>&1 &
      grep . /proc/self/mountinfo | grep -c mayfly >/root/mounts
      ${Object.entries(PROGRAMS).map(one).join('\n')}
      echo '== sessions'
      mayfly sessions --json | grep -c '"state":"live"' || true
      schroot -d / -c "$id" -u carol -- cat /usr/${MARK} /home/carol/mine
      grep . /proc/self/mountinfo | grep -c mayfly | cmp - /root/mounts
      echo '== logouts'
      hook session-cleanup dave :1
      hook session-cleanup carol :0
      mayfly sessions
      mayfly recover
      echo '== the end'
      mayfly destroy --yes`);
    for (const part of out.split(/^== /m).slice(1)) {
      const end = part.indexOf('\n');
      said.set(part.slice(0, end), part.slice(end + 1));
    }
  });
  afterAll(() => m.close());

  it.each(Object.keys(PROGRAMS))('%s does as README.Debian says', name => {
    expect(said.get(name)).toMatch(EXPECTED[name] ?? /never/);
  });

  it('the sessions are as they were, and end', () => {
    expect(said.get('sessions')).toMatch(new RegExp(`${MARK}\nmine\n$`));
    expect(said.get('logouts')).toBe('no sessions\nnothing to recover\n');
  });
});
