/** A thin pool whose metadata fills up, which no free space in it helps. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { forgetUsers, Lab, must, sh, user } from '../../system/lab.ts';
import { makeMiniTree } from '../../system/mini.ts';
import { GROUP } from './bench.ts';
import { mapperName } from './devices.ts';
import { ground } from './ground.ts';

const A = 'mayfly-a';
const B = 'mayfly-b';
const POOL = '4G';
/** Small writes far apart: each takes a whole chunk of the pool, and so a place in its metadata. */
const SCATTER = `
my ($path, $from, $to) = @ARGV;
open(my $file, "+<", $path) or die "$path: $!";
for (my $i = $from; $i < $to; $i++) { sysseek($file, $i * 65536, 0); syswrite($file, "x" x 4096) or die "$i: $!" }
require IO::Handle;
IO::Handle::sync($file) or die "sync: $!";
`;

/** Numbers of thin devices that LVM does not know of: those of the lab, and those of one case. */
const FILL = { lab: 5000, case: 7000 };

beforeAll(() => {
  user(A);
  user(B);
});
afterAll(forgetUsers);

const on = ground(
  () => new Lab(),
  lab => {
    // The least LVM makes, of which the kernel keeps a tenth for itself and counts it as used. Ours by its tag.
    const own = ['--chunksize', '64k', '--poolmetadatasize', '4M', '--errorwhenfull', 'y', '-Zn'];
    const tag = ['--addtag', `mayfly:${lab.lvmName}:pool`];
    must('lvcreate', ['-q', '-T', '-n', lab.lvmName, '-L', POOL, ...own, ...tag, GROUP]);
    // Of so small a one LVM itself makes nothing more above 75 %.
    const limits = 'warn_percent = 60\nmax_used_percent = 65';
    const names = `group = "${GROUP}"\nname = "${lab.lvmName}"\nvolume_size = "${POOL}"`;
    lab.configure(`[hook]\ntimeout = 1200\n[lvm]\n${names}\n${limits}\n`);
    const from = makeMiniTree(`${lab.dir}/tree`);
    expect(lab.mayfly('init', '--backend', 'lvm-thin', '--from', from, '--quiet')).toMatchObject({ code: 0 });
    expect(lab.hook('start', A)).toMatchObject({ code: 0 });
    expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
    fillTo(lab, 60, FILL.lab);
  },
  lab => {
    lab.hook('stop', A);
    lab.hook('stop', B, ':1');
  },
);
const pool = (lab: Lab): string => `${GROUP}/${lab.lvmName}`;
const metadata = (lab: Lab): number =>
  Number(must('lvs', ['--noheadings', '-o', 'metadata_percent', pool(lab)]).trim());
const scatter = (lab: Lab, from: number, to: number) =>
  sh('perl', ['-e', SCATTER, `${lab.session(A)?.root}/var/big`, String(from), String(to)]);

/**
 * Thin devices that LVM does not know of, of which each takes a block of metadata and nothing else: as many as fill it
 * to so many percent. Returns how many there are from `first` on.
 */
function fillTo(lab: Lab, percent: number, first: number): number {
  let count = 0;
  for (; metadata(lab) < percent; count += 20) devices(lab, 'create_thin', first + count, 20);
  return count;
}

function devices(lab: Lab, message: 'create_thin' | 'delete', first: number, count: number): void {
  const target = `${mapperName(pool(lab))}-tpool`;
  const loop =
    'i=0; while [ $i -lt $4 ]; do dmsetup message "$1" 0 "$2 $(($3 + i))" || exit; i=$((i+1)); done';
  must('sh', ['-c', loop, 'sh', target, message, String(first), String(count)]);
}

it('refuses new logins while it is nearly full, says of what, and is healed by the end of that session', () => {
  const { lab } = on;
  expect(lab.hook('start', A).err).toBe('');
  must('fallocate', ['-l', '3G', `${lab.session(A)?.root}/var/big`]);
  for (let done = 0; metadata(lab) <= 65; done += 2_000)
    expect(scatter(lab, done, done + 2_000)).toMatchObject({ code: 0 });
  const refused = lab.hook('start', B, ':1');
  expect(refused.code).toBe(4);
  expect(refused.err).toMatch(
    /the metadata of the pool ".*" is 6\d % full; the limit for new logins is 65 %/,
  );
  expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
  expect(metadata(lab)).toBeLessThan(65);
  expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0, err: '' });
  expect(lab.hook('stop', B, ':1')).toMatchObject({ code: 0, err: '' });
});

it('full to the brim it needs a check: that is said with the commands to type, and they fix it', () => {
  const { lab } = on;
  expect(lab.hook('start', A).err).toBe('');
  must('fallocate', ['-l', '3G', `${lab.session(A)?.root}/var/big`]);
  const count = fillTo(lab, 96, FILL.case);
  let done = 0;
  while (done < 48_000 && scatter(lab, done, done + 2_000).code === 0) done += 2_000;
  const refused = lab.hook('start', B, ':1');
  expect(refused.code).not.toBe(0);
  expect(refused.err).toMatch(/thin pool "vg-test\/lab-\w+" (needs a check|has failed)/);
  const hint = /^hint: (.*)$/m.exec(refused.err)?.[1] ?? '';
  expect(hint).toMatch(/^end all sessions, then "lvchange -an .*" and "lvconvert --repair .*"$/);
  expect(lab.mayfly('status').out).toMatch(/needs a check|has failed/);
  // A failed pool lets nothing be removed; recovery does it once it is repaired.
  expect(lab.hook('stop', A).code).not.toBe(0);
  const typed = [...hint.matchAll(/"([^"]*)"/g)].map(m => m[1]?.split(' ') ?? []);
  for (const [file = '', ...args] of typed) expect(sh(file, args).code).toBe(0);
  expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
  devices(lab, 'delete', FILL.case, count);
  expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  expect(lab.inside(A, 'sh', '-c', 'echo works').out).toBe('works\n');
  expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
  expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0, err: '' }); // who was refused
  must('lvremove', ['-q', '-y', `${GROUP}/${lab.lvmName}_meta0`]); // what a repair keeps of the old metadata
});
