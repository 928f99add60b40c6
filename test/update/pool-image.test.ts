/** Damage to the image of a pool, on real files. Needs btrfs-progs. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeEach, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { mountPool } from '../../src/update/pool.ts';
import { imageProblem } from '../../src/update/pool-image.ts';
import { must, sh } from '../system/lab.ts';
import { World } from '../world.ts';

const place = mkdtempSync(`${tmpdir()}/mayfly-image-`);
const image = `${place}/pool.img`;
const MIB = 2 ** 20;
const lacks = sh('mkfs.btrfs', ['--version']).code !== 0;

beforeEach(() => {
  if (lacks) return;
  writeFileSync(image, '');
  truncateSync(image, 300 * MIB);
  must('mkfs.btrfs', ['-q', '-f', image]);
});
afterAll(() => rmSync(place, { recursive: true }));

it.skipIf(lacks)('a whole image has no problem', async () =>
  expect(await imageProblem(realHost(), image, 'restore it')).toBeUndefined(),
);

it.skipIf(lacks).each([
  [
    'cut short',
    200,
    /pool\.img" was truncated: it has 200 MiB, and the file system in it has 300 MiB; restore it, or create the pool again$/,
  ],
  [
    'cut before its file system',
    0,
    /pool\.img" holds no btrfs: it was overwritten or truncated; restore it, or/,
  ],
])('an image that was %s is named with what it lacks', async (_, size, what) => {
  truncateSync(image, size * MIB);
  const problem = await imageProblem(realHost(), image, 'restore it');
  expect(problem).toEqual({ what: expect.stringMatching(what), fix: 'restore it' });
});

it.skipIf(lacks)('an image that was overwritten holds no file system', async () => {
  writeFileSync(image, Buffer.alloc(MIB));
  expect((await imageProblem(realHost(), image, ''))?.what).toMatch(/holds no btrfs/);
});

it('a mount that fails gives that reason, and its own if the image is whole', async () => {
  const pool = { backend: 'btrfs', path: '/pool', image: '/var/lib/mayfly/pool.img' } as const;
  const w = new World();
  for (const path of ['/var/lib/mayfly', '/pool', '/sys/module/loop']) w.makeDirs(path);
  w.put(pool.image, 'four');
  w.failing.add('mount');
  w.programs.btrfs = () => ({ stdout: 'total_bytes\t\t5\n' });
  await expect(mountPool(w.machine(), pool)).rejects.toMatchObject({
    code: 'refused',
    message: expect.stringMatching(/pool\.img" was truncated/),
    facts: { hint: 'mayfly doctor' },
  });
  w.programs.btrfs = () => ({ stdout: 'total_bytes\t\t4\n' });
  await expect(mountPool(w.machine(), pool)).rejects.toThrow('"mount" failed as told');
  w.programs.btrfs = () => {
    throw new MayflyError('missing-tool', 'the program "btrfs" is not installed');
  };
  await expect(mountPool(w.machine(), pool)).rejects.toThrow('"mount" failed as told');
});
