/** Subvolumes and mounts in the source of the first tree: nothing of the tree is lost, and what is left out is named. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Command } from '../../src/linux/command.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { fillTree } from '../../src/update/source.ts';
import { must, sh } from '../system/lab.ts';
import { World } from '../world.ts';

/** `mayfly init` without options. */
const HOW = { config: new World().machine().config, list: `${tmpdir()}/mayfly-not-copied` };

const lacks = process.getuid?.() !== 0 || sh('mkfs.btrfs', ['--version']).code !== 0;
const place = mkdtempSync(`${tmpdir()}/mayfly-source-`);
const disk = `${place}/disk`;

const btrfs = (...args: readonly string[]): unknown => must('btrfs', args);

describe.skipIf(lacks)('a directory as the source', () => {
  const source = `${disk}/a tree`;
  const mounted: string[] = [];
  beforeAll(() => {
    mkdirSync(disk);
    must('truncate', ['-s', '256M', `${place}/image`]);
    must('mkfs.btrfs', ['-q', `${place}/image`]);
    for (const args of [['-o', 'loop', `${place}/image`, disk]]) must('mount', args);
    mounted.push(disk);
    btrfs('subvolume', 'create', source);
    for (const path of ['etc', 'mnt/usb', 'mnt/usb/x']) mkdirSync(`${source}/${path}`, { recursive: true });
    writeFileSync(`${source}/etc/file`, 'top');
    for (const path of ['data', 'data/deep', 'data/plain']) {
      if (path === 'data/plain') mkdirSync(`${source}/${path}`);
      else btrfs('subvolume', 'create', `${source}/${path}`);
      writeFileSync(`${source}/${path}/file`, path, { mode: 0o640 });
    }
    must('mount', ['-t', 'tmpfs', 'tmpfs', `${source}/mnt/usb`]);
    mounted.push(`${source}/mnt/usb`);
    writeFileSync(`${source}/mnt/usb/foreign`, '');
    symlinkSync(source, `${place}/link`);
  });
  afterAll(() => {
    for (const at of mounted.reverse()) must('umount', [at]);
  });

  it('is refused if the name of a subvolume is not valid UTF-8, because its files would be left behind', async () => {
    const odd = 'odd="$1/b$(printf "\\374")cher"; btrfs -q subvolume';
    must('sh', ['-c', `${odd} create "$odd" && touch "$odd/file"`, 'sh', source]);
    const tree = mkdtempSync(`${place}/to-`);
    const from = { ...HOW, source: { kind: 'directory', path: source }, say: () => undefined } as const;
    const error = await fillTree(realHost(), tree, from, []).catch((e: unknown) => e);
    must('sh', ['-c', `${odd} delete "$odd"`, 'sh', source]);
    rmSync(tree, { recursive: true });
    expect(error).toMatchObject({
      code: 'refused',
      message: expect.stringContaining('b\ufffdcher" is not valid UTF-8: its files would not be copied'),
    });
  });

  it.each([source, `${place}/link`])('%s gives its subvolumes too, and its mounts are named', async path => {
    const tree = mkdtempSync(`${place}/to-`);
    const said: string[] = [];
    await fillTree(
      realHost(),
      tree,
      { ...HOW, source: { kind: 'directory', path }, say: line => said.push(line) },
      [],
    );
    for (const [name, text] of [
      ['etc', 'top'],
      ['data', 'data'],
      ['data/deep', 'data/deep'],
      ['data/plain', 'data/plain'],
    ])
      expect(readFileSync(`${tree}/${name}/file`, 'utf8')).toBe(text);
    expect(readdirSync(`${tree}/mnt/usb`)).toEqual([]);
    expect(said).toEqual([`"${path}/mnt/usb" is not copied: it is a mount`]);
  });

  it('is copied without our own directories', async () => {
    const tree = mkdtempSync(`${place}/to-`);
    const from = { ...HOW, source: { kind: 'directory', path: source }, say: () => undefined } as const;
    await fillTree(realHost(), tree, from, [`${source}/data`]);
    expect(existsSync(`${tree}/data/file`)).toBe(false);
    expect(readFileSync(`${tree}/etc/file`, 'utf8')).toBe('top');
  });
});

afterAll(() => rmSync(place, { recursive: true }));

it('the running system gives its subvolumes too, and mounts that are not copied are named', async () => {
  const rows = [
    '1 ',
    '1 etc',
    '2 srv',
    '2 data',
    '3 opt',
    '4 usr/big',
    '5 home',
    '6 var/lib/mayfly',
    '7 proc',
  ];
  const mounts = ['/', '/opt', '/usr/big', '/home', '/proc'];
  const ran: Command[] = [];
  const real = realHost();
  const host: typeof real = {
    ...real,
    read: path =>
      path === '/proc/self/mountinfo' ? mounts.map(at => `1 1 0:1 / ${at} rw`).join('\n') : real.read(path),
    lstat: () => undefined,
    list: () => [],
    write: () => undefined,
    run: async c => {
      ran.push(c);
      const [at] = c.args;
      return { code: 0, stderr: '', stdout: at === '/' ? `${rows.join('\0')}\0` : '2 \0' };
    },
  };
  const said: string[] = [];
  await fillTree(host, '/t', { ...HOW, source: { kind: 'host' }, say: line => said.push(line) }, []);
  expect(said).toEqual(['"/usr/big" is not copied: it is a mount']);
  expect(ran.filter(c => c.file === 'find').map(c => c.args[0])).toEqual([
    ...['/', '/data/'], // the directories of other file systems
    ...['/', '/data/', '/t/'], // what is private
  ]);
  expect(ran.find(c => c.pipeFrom)?.pipeFrom?.args.slice(-2)).toEqual(['.', './data']);
});
