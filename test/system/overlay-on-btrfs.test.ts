/** A pool of overlays in a subvolume of btrfs, with a subvolume for the sessions: to keep them out of snapshots. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { forgetUsers, Lab, must, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-a';
let lab: Lab;
let before: unknown;

const place = (): string => `${lab.dir}/btrfs`;

beforeAll(() => {
  user(A);
  lab = new Lab();
  must('truncate', ['-s', '1G', `${lab.dir}/image`]);
  must('mkfs.btrfs', ['-q', `${lab.dir}/image`]);
  fs.mkdirSync(place());
  must('mount', ['-o', 'loop', `${lab.dir}/image`, place()]);
  const pool = `${place()}/pool`;
  must('btrfs', ['subvolume', 'create', pool]);
  lab.configure(`[pool]\npath = "${pool}"\n`);
  const tree = makeMiniTree(`${lab.dir}/tree`, ['perl', 'ln', 'rm', 'mkdir']);
  fs.mkdirSync(`${tree}/usr/share/old/deep`, { recursive: true });
  fs.writeFileSync(`${tree}/usr/share/old/deep/text`, 'image\n');
  expect(lab.mayfly('init', '--backend', 'overlay', '--from', tree, '--quiet')).toMatchObject({ code: 0 });
  must('mv', [`${pool}/sessions`, `${lab.dir}/sessions`]);
  must('btrfs', ['subvolume', 'create', `${pool}/sessions`]);
  must('cp', ['-aT', `${lab.dir}/sessions`, `${pool}/sessions`]);
  lab.hook('start', A); // makes what the first login since boot makes
  lab.hook('stop', A);
  before = lab.picture();
});
afterAll(() => {
  for (const s of lab.records()) lab.mayfly('end', s.id);
  expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
  must('umount', [place()]);
  lab.close();
  forgetUsers();
});

it('lets people read, change, move and remove what the generation has', () => {
  for (const _ of [1, 2]) {
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
    const change = `set -e; cat /usr/share/old/deep/text; echo session >>/usr/share/old/deep/text
      # As programs do it, and not mv, which copies where a directory cannot be renamed.
      perl -e 'rename("/usr/share/old", "/usr/share/new") or die "rename: $!"'
      ln /etc/nsswitch.conf /etc/second; rm /etc/nsswitch.conf; mkdir /usr/share/old
      cat /usr/share/new/deep/text`;
    expect(lab.rootInside(A, 'sh', '-c', change)).toMatchObject({ code: 0, out: 'image\nimage\nsession\n' });
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.picture()).toEqual(before);
  }
});
