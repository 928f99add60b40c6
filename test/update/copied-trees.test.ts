/** Copies of a generation's tree by cp(1) and tar(1), with real files: what is known again, and what is not. */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import type { Machine } from '../../src/state/machine.ts';
import { markOf, type Seal } from '../../src/state/seals.ts';
import { countTree, parseTreeContent } from '../../src/update/tree-content.ts';
import { compareWithSeal, type SealedTree } from '../../src/update/unrecorded.ts';
import { generationOf } from '../../src/volume/backend.ts';
import { protectLayout } from '../../src/volume/directory-layout.ts';
import { overlayBackend } from '../../src/volume/overlay.ts';
import { MARK, readMarkIn, readSealTexts, writeMarkIn } from '../../src/volume/seal-files.ts';

const host = realHost();
const backend = overlayBackend(host);
const on = { host, backend: () => backend, log: () => undefined, lockFds: [] } as unknown as Machine;
const isRoot = process.getuid?.() === 0;

let dir: string;
let tree: string;

const run = (file: string, ...args: string[]): number | null => spawnSync(file, args).status;
const volume = () => generationOf({ backend: 'overlay', path: `${dir}/pool` }, 2);

beforeEach(() => {
  dir = fs.mkdtempSync(`${tmpdir()}/mayfly-copies-`);
  tree = `${dir}/pool/generations/2`;
  for (const path of [`${tree}/etc`, `${tree}/usr/bin`, `${dir}/pool/master`, `${dir}/pool/sessions`])
    fs.mkdirSync(path, { recursive: true });
  fs.writeFileSync(`${dir}/pool/.mayfly-pool`, 'x');
  fs.symlinkSync('/usr/share/zoneinfo/UTC', `${tree}/etc/localtime`);
  fs.symlinkSync('../usr/bin', `${tree}/etc/up`);
  fs.writeFileSync(`${tree}/etc/passwd`, 'root');
  fs.writeFileSync(`${tree}/usr/bin/su`, 'x');
  fs.chownSync(`${tree}/usr/bin/su`, 0, 29);
  fs.chmodSync(`${tree}/usr/bin/su`, 0o4755);
  fs.writeFileSync(`${tree}/${MARK}`, markOf(2, 'ab12'));
});
afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

/** The seal of the tree as it is now; then the pool is put aside, so that a copy can take its place. */
async function sealed(): Promise<Seal> {
  const own = { number: 2, id: 'ab12', marked: true, created: '2026-01-01T00:00:00.000Z', origin: 'x' };
  const identity = (await backend.identity(volume())) ?? '';
  const seal = { ...own, proven: true, identity, content: await countTree(host, tree) };
  expect(await compareWithSeal(on, volume(), seal)).toBe('sealed');
  fs.renameSync(`${dir}/pool`, `${dir}/old`);
  return seal;
}

const compare = (seal: Seal): Promise<SealedTree> => compareWithSeal(on, volume(), seal);

describe.runIf(isRoot)('a copy', () => {
  it('by tar that was killed is not complete: absolute symlinks are empty files until its end', async () => {
    fs.writeFileSync(`${dir}/pool/master/big`, Buffer.alloc(2 ** 20));
    run('tar', '--sort=name', '-cf', `${dir}/p.tar`, '-C', dir, 'pool/generations', 'pool/master');
    const seal = await sealed();
    const tar = spawn('tar', ['-xpf', '-', '-C', dir], { stdio: ['pipe', 'ignore', 'ignore'] });
    tar.stdin?.write(fs.readFileSync(`${dir}/p.tar`).subarray(0, -(2 ** 19))); // and no end
    const big = `${dir}/pool/master/big`;
    await vi.waitUntil(() => fs.existsSync(big) && fs.statSync(big).size > 2 ** 18, { timeout: 60_000 });
    tar.kill('SIGKILL');
    expect(fs.lstatSync(`${tree}/etc/localtime`).isFile()).toBe(true);
    expect(await compare(seal)).toBe('incomplete');
  });
  it.each([
    ['cp -r, which loses owners and set-user-ID bits', ['cp', '-r'], []],
    ['cp -a and chown', ['cp', '-a'], ['chown', '-hR', '1000:1000']],
  ])('by %s is not known', async (_, [file = '', ...options], [then, ...words]) => {
    const seal = await sealed();
    run(file, ...options, `${dir}/old`, `${dir}/pool`);
    if (then !== undefined) run(then, ...words, tree);
    expect(await compare(seal)).toBe('incomplete');
  });
  it('by tar is known, although tar leaves sockets out', async () => {
    const bind = 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un($ARGV[0])) or die';
    run('perl', '-e', bind, `${tree}/etc/socket`);
    expect(fs.lstatSync(`${tree}/etc/socket`).isSocket()).toBe(true);
    const seal = await sealed();
    fs.mkdirSync(`${dir}/pool`);
    run('sh', '-c', 'tar -C "$1/old" -cf - . | tar -C "$1/pool" -xpf -', 'sh', dir);
    expect(fs.existsSync(`${tree}/etc/socket`)).toBe(false);
    expect(await compare(seal)).toBe('moved');
  });
  it('by cp -a is known with names of several lines, hard links, sparse files, fifos and devices', async () => {
    fs.writeFileSync(`${tree}/etc/a\nb\n`, 'x');
    fs.linkSync(`${tree}/etc/passwd`, `${tree}/etc/hard`);
    run('truncate', '-s', '5M', `${tree}/etc/sparse`);
    run('mkfifo', `${tree}/etc/fifo`);
    run('mknod', `${tree}/etc/device`, 'c', '1', '3');
    const seal = await sealed();
    run('cp', '-a', `${dir}/old`, `${dir}/pool`);
    expect(await compare(seal)).toBe('moved');
  });
});

it.each([
  ['', { entries: 0, bytes: 0, owners: 0, modes: 0 }],
  ['0 0 0 755\n12 0 0 644\n', { entries: 2, bytes: 12, owners: 0, modes: 0o755 + 0o644 }],
  ['3 1000 29 4755\n', { entries: 1, bytes: 3, owners: 1029, modes: 0o4755 }],
])('the lines %j add up', (text, sums) => expect(parseTreeContent(text)).toEqual(sums));

describe('what was put there by hand', () => {
  it('as a mark is none, and is waited for by nobody', () => {
    const mark = `${tree}/${MARK}`;
    for (const make of [
      () => fs.mkdirSync(mark),
      () => run('mkfifo', mark),
      () => fs.symlinkSync('/dev/zero', mark),
    ]) {
      fs.rmSync(mark, { recursive: true });
      make();
      expect(readMarkIn(host, tree)).toBeUndefined();
    }
  });
  it('as a seal is damaged: a fifo, a link, and a file of a gigabyte', () => {
    fs.mkdirSync(`${dir}/pool/seals`);
    run('mkfifo', `${dir}/pool/seals/1.json`);
    fs.symlinkSync('/dev/zero', `${dir}/pool/seals/2.json`);
    run('truncate', '-s', '1G', `${dir}/pool/seals/3.json`);
    const found = readSealTexts(host, `${dir}/pool`);
    expect([...found].sort()).toEqual([1, 2, 3].map(n => [n, '']));
  });
  it('a directory with the name of the mark is put aside', () => {
    fs.rmSync(`${tree}/${MARK}`);
    fs.mkdirSync(`${tree}/${MARK}`);
    writeMarkIn(host, tree, undefined);
    writeMarkIn(host, tree, '3 cd\n');
    expect([readMarkIn(host, tree), fs.existsSync(`${tree}/${MARK}.kept`)]).toEqual(['3 cd\n', true]);
  });
  it.runIf(isRoot)('a pool without a directory of seals, or with a file in its place, is opened', () => {
    protectLayout(host, `${dir}/pool`);
    fs.writeFileSync(`${dir}/pool/seals`, '');
    protectLayout(host, `${dir}/pool`);
    expect([...readSealTexts(host, `${dir}/pool`)]).toEqual([]);
  });
});
