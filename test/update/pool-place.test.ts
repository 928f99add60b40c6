/** Places that do not work in sessions although they work on the host. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import { init } from '../../src/update/init.ts';
import { MAX_POOL_PATH } from '../../src/update/pool-directory.ts';
import {
  type MountPlace,
  mountPlace,
  poolPlaceProblem,
  propagationProblem,
} from '../../src/update/pool-place.ts';
import { must } from '../system/lab.ts';
import { World } from '../world.ts';

const on = (options: string, type = 'btrfs'): MountPlace => ({
  ...{ at: '/srv', type, options: options.split(','), propagation: 'shared' },
});

describe('the place of a pool', () => {
  const btrfs = { backend: 'btrfs', path: '/srv/pool' } as const;
  const overlay = { ...btrfs, backend: 'overlay' } as const;
  it.each([
    ['btrfs', btrfs, on('rw,relatime'), 'disk', undefined],
    ['btrfs, nosuid', btrfs, on('rw,nosuid,nodev'), 'disk', 'mount -o remount,suid /srv'],
    ['btrfs, noexec', btrfs, on('rw,noexec'), 'disk', 'mount -o remount,exec /srv'],
    ['btrfs, both', btrfs, on('rw,nosuid,noexec'), 'disk', 'mount -o remount,suid,exec /srv'],
    ['btrfs in an image', { ...btrfs, image: '/i' }, on('rw,nosuid'), 'disk', undefined],
    ['an unknown mount', btrfs, undefined, 'disk', undefined],
    // An overlay has mount options of its own.
    ['an overlay on nosuid', overlay, on('rw,nosuid,noexec', 'ext4'), 'disk', undefined],
    [
      'an overlay on an overlay',
      overlay,
      on('rw', 'overlay'),
      'disk',
      /^set "upper" in \[overlay\] to "tmpfs"/,
    ],
    ['the same, in memory', overlay, on('rw', 'overlay'), 'tmpfs', undefined],
    [
      'a long path',
      { ...overlay, path: `/${'p'.repeat(MAX_POOL_PATH)}` },
      on('rw', 'ext4'),
      'disk',
      /shorter/,
    ],
    ['LVM', { ...btrfs, backend: 'lvm' }, on('nosuid'), 'disk', undefined],
  ] as const)('%s', (_, pool, place, upper, fix) => {
    const found = poolPlaceProblem(pool, place, upper);
    if (fix === undefined) expect(found).toBeUndefined();
    else expect(found?.fix).toEqual(typeof fix === 'string' ? fix : expect.stringMatching(fix));
  });

  it('is looked at by init before anything is recorded', async () => {
    const w = new World();
    w.programs.stat = () => ({ stdout: 'btrfs\n' });
    w.programs.findmnt = () => ({ stdout: '/srv btrfs rw,nosuid shared\n' });
    const o = { backend: 'btrfs', source: { kind: 'host' }, say: () => undefined } as const;
    await expect(init(w.machine(), o)).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringMatching(/^"\/srv" is mounted with nosuid, and so is every session: sudo/),
      facts: { hint: 'mount -o remount,suid /srv' },
    });
    expect(w.host.exists('/var/lib/mayfly/pool.json')).toBe(false);
  });
});

describe('mounts that come later', () => {
  const place = (at: string, propagation: string): MountPlace => ({
    ...{ at, type: 'ext4', options: ['rw'], propagation },
  });
  it.each([
    ['shared', undefined],
    ['shared,slave', undefined],
    ['private,slave', undefined],
    ['private', 'mount --make-rshared /'],
    ['unbindable', 'mount --make-rshared /'],
  ])('below a mount that is %s', (propagation, fix) =>
    expect(propagationProblem([['/media', place('/', propagation)]])?.fix).toBe(fix),
  );

  it('are named with their mounts, each once', () => {
    const all = [
      ['/home', place('/home', 'private')],
      ['/media', place('/', 'private')],
      ['/run/user', place('/run', 'shared')],
      ['/srv', place('/', 'private')],
    ] as const;
    expect(propagationProblem(all)).toMatchObject({
      what: expect.stringMatching(
        /below "\/home", "\/media", "\/srv" during .*: \/home, \/ is mounted private/,
      ),
      fix: 'mount --make-rshared /home && mount --make-rshared /',
    });
  });
});

describe.skipIf(process.getuid?.() !== 0)('what findmnt(8) says of a mount', () => {
  const place = mkdtempSync(`${tmpdir()}/mayfly-place-`);
  afterAll(() => {
    must('umount', [place]);
    rmSync(place, { recursive: true });
  });
  it('has its options and its propagation', async () => {
    must('mount', ['-t', 'tmpfs', '-o', 'nosuid,noexec', 'mayfly-test', place]);
    must('mount', ['--make-private', place]);
    mkdirSync(`${place}/a b`);
    expect(await mountPlace(realHost(), `${place}/a b`)).toMatchObject({
      ...{ at: place, type: 'tmpfs', propagation: 'private' },
      options: expect.arrayContaining(['nosuid', 'noexec']),
    });
    must('mount', ['--make-shared', place]);
    expect(await mountPlace(realHost(), place)).toMatchObject({ propagation: 'shared' });
    must('mount', ['--make-private', place]);
    expect(await mountPlace(realHost(), `${place}/nothing`)).toBeUndefined();
  });
});
