/** Reading the list of loop devices; test/session/guards.test.ts and test/system/holders.test.ts release some. */
import { describe, expect, it } from 'vitest';
import type { Command } from '../../src/linux/command.ts';
import type { Host, Stat } from '../../src/linux/host.ts';
import { parseLoops, releaseLoops, releaseSwap } from '../../src/linux/loops.ts';
import { swapFiles } from '../../src/linux/mounts.ts';

it.each([
  [
    '/dev/loop1 \\x20\\x20\\x20254:0\\x20\\x20 /var/a.img',
    [{ name: 'loop1', on: 65024, file: '/var/a.img' }],
  ],
  ['/dev/loop12 0:81 /a\\x20b (deleted)', [{ name: 'loop12', on: 81, file: '/a b (deleted)' }]],
  ['/dev/loop3 0:300 ', [{ name: 'loop3', on: 1048620, file: '' }]],
  ['/dev/loop4', []],
  ['/dev/sda 8:0 /x', []],
  ['', []],
])('the line %j', (line, expected) => {
  expect(parseLoops(`${line}\n`)).toEqual(expected);
});

describe('a loop device that udisks made, with the path of its file in the session', () => {
  const TREE = 46;
  const LOWER = 73; // of the files of the image, on an overlay whose upper layer is in memory
  const HOST = 5;
  const root = '/run/mayfly/roots/s';
  const dir = { kind: 'dir', dev: TREE } as const;

  /** What is run, with one device on `file`, mounted in /media. */
  async function released(file: string, on: number, there: Record<string, Pick<Stat, 'kind' | 'dev'>>) {
    const ran: string[] = [];
    const isThere = (): boolean => !ran.some(line => line.startsWith('losetup -d'));
    const files: Record<string, string> = {
      '/sys/block/loop7/dev': '7:7\n',
      '/proc/self/mountinfo': '9 1 7:7 / /media/anna/disk rw - ext4 /dev/loop7 rw\n',
    };
    const host = {
      run: async ({ file: program, args }: Command) => {
        ran.push(`${program} ${args.join(' ')}`);
        const list = isThere() ? `/dev/loop7 0:${on} ${file}\n` : '';
        return { code: 0, stdout: args[0] === '--list' ? list : '', stderr: '' };
      },
      read: (path: string) => (path.endsWith('backing_file') ? (isThere() ? file : undefined) : files[path]),
      list: () => [],
      lstat: (path: string) => ({ [root]: dir, ...there })[path],
      sleep: async () => undefined,
    };
    await releaseLoops(host as unknown as Host, { root, devices: new Set([TREE]), shared: [`${root}/home`] });
    const done = ran.filter(line => !line.includes('--list'));
    // Once, and once more to see that what was detached is gone.
    expect(ran.length - done.length).toBe(done.length === 0 ? 1 : 2);
    return done;
  }
  const all = ['umount -- /media/anna/disk', 'losetup -d /dev/loop7'];

  it.each([
    [
      'a file of the image',
      '/srv/disk.img',
      LOWER,
      { srv: dir, 'srv/disk.img': { kind: 'file', dev: LOWER } },
      all,
    ],
    ['a file of the session', '/srv/disk.img', TREE, {}, all],
    [
      'a file of the host that a symlink in the session leads to',
      '/srv/disk.img',
      HOST,
      { srv: { kind: 'link', dev: TREE }, 'srv/disk.img': { kind: 'file', dev: HOST } },
      [],
    ],
    [
      'a file in a directory of the host',
      '/home/anna/disk.img',
      HOST,
      {
        home: { kind: 'dir', dev: HOST },
        'home/anna': { kind: 'dir', dev: HOST },
        'home/anna/disk.img': { kind: 'file', dev: HOST },
      },
      [],
    ],
    [
      'another file of the host with that path',
      '/srv/disk.img',
      HOST,
      { srv: dir, 'srv/disk.img': { kind: 'file', dev: LOWER } },
      [],
    ],
    ['a file of the host', '/var/disk.img', HOST, {}, []],
  ] as const)('on %s', async (_what, file, on, there, expected) => {
    const paths = Object.entries(there).map(([path, stat]) => [`${root}/${path}`, stat]);
    expect(await released(file, on, Object.fromEntries(paths))).toEqual(expected);
  });
});

describe('swap space', () => {
  const root = '/run/mayfly/roots/s';
  const [TREE, NESTED, HOST] = [46, 47, 5];
  const dir = { kind: 'dir', dev: TREE };
  const file = { kind: 'file', dev: TREE };

  it.each<[string, string, Record<string, object>, string[]]>([
    ['in a file of the session', '/var/a\\040swap', { var: dir, 'var/a swap': file }, ['var/a swap']],
    ['in one that was opened on the host', `${root}/swap`, { swap: file }, ['swap']],
    [
      'in one in a nested subvolume',
      '/swap/file',
      { swap: { kind: 'dir', dev: NESTED }, 'swap/file': { kind: 'file', dev: NESTED } },
      ['swap/file'],
    ],
    ['in a file of the host, where the session has a directory', '/swap', { swap: dir }, []],
    [
      'in a file of the host that the session shows',
      '/my\\040home/swap',
      { 'my home': { kind: 'dir', dev: HOST }, 'my home/swap': { kind: 'file', dev: HOST } },
      [],
    ],
    [
      'in a file to which a symlink in the session leads',
      '/var/swap',
      { var: { kind: 'link', dev: TREE }, 'var/swap': file },
      [],
    ],
    ['in a file of the host', '/swapfile', {}, []],
    [
      'in a file beneath something that covers the session',
      '/swap',
      { '': { ...dir, dev: HOST }, swap: file },
      [],
    ],
  ])('%s', async (_, path, there, ended) => {
    const ran: string[] = [];
    const files: Record<string, string> = {
      '/proc/swaps': `Filename Type Size\n/dev/sda2  partition\t9\n${path.padEnd(39)} file\t\t9\n`,
      '/proc/self/mountinfo': `1 0 0:46 / ${root} rw - btrfs x rw\n2 1 8:1 /home ${root}/my\\040home rw - ext4 x rw\n`,
    };
    const host = {
      run: async ({ file: program, args }: Command) => void ran.push([program, ...args].join(' ')),
      read: (at: string) => files[at],
      lstat: (at: string) => there[at.slice(root.length + 1)] ?? (at === root ? dir : undefined),
    } as unknown as Host;
    expect(swapFiles(host)).toEqual([path]);
    await releaseSwap(host, { root, devices: new Set([TREE]), shared: [] }, swapFiles(host));
    expect(ran).toEqual(ended.map(name => `swapoff -- ${root}/${name}`));
  });
});
