/** How full a file system is, told as df(1) tells it. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import { withMetadata } from '../../src/volume/btrfs-space.ts';
import { admit, fullness, usageOf } from '../../src/volume/usage.ts';
import { World } from '../world.ts';

describe('the usage of a file system', () => {
  const of = (total: number, used: number, free: number, inodes = 0, freeInodes = 0) => {
    const w = new World();
    w.space = () => ({ total, used, free, inodes, freeInodes, type: 0 });
    return usageOf(w.host, '/p');
  };

  it.each([
    ['half full', of(100, 50, 50), 50],
    ['half full, with blocks reserved for root', of(100, 45, 45), 50],
    ['empty, with blocks reserved for root', of(100, 0, 95), 0],
    ['full but for what is reserved for root', of(100, 95, 0), 100],
    ['without any space', of(0, 0, 0), 100],
    ['out of inodes', of(100, 50, 50, 1000, 10), 99],
    ['without a limit of inodes', of(100, 50, 50, 0, 0), 50],
  ])('%s', async (_what, usage, expected) => expect((await usage).percent).toBe(expected));

  it('names inodes if they are scarcer', async () => {
    expect(fullness(await of(100, 50, 50, 1000, 10), '/p')).toBe('the pool "/p" has used 99 % of its inodes');
    expect(fullness(await of(100, 50, 50, 1000, 990), '/p')).toBe('the pool "/p" is 50 % full');
  });

  it('is what df says of this one', async () => {
    const said = execFileSync('df', ['-B1', '--output=used,avail', '/'], { encoding: 'utf8' });
    const [used = 0, avail = 0] = said.trim().split('\n')[1]?.trim().split(/\s+/).map(Number) ?? [];
    // Others write meanwhile.
    const { percent, of: what } = await usageOf(realHost(), '/');
    if (what === undefined) expect(percent).toBeCloseTo((100 * used) / (used + avail), 1);
  });
});

describe('the metadata of a btrfs', () => {
  const M = 2 ** 20;
  const G = 1024 * M;
  /** A file system with this much of everything, on devices of this size. */
  interface Numbers {
    readonly devices: Readonly<Record<string, number>>;
    readonly data: number;
    readonly total: number;
    readonly used: number;
    readonly copies?: number;
    readonly reserve?: number;
  }
  const put = (w: World, id: string, n: Numbers): void => {
    const at = `/sys/fs/btrfs/${id}`;
    const file = (path: string, value: number): void => {
      w.makeDirs(`${at}/${path}`.slice(0, `${at}/${path}`.lastIndexOf('/')));
      w.put(`${at}/${path}`, `${value}\n`);
    };
    for (const [name, size] of Object.entries(n.devices)) file(`devices/${name}/size`, size / 512);
    file('allocation/data/disk_total', n.data);
    file('allocation/metadata/total_bytes', n.total);
    file('allocation/metadata/disk_total', n.total * (n.copies ?? 2));
    file('allocation/metadata/bytes_used', n.used);
    file('allocation/metadata/bytes_readonly', 0);
    file('allocation/global_rsv_size', n.reserve ?? 0);
  };
  const world = (): World => {
    const w = new World();
    w.makeDirs('/sys/fs/btrfs/features');
    return w;
  };
  const usage = { total: 10 * G, free: 8 * G, percent: 20 };

  it.each([
    ['much is unclaimed', { devices: { sda: 10 * G }, data: G, total: 256 * M, used: 250 * M }, undefined],
    ['all is claimed', { devices: { sda: 10 * G }, data: 9.5 * G, total: 256 * M, used: 230 * M }, 91],
    [
      'the reserve is no room',
      { devices: { sda: 10 * G }, data: 9.5 * G, total: 256 * M, used: 230 * M, reserve: 22 * M },
      100,
    ],
    ['one copy', { devices: { sda: 10 * G }, data: 9.5 * G, total: 256 * M, used: 230 * M, copies: 1 }, 45],
    [
      'two devices',
      { devices: { sda: 5 * G, sdb: 5 * G }, data: 9.5 * G, total: 256 * M, used: 230 * M },
      91,
    ],
    ['it is empty', { devices: { sda: 10 * G }, data: 9.5 * G, total: 256 * M, used: 0 }, undefined],
    [
      'less full than the data',
      { devices: { sda: 10 * G }, data: 9.5 * G, total: 256 * M, used: 40 * M },
      undefined,
    ],
  ])('counts where %s', (_, numbers, percent) => {
    const w = world();
    put(w, 'f00', numbers);
    const told = withMetadata(w.host, '/p', usage);
    if (percent === undefined) return expect(told).toEqual(usage);
    expect(told).toMatchObject({ total: usage.total, free: usage.free, of: 'metadata' });
    expect(Math.floor(told.percent)).toBe(percent);
    expect(fullness(told, '/p')).toBe(`the metadata of the pool "/p" is ${percent} % full`);
    const limits = { max_used_percent: 95, min_free: G };
    if (percent > 95)
      expect(() => admit(told, '/p', limits)).toThrow(/the metadata of the pool "\/p" is 100 % full/);
    else expect(() => admit(told, '/p', limits)).not.toThrow();
  });

  it('is named when statfs(2) reports no space because of it', () => {
    const w = world();
    put(w, 'f00', { devices: { sda: 10 * G }, data: 9.5 * G, total: 256 * M, used: 250 * M });
    expect(withMetadata(w.host, '/p', { ...usage, free: 0, percent: 100 })).toMatchObject({
      percent: 100,
      of: 'metadata',
    });
  });

  it('is that of the right file system', () => {
    const full = { data: 9.5 * G, total: 256 * M, used: 240 * M };
    const w = world();
    put(w, 'f00', { devices: { sda: 100 * G }, ...full });
    put(w, 'f01', { devices: { 'dm-3': 10 * G }, ...full });
    w.makeDirs('/dev/mapper');
    w.host.symlink('../dm-3', '/dev/mapper/vg-pool');
    const host = (lines: readonly string[]) => ({
      ...w.host,
      read: (path: string) =>
        path === '/proc/self/mountinfo'
          ? lines
              .map((l, i) => `${i} 1 0:${i} / ${l.split(' ')[0]} rw shared:1 - btrfs ${l.split(' ')[1]} rw\n`)
              .join('')
          : w.host.read(path),
    });
    const of = (path: string, ...lines: string[]) => withMetadata(host(lines), path, usage).of;
    expect(of('/srv/pool', '/ /dev/sda', '/srv /dev/mapper/vg-pool')).toBe('metadata');
    expect(of('/srv', '/ /dev/sda', '/srv /dev/mapper/vg-pool')).toBe('metadata');
    expect(of('/srv-2', '/ /dev/sda', '/srv /dev/mapper/vg-pool')).toBeUndefined();
    expect(of('/srv', '/srv /dev/mapper/vg-pool', '/srv /dev/sda')).toBeUndefined();
    expect(of('/srv', '/ /dev/root')).toBeUndefined();
    expect(of('/srv')).toBeUndefined();
  });

  it('is not asked for elsewhere, or without sysfs', async () => {
    const w = world();
    expect(withMetadata(w.host, '/p', usage)).toEqual(usage);
    put(w, 'f00', { devices: { sda: 10 * G }, data: 9.5 * G, total: 256 * M, used: 250 * M });
    const space = { total: 10 * G, used: 2 * G, free: 8 * G, inodes: 0, freeInodes: 0 };
    w.space = () => ({ ...space, type: 0xef53 });
    expect((await usageOf(w.host, '/p')).of).toBeUndefined();
    w.space = () => ({ ...space, type: 0x9123683e });
    expect((await usageOf(w.host, '/p')).of).toBe('metadata');
  });
});
