/**
 * Full to the brim, in each way in which it can be: a login is refused with the reason, and whatever takes something away
 * works as it stands: a logout, `mayfly end`, `mayfly recover`.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BackendKind } from '../../src/volume/backend.ts';
import { forgetUsers, Lab, must, type Ran, sh, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const [A, B, C, D, E] = ['mayfly-full-a', 'mayfly-full-b', 'mayfly-full-c', 'mayfly-full-d', 'mayfly-full-e'];
type Area = 'state' | 'run' | 'pool';

/** To the last block, which a file made by large writes alone would leave. */
function fillBlocks(path: string, run: (...argv: string[]) => Ran = (file, ...args) => sh(file, args)): void {
  for (const size of ['1M', '4k', '1k']) {
    const how = [`bs=${size}`, 'oflag=append', 'conv=notrunc', 'status=none'];
    expect(run('dd', 'if=/dev/zero', `of=${path}`, ...how).err).toMatch(/No space left|Input\/output error/);
  }
}

/** Creates files of so many bytes until nothing can be created. */
function fillNames(directory: string, bytes: number): void {
  const program =
    'my ($at, $bytes, $n, $failed) = (@ARGV, 0, 0); while ($failed < 3) { my $d = "$at/" . int($n / 1000); mkdir $d;' +
    ' my $f; open($f, ">", "$d/$n") && (!$bytes || (syswrite($f, "x" x $bytes) // 0) == $bytes) && close($f) ? $n++ : $failed++ } print $n';
  fs.mkdirSync(directory, { recursive: true });
  expect(Number(must('timeout', ['300', 'perl', '-e', program, directory, String(bytes)]))).toBeGreaterThan(
    100,
  );
}

interface Way {
  readonly what: string;
  readonly backend: BackendKind;
  /** The file systems, by area: that of mount(8) with its options, or a size and what to make of it. */
  readonly on: Partial<Record<Area, string>>;
  /** `session` is the tree of the person who fills it. */
  readonly fill: (lab: Lab, session: string) => void;
  /** What stands in the way after everybody has left. */
  readonly rest?: Area;
  /** Undefined if logins go on. */
  readonly refused?: RegExp;
}

const filler = (lab: Lab, area: Area): string => `${lab.dir}/${area}/.filler`;

const WAYS: readonly Way[] = [
  {
    ...{ what: 'overlay: blocks', backend: 'overlay', on: { pool: '96M ext4' } },
    fill: (_, session) => fillBlocks(`${session}/var/big`),
    refused: /100 % full/,
  },
  {
    ...{
      what: 'overlay: all blocks but those that are kept for root',
      backend: 'overlay',
      on: { pool: '96M ext4' },
    },
    fill: lab => fillBlocks('/home-of-e/big', (...argv) => lab.inside(E, ...argv)),
    refused: /100 % full/,
  },
  {
    ...{ what: 'overlay: inodes', backend: 'overlay', on: { pool: '96M ext4' } },
    fill: (_, session) => fillNames(`${session}/var/many`, 0),
    refused: /100 % of its inodes/,
  },
  {
    ...{ what: 'btrfs: data', backend: 'btrfs', on: { pool: '256M btrfs' } },
    fill: (_, session) => fillBlocks(`${session}/var/big`),
    refused: /9\d % full|100 % full/,
  },
  {
    ...{ what: 'btrfs: metadata', backend: 'btrfs', on: { pool: '256M btrfs' } },
    fill: (_, session) => fillNames(`${session}/var/many`, 1900),
    refused: /the metadata of .* full/,
  },
  {
    ...{ what: '/run: blocks', backend: 'overlay', on: { run: 'tmpfs size=2M' } },
    fill: lab => fillBlocks(filler(lab, 'run')),
    ...{ rest: 'run', refused: /no space left in ".*\/run"/ },
  },
  {
    ...{ what: '/run: inodes', backend: 'overlay', on: { run: 'tmpfs size=8M,nr_inodes=400' } },
    fill: lab => fillNames(filler(lab, 'run'), 0),
    ...{ rest: 'run', refused: /no inodes left in ".*\/run"/ },
  },
  {
    ...{ what: 'the state: blocks', backend: 'overlay', on: { state: 'tmpfs size=2M' } },
    fill: lab => fillBlocks(filler(lab, 'state')),
    rest: 'state', // a login writes nothing there
  },
  {
    ...{ what: 'the state: inodes', backend: 'overlay', on: { state: 'tmpfs size=8M,nr_inodes=400' } },
    fill: lab => fillNames(filler(lab, 'state'), 0),
    rest: 'state',
  },
];

beforeAll(() => {
  for (const name of [A, B, C, D, E]) user(name);
});
afterAll(forgetUsers);

/** Without what is kept for the administrator: who was refused. */
function picture(lab: Lab): Record<string, unknown> {
  const { run, ...rest } = lab.picture();
  return { ...rest, run: (run as string[]).filter(path => path !== '/run/refused.json') };
}

/** A lab whose areas are on file systems of their own. */
function openLab(backend: BackendKind, on: Way['on']): Lab {
  const lab = new Lab({ imageSize: '1G' });
  for (const area of ['state', 'run', 'pool'] as const) fs.mkdirSync(`${lab.dir}/${area}`);
  for (const [area, kind] of Object.entries(on)) {
    const [first = '', second = ''] = kind.split(' ');
    const at = `${lab.dir}/${area}`;
    if (first === 'tmpfs') must('mount', ['-t', 'tmpfs', '-o', `${second},mode=0755`, 'mayfly-test', at]);
    else {
      must('truncate', ['-s', first, `${at}.image`]);
      must(`mkfs.${second}`, ['-q', `${at}.image`]);
      must('mount', ['-o', second === 'btrfs' ? 'loop,commit=1' : 'loop', `${at}.image`, at]);
      if (second === 'ext4') fs.rmdirSync(`${at}/lost+found`);
    }
  }
  lab.configure('[hook]\ntimeout = 120\n[admission]\nmin_free = "1M"\n');
  const from = makeMiniTree(`${lab.dir}/tree`, ['dd']);
  expect(lab.mayfly('init', '--backend', backend, '--from', from, '--quiet')).toMatchObject({ code: 0 });
  return lab;
}

function closeLab(lab: Lab, on: Way['on'], rest?: Area): void {
  if (rest) fs.rmSync(filler(lab, rest), { recursive: true, force: true });
  for (const s of lab.records()) lab.mayfly('end', s.id);
  lab.mayfly('recover');
  expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
  for (const area of Object.keys(on)) must('umount', [`${lab.dir}/${area}`]);
  lab.close();
}

describe.each(WAYS)('$what is full', ({ backend, on, fill, rest, refused }) => {
  let lab: Lab;
  beforeAll(() => {
    lab = openLab(backend, on);
  });
  afterAll(() => closeLab(lab, on, rest));

  it('a login is refused in words, or needs no room there; a logout, end and recover work', () => {
    const all = [A, B, D, E];
    for (const [n, name] of all.entries())
      expect(lab.hook('start', name, `:${n}`), name).toMatchObject({ code: 0 });
    for (const [n, name] of all.entries())
      expect(lab.hook('stop', name, `:${n}`), name).toMatchObject({ code: 0 });
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    const before = picture(lab);

    for (const [n, name] of all.entries())
      expect(lab.hook('start', name, `:${n}`), name).toMatchObject({ code: 0 });
    for (const name of all) lab.linger(name, false, 'sleep 100000');
    const { root = '' } = lab.session(E) ?? {};
    must('install', ['-d', '-o', E, `${root}/home-of-e`]);
    fill(lab, root);
    sh('sync', ['-f', `${lab.dir}/pool`]);
    const login = lab.hook('start', C, ':7');
    if (refused) {
      expect(login.code).not.toBe(0);
      expect(login.err).toMatch(refused);
      expect(lab.session(C)).toBeUndefined();
    } else {
      expect(login).toMatchObject({ code: 0, err: '' });
      expect(lab.hook('stop', C, ':7')).toMatchObject({ code: 0, err: '' });
    }
    expect(lab.mayfly('status')).toMatchObject({ code: 0 });

    const out = lab.hook('stop', A, ':0');
    expect(out.code, out.err).toBe(0);
    // Without room for its record it says so, and goes on.
    expect(out.err.split('\n').filter(line => line && !line.includes('cannot write the record'))).toEqual([]);
    expect(lab.session(A)).toBeUndefined();
    expect(lab.mayfly('end', B, '--quiet')).toMatchObject({ code: 0 });
    expect(lab.session(B)).toBeUndefined();
    // Of another boot: what recover ends. In place, because there is no room for another file.
    const d = lab.session(D);
    const record = `${lab.dir}/run/sessions/${d?.id}.json`;
    const text = fs
      .readFileSync(record, 'utf8')
      .replace(d?.boot ?? '', (d?.boot ?? '').replaceAll(/[0-9a-f]/g, '0'));
    const file = fs.openSync(record, 'r+');
    fs.writeSync(file, text, 0);
    fs.closeSync(file);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(lab.session(D)).toBeUndefined();
    expect(lab.hook('stop', E, ':3')).toMatchObject({ code: 0 });
    expect(lab.records()).toEqual([]);

    if (rest) fs.rmSync(filler(lab, rest), { recursive: true });
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    // btrfs frees the space of what was deleted later.
    if (on.pool?.endsWith('btrfs')) {
      must('btrfs', ['subvolume', 'sync', `${lab.dir}/pool`]);
      must('sync', ['-f', `${lab.dir}/pool`]);
    }
    expect(lab.hook('start', C, ':7')).toMatchObject({ code: 0 });
    expect(lab.hook('stop', C, ':7')).toMatchObject({ code: 0 });
    expect(picture(lab)).toEqual(before);
  });
});

describe('btrfs in an image whose disk is full becomes read-only', () => {
  const on = { state: '1G ext4' };
  let lab: Lab;
  beforeAll(() => {
    lab = openLab('btrfs', on);
  });
  afterAll(() => closeLab(lab, on, 'state'));

  it('that is said, and recover leads out of it once there is room and nobody is in it', () => {
    for (const [n, name] of [A, B].entries())
      expect(lab.hook('start', name, `:${n}`)).toMatchObject({ code: 0 });
    const big = `${lab.session(A)?.root}/var/big`;
    fillBlocks(filler(lab, 'state'));
    sh('dd', ['if=/dev/zero', `of=${big}`, 'bs=1M', 'count=300', 'status=none']);
    sh('sync', ['-f', `${lab.dir}/pool`]);
    const login = lab.hook('start', C, ':7');
    expect(login.code).not.toBe(0);
    expect(login.err).toMatch(/full|left|i\/o error|read-only/i);
    const words = /the file system of the pool ".*" has become read-only/;
    expect(lab.mayfly('doctor').out).toMatch(words);
    expect(lab.mayfly('status').out).toMatch(words);
    // It cannot be taken away now, but it is known that it is over.
    expect(lab.hook('stop', A, ':0').code).not.toBe(0);
    expect(lab.session(A)?.state).toBe('ending');
    fs.rmSync(filler(lab, 'state'));
    expect(lab.inside(B, 'true').code).not.toBe(0);
    expect(lab.hook('stop', B, ':1').code).not.toBe(0);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(lab.records()).toEqual([]);
    expect(lab.mayfly('doctor').out).not.toMatch(words);
    expect(lab.hook('start', A, ':0')).toMatchObject({ code: 0 });
    expect(lab.hook('stop', A, ':0')).toMatchObject({ code: 0 });
  });
});
