/** The doctor on a machine with the package, lightdm and gdm3: what people can break there, and the hints that fix it. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BareMachine } from './bare-machine.ts';
import { sharedPackage } from './build-package.ts';
import { findings, type Seen } from './findings.ts';
import { makeMiniTree } from './mini.ts';

/**
 * The package on a machine of its own, with what lightdm and gdm3 bring along as far as it is looked at: programs,
 * configuration and session entries. The hooks, the diversions and what is enabled are the real ones.
 */
describe('a machine with display managers', () => {
  let m: BareMachine;
  const conf = '/etc/lightdm/lightdm.conf.d';
  const entry = '/usr/share/xsessions/desk.desktop';

  /** In a room of its own each time, as after a boot: with a process that passes for cron. */
  const inMachine = (script: string): string =>
    m.must(
      `mayfly recover --quiet; /usr/local/cron 300 >/dev/null 2>&1 & pid=$!\n(\n${script}\n)\nkill $pid`,
    );
  const seen = (script: string): Seen[] => {
    const act = `{\n:\n${script}\n} >/root/said 2>&1`;
    const cron = 'mayfly recover --quiet; /usr/local/cron 300 >/dev/null 2>&1 & pid=$!';
    return findings(m.run(`${cron}\n${act}\nmayfly doctor --json && c=0 || c=$?; kill $pid; exit $c`));
  };

  beforeAll(() => {
    m = new BareMachine();
    fs.copyFileSync(sharedPackage(), `${m.root}/root/mayfly.deb`);
    makeMiniTree(`${m.root}/root/tree`, ['mktemp', 'chown', 'tail', 'rm']);
    m.must(`
      dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1
      cp /bin/sleep /usr/local/cron
      for p in /usr/sbin/lightdm /usr/sbin/gdm3 /usr/bin/xmessage; do install -m 755 /bin/true $p; done
      install -D -m 755 /bin/true /etc/X11/Xsession
      mkdir -p ${conf} /etc/gdm3/PreSession /etc/gdm3/PostSession /usr/share/xsessions /usr/share/wayland-sessions
      printf '[Desktop Entry]\nName=Desk\nExec=desk\n' >${entry}
      printf '[Seat:*]\nsession-wrapper=/etc/X11/Xsession\n' >${conf}/01_debian.conf
      install -D -m 644 ${entry} /root/tree/${entry}
      install -D -m 755 /bin/true /root/tree/usr/bin/desk
      printf '#!/bin/sh\nexec $1\n' >/root/xsession
      install -D -m 755 /root/xsession /root/tree/etc/X11/Xsession
      useradd -m -s /bin/sh mfdoc-m
      mayfly init --from /root/tree --quiet
      mayfly enable lightdm --quiet
      mayfly enable gdm --quiet 2>/dev/null`);
  });
  afterAll(() => m.close());

  it('is well', () => {
    expect(seen('')).toEqual([]);
    expect(inMachine('mayfly doctor')).toMatch(/\n {2}ok +enabled +lightdm, gdm, pam\n/);
  });

  const H = '/usr/lib/mayfly/hooks';
  it.each<[string, string, string, RegExp]>([
    [
      'a hook that is not executable',
      'hooks',
      `chmod 644 ${H}/lightdm/session-setup`,
      /session-setup" is not executable/,
    ],
    ['a hook anybody can write', 'hooks', `chmod 777 ${H}/gdm/PreSession`, /gdm\/PreSession" is writable/],
    ['a wrapper of somebody else', 'hooks', `chown mfdoc-m ${H}/session-wrapper`, /belongs to uid/],
    ['our file for lightdm, edited', 'settings', `echo '#' >>${conf}/50-mayfly.conf`, /" was changed/],
    [
      'our file for lightdm, writable',
      'settings',
      `chmod 666 ${conf}/50-mayfly.conf`,
      /is writable by users other/,
    ],
    ['gdm’s script, edited', 'settings', 'echo "exit 0" >>/etc/gdm3/PreSession/Default', /" was changed/],
    ['gdm’s script, not executable', 'settings', 'chmod 644 /etc/gdm3/PreSession/Default', /" was changed/],
    [
      'gdm’s script, missing',
      'settings',
      'rm /etc/gdm3/PostSession/Default',
      /PostSession\/Default" is missing/,
    ],
    [
      'no diversion',
      'settings',
      'dpkg-divert --package mayfly --no-rename --remove /etc/gdm3/PreSession/Default',
      /is not diverted/,
    ],
    ['no mark for Xsession', 'enabled', 'rm /etc/mayfly/enabled', /desktops run on the host/],
    [
      'a drop-in that is missing',
      'services',
      'rm /etc/systemd/system/user@.service.d/50-mayfly.conf',
      /is missing: services/,
    ],
    [
      'a drop-in of somebody else that wins',
      'services',
      'printf "[Service]\nRootDirectory=/\n" >/etc/systemd/system/user@.service.d/99-x.conf',
      /99-x\.conf" overrides the root directory/,
    ],
    [
      'a wrapper of lightdm’s past Xsession',
      'lightdm',
      `printf '[Seat:*]\nsession-wrapper=/opt/x\n' >${conf}/60.conf`,
      /60\.conf:2 starts desktops without Xsession/,
    ],
    [
      'a script for one display',
      'gdm',
      'touch /etc/gdm3/PreSession/:0',
      /gdm runs \/etc\/gdm3\/PreSession\/:0 instead/,
    ],
    [
      'no line in PAM',
      'settings',
      'sed -i /mayfly/d /etc/pam.d/common-session',
      /common-session" lacks the lines/,
    ],
    ['no desktop to choose', 'greeter', 'rm /run/mayfly/greeter/*/*', /has no desktops/],
  ])('%s is seen, and the hint mends it', (name, check, sicken, what) => {
    const before = seen(sicken);
    expect(before.map(s => s.check)).toEqual([check]);
    expect(before[0]?.what).toMatch(what);
    const hint = before[0]?.hint;
    expect(seen(hint ?? 'false'), `${name}: ${hint}`).toEqual([]);
  });

  it.each<[string, string, string, RegExp, RegExp]>([
    [
      'a setup script that lightdm reads after ours',
      'settings',
      `printf '[Seat:*]\nsession-setup-script=/opt/x\n' >${conf}/60.conf; trap 'rm ${conf}/60.conf' EXIT`,
      /60\.conf:2 \(session-setup-script\)/,
      /^move these lines/,
    ],
    [
      'our lines too late in PAM',
      'PAM',
      "f=/etc/pam.d/common-session; cp $f /root/stack; sed -i '1isession optional pam_systemd.so' $f; trap 'cp /root/stack /etc/pam.d/common-session' EXIT",
      /comes after pam_systemd/,
      /^move line 1 of /,
    ],
    [
      'no snippet in Xsession.d',
      'Xsession',
      'cd /etc/X11/Xsession.d; mv 00mayfly /root; trap "mv /root/00mayfly /etc/X11/Xsession.d" EXIT',
      /desktops run on the host/,
      /^apt install --reinstall .*--force-confmiss mayfly # or .*FILE\.deb/,
    ],
    [
      'a part of the program that is gone',
      'hooks',
      `mv ${H}/gdm/PostSession /root; trap "mv /root/PostSession ${H}/gdm/" EXIT`,
      /PostSession" is missing/,
      /^apt install --reinstall mayfly # or .*FILE\.deb/,
    ],
    [
      'a second schedule',
      'nightly update',
      'echo "0 3 * * * root mayfly update" >/etc/cron.d/own; trap "rm /etc/cron.d/own" EXIT',
      /"\/etc\/cron.d\/own" runs updates in addition to/,
      /^sed -i/,
    ],
  ])('%s is seen, with what to do', (_, check, sicken, what, hint) => {
    const [first, ...more] = seen(sicken);
    expect(more).toEqual([]);
    expect(first).toMatchObject({
      check,
      what: expect.stringMatching(what),
      hint: expect.stringMatching(hint),
    });
    expect(seen('')).toEqual([]);
  });

  it('is sick where the display managers were told by nobody, or are no more to be told', () => {
    const [none] = seen(
      `rm ${conf}/50-mayfly.conf; mayfly disable gdm --force --quiet; touch /etc/mayfly/enabled`,
    );
    expect(none).toMatchObject({ check: 'enabled', hint: 'mayfly enable lightdm' });
    expect(seen('mayfly enable lightdm --quiet; mayfly enable gdm --quiet 2>/dev/null')).toEqual([]);
    expect(
      m.must('mayfly disable lightdm --quiet; mayfly disable gdm --quiet; mayfly doctor --quiet || true'),
    ).not.toMatch(/display managers\n/);
  });
});
