/** The program that changes owners, run for real as root on a tree of its own. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Command } from '../../src/linux/command.ts';
import {
  applyOwnersCommand,
  changeOwnersCommand,
  type NumberMoves,
  parseSurvey,
  planOwnersCommand,
  surveyCommand,
} from '../../src/linux/ownership.ts';

/** An ACL: rwx for the owner, r for a user and a group, a mask. */
function acl(user: number, group: number): string {
  const entry = (tag: number, permissions: number, id = 0xffffffff): Buffer => {
    const b = Buffer.alloc(8);
    b.writeUInt16LE(tag, 0);
    b.writeUInt16LE(permissions, 2);
    b.writeUInt32LE(id, 4);
    return b;
  };
  const all = [entry(1, 7), entry(2, 4, user), entry(4, 5), entry(8, 4, group), entry(16, 5), entry(32, 0)];
  return Buffer.concat([Buffer.from([2, 0, 0, 0]), ...all]).toString('hex');
}

/** cap_net_raw=ep, as setcap(8) writes it. */
const CAPABILITY = '0100000200200000000000000000000000000000';

const moves = (users: [number, number][], groups: [number, number][]): NumberMoves => ({
  users: new Map(users),
  groups: new Map(groups),
});

const none = moves([], []);

describe.skipIf(process.getuid?.() !== 0)('owners of a tree', () => {
  let tree = '';
  let base = '';

  beforeEach(() => {
    base = fs.mkdtempSync(`${tmpdir()}/mayfly-ownership-`);
    tree = `${base}/tree`;
    fs.mkdirSync(tree);
  });
  afterEach(() => fs.rmSync(base, { recursive: true }));

  function run(c: Command, wrap: readonly string[] = [], input?: Buffer) {
    const argv = [...wrap, c.file, ...c.args];
    const out = spawnSync(argv[0] ?? '', argv.slice(1), input ? { input } : {});
    return { code: out.status, out: out.stdout.toString('latin1'), err: out.stderr.toString() };
  }
  function must(c: Command, wrap?: readonly string[]): string {
    const { code, out, err } = run(c, wrap);
    if (code !== 0) throw new Error(err);
    return out;
  }
  const change = (m: NumberMoves): void => {
    must(planOwnersCommand(tree, `${base}/plan`, m));
    must(applyOwnersCommand(tree, `${base}/plan`));
  };
  /** Sets everything of a file, by the same way. */
  const make = (path: string, uid: number, gid: number, mode: number, more = '- - -'): void => {
    if (path.endsWith('/')) fs.mkdirSync(`${tree}/${path}`);
    else fs.writeFileSync(`${tree}/${path}`, '');
    const input = Buffer.from(`${uid} ${gid} ${mode} ${more} ${path.replace(/\/$/, '')}\0`, 'latin1');
    const { code, err } = run(applyOwnersCommand(tree, '-'), [], input);
    expect([code, err]).toEqual([0, '']);
  };
  const owners = (path: string): string => {
    const s = fs.lstatSync(`${tree}/${path}`);
    return `${s.uid}:${s.gid} ${(s.mode & 0o7777).toString(8)}`;
  };
  /** Capability and ACLs, and everything else, as a plan that changes nothing would keep them. */
  const kept = (path: string): string => {
    const s = fs.lstatSync(`${tree}/${path}`);
    const all = must(planOwnersCommand(tree, '-', moves([[s.uid, 4000]], [])));
    return all.split('\0').find(line => line.endsWith(` ${path}`)) ?? '';
  };

  it('exchanges two numbers in one pass, of users as of groups', () => {
    make('a', 100, 7702, 0o640);
    make('b', 101, 7703, 0o640);
    change(moves([[100, 101], [101, 100]], [[7702, 7703], [7703, 7702]])); // biome-ignore format: a table
    expect([owners('a'), owners('b')]).toEqual(['101:7703 640', '100:7702 640']);
  });

  it('keeps set-id bits, the sticky bit, capabilities and times', () => {
    make('suid', 100, 7702, 0o6755);
    make('cap', 100, 7702, 0o750, `${CAPABILITY} - -`);
    make('dir/', 100, 7702, 0o3775);
    fs.utimesSync(`${tree}/suid`, 1000, 2000);
    change(moves([], [[7702, 500]]));
    expect(['suid', 'cap', 'dir'].map(owners)).toEqual(['100:500 6755', '100:500 750', '100:500 3775']);
    expect(fs.statSync(`${tree}/suid`).mtimeMs).toBe(2_000_000);
    expect(kept('cap')).toBe(`4000 500 488 ${CAPABILITY} - - cap`);
  });

  it('changes the numbers in ACLs, also of files of root and in default ACLs', () => {
    make('file', 0, 0, 0o750, `- ${acl(1005, 7702)} -`);
    make('dir/', 0, 0, 0o750, `- ${acl(1005, 7702)} ${acl(1006, 7703)}`);
    change(moves([[1005, 2005]], [[7702, 500], [7703, 7702]])); // biome-ignore format: a table
    // The number of a user is none of a group.
    expect(must(planOwnersCommand(tree, '-', moves([[2005, 1]], [[7702, 1]]))).split('\0')).toEqual(
      expect.arrayContaining([
        `0 0 488 - ${acl(1, 500)} - file`,
        `0 0 488 - ${acl(1, 500)} ${acl(1006, 1)} dir`,
      ]),
    );
  });

  it('follows no symlink, changes hard links once, and takes any name', () => {
    make('one', 100, 0, 0o600);
    fs.linkSync(`${tree}/one`, `${tree}/two`);
    fs.writeFileSync(`${base}/outside`, '');
    fs.chownSync(`${base}/outside`, 100, 100);
    fs.symlinkSync(`${base}/outside`, `${tree}/link`);
    fs.lchownSync(`${tree}/link`, 100, 100);
    fs.symlinkSync(base, `${tree}/away`);
    const strange = Buffer.concat([Buffer.from(`${tree}/a\n b `), Buffer.from([0xff])]);
    fs.writeFileSync(strange, '');
    fs.chownSync(strange, 100, 100);
    spawnSync('mkfifo', [`${tree}/fifo`]);
    fs.chownSync(`${tree}/fifo`, 100, 100);
    fs.chownSync(tree, 100, 100);
    change(moves([[100, 101], [101, 102]], [[100, 101], [101, 102]])); // biome-ignore format: a table
    expect(['one', 'two', 'link', 'fifo', '.'].map(p => owners(p).split(' ')[0])).toEqual([
      '101:0',
      '101:0',
      '101:101',
      '101:101',
      '101:101',
    ]);
    expect(fs.lstatSync(strange).uid).toBe(101);
    expect(fs.lstatSync(`${base}/outside`).uid).toBe(100);
  });

  it('leaves alone what is mounted in the tree', () => {
    fs.mkdirSync(`${base}/host/below`, { recursive: true });
    make('mount/', 100, 0, 0o755);
    make('file', 0, 0, 0o644);
    for (const path of ['host', 'host/below']) fs.chownSync(`${base}/${path}`, 100, 100);
    fs.writeFileSync(`${base}/host/bound`, '');
    fs.chownSync(`${base}/host/bound`, 100, 100);
    const mounts = `mount --bind ${base}/host ${tree}/mount && mount --bind ${base}/host/bound ${tree}/file`;
    const wrap = ['unshare', '--mount', '--', 'sh', '-c', `${mounts} && exec "$@"`, 'sh'];
    must(planOwnersCommand(tree, `${base}/plan`, moves([[100, 101]], [[100, 101]])), wrap);
    must(applyOwnersCommand(tree, `${base}/plan`), wrap);
    expect(['host', 'host/below', 'host/bound'].map(p => fs.lstatSync(`${base}/${p}`).uid)).toEqual([
      100, 100, 100,
    ]);
  });

  it('can be repeated after it was cut anywhere', () => {
    for (const i of [1, 2, 3, 4]) make(`f${i}`, 100 + (i % 2), 7702, 0o4755, `${CAPABILITY} - -`);
    const swap = moves([[100, 101], [101, 100]], []); // biome-ignore format: a table
    must(planOwnersCommand(tree, `${base}/plan`, swap));
    const whole = fs.readFileSync(`${base}/plan`);
    const records = whole.toString('latin1').split('\0');
    const half = Buffer.from(`${records.slice(0, 2).join('\0')}\0`, 'latin1');
    expect(run(applyOwnersCommand(tree, '-'), [], half).code).toBe(0);
    fs.chownSync(`${tree}/f4`, 100, 7702); // clears the rest, as a cut after the first of its calls
    must(applyOwnersCommand(tree, `${base}/plan`));
    expect(['f1', 'f2', 'f3', 'f4'].map(owners)).toEqual([100, 101, 100, 101].map(uid => `${uid}:7702 4755`));
    expect(kept('f4').split(' ')[3]).toBe(CAPABILITY);
  });

  it('lists what is not of root alone, and a list is enough to change it', () => {
    make('root', 0, 0, 0o600);
    make('acl', 0, 0, 0o750, `- ${acl(1005, 7702)} -`);
    make('dir/', 0, 7703, 0o750);
    make('dir/theirs', 100, 0, 0o600);
    fs.symlinkSync('dir', `${tree}/link`);
    fs.lchownSync(`${tree}/link`, 100, 7702);
    const list = `${base}/list`;
    const numbers = parseSurvey(must(surveyCommand(tree, list)));
    const sorted = (all: readonly number[]): number[] => [...all].sort((a, b) => a - b);
    expect([sorted(numbers.users), sorted(numbers.groups)]).toEqual([[0, 100, 1005], [0, 7702, 7703]]); // biome-ignore format: a table
    expect(fs.readFileSync(list, 'utf8').split('\0').sort()).toEqual([
      '',
      'acl',
      'dir',
      'dir/theirs',
      'link',
    ]);
    fs.writeFileSync(`${tree}/dir/new`, ''); // is in no list
    fs.chownSync(`${tree}/dir/new`, 100, 0);
    const { args, pipeFrom } = changeOwnersCommand(tree, moves([[100, 300]], [[7702, 301]]), list);
    const planned = run({ ...(pipeFrom ?? { file: '', args: [] }), effect: 'read' });
    expect(run({ file: 'perl', args, effect: 'write' }, [], Buffer.from(planned.out, 'latin1')).code).toBe(0);
    expect(['dir/theirs', 'link', 'dir/new', 'dir'].map(p => owners(p).split(' ')[0])).toEqual([
      '300:0',
      '300:301',
      '100:0',
      '0:7703',
    ]);
    expect(parseSurvey(must(surveyCommand(tree, list))).groups.sort()).toEqual([0, 301, 7703]);
  });

  it('fails with the path if a file cannot be changed, and plans nothing if nothing has these numbers', () => {
    make('file', 0, 0, 0o644);
    expect(must(planOwnersCommand(tree, '-', none))).toBe('');
    expect(run(applyOwnersCommand(tree, '-'), [], Buffer.from('1 1 420 - - - gone\0'))).toMatchObject({
      code: 1,
      err: `cannot open ${tree}/gone: No such file or directory\n`,
    });
    const unsafe = run(applyOwnersCommand(tree, '-'), [], Buffer.from('1 1 420 - - - ../tree/file\0'));
    expect([unsafe.err, owners('file')]).toEqual(['', '0:0 644']); // like what is mounted: not in the tree
  });
});
