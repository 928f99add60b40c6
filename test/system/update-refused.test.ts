/** Updates that are given up for the sake of packages, of room, or because a trial login does not go away. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Mirror } from './debs.ts';
import { forgetUsers, type Lab, must, user } from './lab.ts';
import { attempt, closeQuickLab, loginWorks, quickLab, refused, stable, standing } from './updates.ts';

const A = 'mayfly-up';
let lab: Lab;

beforeAll(() => void user(A));
afterAll(forgetUsers);

/**
 * A maintainer script that tries to change the machine, with values that change nothing, and fails with the list of what it
 * could write.
 */
const REACH = `reached=
for f in kernel/printk vm/swappiness kernel/hostname; do
  value=$(cat /proc/sys/$f)
  if (echo "$value" >/proc/sys/$f) 2>/dev/null; then reached="$reached /proc/sys/$f"; fi
done
if (echo h >/proc/sysrq-trigger) 2>/dev/null; then reached="$reached /proc/sysrq-trigger"; fi
for f in /sys/kernel/mm/transparent_hugepage/defrag /sys/power/pm_async; do
  if [ -e $f ] && (: >>$f) 2>/dev/null; then reached="$reached $f"; fi
done
for f in /dev/*; do if [ -b $f ]; then reached="$reached $f"; fi; done
mknod /var/tmp/memory c 1 5 # /dev/zero stands for a disk
if (head -c 1 /var/tmp/memory) >/dev/null 2>&1; then reached="$reached mknod"; fi
rm /var/tmp/memory
tr '\\0' '\\n' </proc/1/environ | grep -q ^container= || reached="$reached not-a-container"
# What a script may use.
echo x >/dev/null; head -c 1 /dev/zero /dev/urandom >/dev/null; [ -w /run/lock ]; : >/dev/shm/x
[ "$(echo works | cat /dev/stdin)" = works ] && [ -c /dev/pts/ptmx ] && : <>/dev/ptmx
echo "E: reached:$reached." >&2
exit 1`;

describe('packages', () => {
  let mirror: Mirror;
  beforeAll(async () => {
    mirror = await Mirror.start();
    mirror.add(
      { name: 'mayfly-broken', version: '1', postinst: 'echo "the disk is made of cheese" >&2\nexit 1' },
      { name: 'mayfly-reaching', version: '1', postinst: REACH },
      { name: 'mayfly-evil', version: '1', fields: ['Conflicts: sudo'] },
      {
        ...{ name: 'mayfly-desk', version: '1' },
        files: {
          '/usr/share/wayland-sessions/desk.desktop': '[Desktop Entry]\nName=Desk\nExec=/bin/true\n',
        },
      },
      { name: 'mayfly-greedy', version: '1', fields: ['Conflicts: mayfly-desk'] },
      { name: 'mayfly-lonely', version: '1', fields: ['Depends: no-such-package'] },
    );
    lab = quickLab('btrfs', A);
  });
  afterAll(() => {
    mirror.stop();
    closeQuickLab(lab);
  });

  it('one whose configuration fails', () => {
    const update = `${mirror.config}packages = ["mayfly-broken"]`;
    const says =
      /^"apt-get install mayfly-broken" failed with exit code 100: dpkg: error processing package mayfly-broken .*post-installation script subprocess returned error exit status 1; .*E: Sub-process \/usr\/bin\/dpkg returned an error code \(1\)$/;
    refused(lab, A, { update, phase: 'refresh', says });
  });

  it('one that a command left half-configured, saying that all is well', () => {
    const deb = `${mirror.directory}/mayfly-broken_1_all.deb`;
    const script = `cp ${deb} "$1/tmp/x.deb"; chroot "$1" dpkg -i /tmp/x.deb; true`;
    const says = /^packages: not completely installed: mayfly-broken$/;
    refused(lab, A, { scripts: { 'refresh.d/half': script }, phase: 'check', says });
  });

  it.each([
    [
      'takes set-id bits away',
      'chmod u-s "$1/usr/bin/su" "$1/usr/bin/passwd"',
      /^rights: "\/usr\/bin\/su", "\/usr\/bin\/passwd" have lost the set-id bit/,
    ],
    [
      'gives the system to a person',
      'chown 1000 "$1/etc" "$1/usr/bin"',
      /^rights: "\/etc", "\/usr\/bin" do not belong to root: /,
    ],
  ])('one that %s', (_, script, says) => {
    refused(lab, A, { scripts: { 'refresh.d/rights': script }, phase: 'check', says });
  });

  it('one that writes to the machine: it cannot', () => {
    const update = `${mirror.config}packages = ["mayfly-reaching"]`;
    refused(lab, A, { update, phase: 'refresh', says: /: E: reached:\.; / });
  });

  it('one that conflicts with what is protected', () => {
    const update = `${mirror.config}protect = ["sudo"]\npackages = ["mayfly-evil"]`;
    const says = /^"apt-get install mayfly-evil" would remove protected packages: sudo$/;
    refused(lab, A, { update, phase: 'refresh', says });
  });

  it('one whose dependencies can not be had', () => {
    const update = `${mirror.config}packages = ["mayfly-lonely"]`;
    const says =
      /^"apt-get --simulate install mayfly-lonely" failed with exit code 100: The following packages have unmet dependencies: mayfly-lonely : Depends: no-such-package but it is not installable; E: /;
    refused(lab, A, { update, phase: 'refresh', says });
  });

  it('one that is protected, but whose dependencies are gone', () => {
    const master = `${lab.dir}/pool/master`;
    fs.copyFileSync(`${mirror.directory}/mayfly-lonely_1_all.deb`, `${master}/root/x.deb`);
    must('chroot', [master, 'dpkg', '--force-depends', '-i', '/root/x.deb']);
    const says = /^"apt-get --fix-broken install" would remove protected packages: mayfly-lonely$/;
    refused(lab, A, { update: `${mirror.config}protect = ["mayfly-lonely"]`, phase: 'refresh', says });
    must('chroot', [master, 'dpkg', '-P', 'mayfly-lonely']);
  });

  it('a mirror that is not there', () => {
    const update = 'sources = ["deb http://127.0.0.1:1/debian stable main"]\n';
    const says = /^"apt-get update" failed with exit code 100: E: .*127\.0\.0\.1:1.*Connection refused/;
    refused(lab, A, { update, phase: 'refresh', says });
  });

  it('a trial login that can not be taken down is said, kept on record, and recovered when it can', async () => {
    const before = standing(lab);
    const was = stable(lab);
    const place = `${lab.dir}/held`;
    const question = `${lab.dir}/question`;
    fs.mkdirSync(place);
    // Somebody else on the machine, who shows the trial's root where no teardown knows of it.
    const other = 'until [ -s "$1" ]; do sleep 0.05; done; mount --bind "$(cat "$1")" "$2"; rm "$1"';
    const holder = spawn('sh', ['-c', other, 'sh', question, place], { stdio: 'inherit' });
    const check = `echo "$1" >${question}; while [ -e ${question} ]; do sleep 0.05; done`;
    const r = attempt(lab, { scripts: { 'checks.d/hold': check } });
    holder.kill();
    expect(r).toMatchObject({ code: 6 });
    expect(r.err).toMatch(new RegExp(`failed in "check": .*${place}.*\nhint: mayfly recover\n`));
    expect(lab.records()).toHaveLength(1);
    expect(lab.records()[0]?.stuck).toMatch(new RegExp(place));
    expect(stable(lab)).toBe(was);
    loginWorks(lab, A);
    must('umount', [place]);
    fs.rmdirSync(place);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(standing(lab)).toEqual(before);
    loginWorks(lab, A);
  });

  it('one that conflicts with the only desktop: apt removes that, and a night keeps it', () => {
    const desk = attempt(lab, { update: `${mirror.config}packages = ["mayfly-desk"]` });
    expect(desk).toMatchObject({ code: 0 });
    const update = `${mirror.config}packages = ["mayfly-greedy"]`;
    const says = /^compared with generation \d+: no desktop is left of wayland-sessions\/desk\.desktop$/;
    refused(lab, A, { update, phase: 'check', says });
    // Without apt, which would not tell.
    const scripts = { 'refresh.d/rm': 'rm "$1/usr/share/wayland-sessions/desk.desktop"' };
    refused(lab, A, { scripts, phase: 'check', says });
    const few = `${mirror.config}max_removals = 0\npackages = ["mayfly-greedy"]`;
    refused(lab, A, { update: few, phase: 'check', says: /; 1 package is gone, .*is 0: mayfly-desk$/ });
    expect(attempt(lab, { update, options: ['--allow-removals'] })).toMatchObject({
      code: 0,
      err: expect.stringMatching(/no desktop is left/),
    });
  });
});

describe('a pool', () => {
  let pool: string;
  const LIMITS = '[admission]\nmin_free = "32M"\nmax_used_percent = 99\n';
  const update = 'keep = 3\nmax_used_percent = 99\n';
  const block = 4096;
  /** Leaves so many MiB free in the pool. */
  const leave = (mib: number): void => {
    const [blocks = 0, free = 0] = must('stat', ['-f', '-c', '%b %f', pool]).split(' ').map(Number);
    must('mount', ['-o', `remount,size=${(blocks - free) * block + mib * 2 ** 20}`, pool]);
  };
  const size = (): number =>
    Number(must('du', ['-s', '-B1', `${pool}/generations/1`]).split('\t')[0]) / 2 ** 20;

  beforeAll(() => {
    lab = quickLab('overlay', A);
    pool = `${lab.dir}/pool`;
  });
  afterAll(() => closeQuickLab(lab));

  it('with too little room for an update is not touched', () => {
    leave(size() * 2 + 8);
    const says = /^the pool ".*\/pool" has [\d.]+ [MG]iB left; an update needs [\d.]+ [MG]iB$/;
    refused(lab, A, { before: LIMITS, update, code: 4, phase: 'prepare', says });
  });

  it('that is filled by the refresh', () => {
    leave(size() * 2 + 64);
    const run = 'cat /dev/zero >/filled';
    refused(lab, A, { before: LIMITS, update, run, phase: 'refresh', says: /No space left on device$/ });
  });

  it('that is almost filled by the refresh', () => {
    leave(size() * 2 + 64);
    const run = `head -c ${Math.floor(size() + 48)}M /dev/zero >/filled`;
    const says = /^the update left only \d+ MiB in the pool ".*\/pool"$/;
    refused(lab, A, { before: LIMITS, update, run, code: 4, phase: 'compare', says });
  });

  it('that has no room for the sealed copy', () => {
    leave(size() * 2 + 64);
    const run = `head -c ${Math.floor(size() - 32)}M /dev/zero >/filled`;
    refused(lab, A, { before: LIMITS, update, run, phase: 'seal', says: /No space left on device/ });
  });

  it('gives up older generations for an update, but not all there is to go back to', () => {
    leave(size() * 5);
    const make = () => attempt(lab, { before: LIMITS, update });
    const numbers = (): number[] =>
      JSON.parse(lab.mayfly('generations', '--json').out).map((g: { number: number }) => g.number);
    for (let n = 0; n < 2; n++) {
      leave(size() * 3);
      expect(make()).toMatchObject({ code: 0 });
      loginWorks(lab, A); // else nobody has been in it, and what was before is kept
    }
    const [first = 0, second = 0, third = 0] = numbers();
    leave(size() * 2);
    expect(make()).toMatchObject({ code: 0 });
    loginWorks(lab, A);
    expect(numbers()).toEqual([second, third, third + 1]);
    expect(first).toBe(1);
    leave(8);
    const says = /^the pool ".*" has [\d.]+ [MG]iB left; an update needs [\d.]+ [MG]iB$/;
    const r = make();
    expect(r.err).toMatch(new RegExp(says.source.slice(1, -1)));
    expect(r).toMatchObject({ code: 4 });
    expect(numbers()).toEqual([third, third + 1]);
  });
});
