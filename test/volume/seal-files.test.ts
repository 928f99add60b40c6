/** The files of seals in a directory: full and broken disks, and trees that were put there by hand. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Host } from '../../src/linux/host.ts';
import { realHost } from '../../src/linux/real-host.ts';
import type { Volume } from '../../src/volume/backend.ts';
import { poolId } from '../../src/volume/directory-layout.ts';
import { overlayBackend } from '../../src/volume/overlay.ts';
import { MARK } from '../../src/volume/seal-files.ts';

let pool: string;
const host = realHost();
const generation = (n: number): Volume => ({ backend: 'overlay', pool, role: 'generation', name: String(n) });
const failing = (code: string, ...calls: ('unlink' | 'read')[]): Host => {
  const fail = (path: string): never => {
    throw Object.assign(new Error(`${code}: ${path}`), { code });
  };
  const broken = { ...host };
  for (const call of calls)
    broken[call] = ((path: string) => (path.includes('/seals/') ? fail(path) : host[call](path))) as never;
  return broken;
};

beforeEach(async () => {
  pool = mkdtempSync(`${tmpdir()}/mayfly-seals-`);
  for (const name of ['generations/1', 'generations/2']) mkdirSync(`${pool}/${name}`, { recursive: true });
  await overlayBackend(host).writeSeal(generation(1), 'one\n');
  await overlayBackend(host).writeSeal(generation(2), 'two\n');
});
afterEach(() => rmSync(pool, { recursive: true }));

it('seals can be read by root only, and are removed with their generation', async () => {
  const mode = (path: string): number => statSync(`${pool}/seals${path}`).mode & 0o777;
  expect([mode(''), mode('/1.json')]).toEqual([0o700, 0o600]);
  await overlayBackend(host).remove(generation(1));
  expect([...(await overlayBackend(host).seals(pool))]).toEqual([[2, 'two\n']]);
});

it.each(['ENOSPC', 'EDQUOT'])(
  'a disk so full that nothing is unlinked (%s) keeps no generation',
  async code => {
    await overlayBackend(failing(code, 'unlink')).remove(generation(1));
    expect(existsSync(`${pool}/generations/1`)).toBe(false);
  },
);

it('a seal that cannot be removed for another reason is an error, and its tree a leftover', async () => {
  await expect(overlayBackend(failing('EIO', 'unlink')).remove(generation(1))).rejects.toThrow('EIO');
  const { volumes, leftovers } = await overlayBackend(host).list(pool);
  expect([volumes.map(v => v.name), leftovers]).toEqual([['2'], ['generations/.old-1']]);
});

it('a seal on a bad sector is a damaged one, and foreign files are none', async () => {
  for (const name of ['0.json', 'x.json', '3', '.4.json.99.tmp']) writeFileSync(`${pool}/seals/${name}`, 'x');
  mkdirSync(`${pool}/seals/5.json`);
  const seals = await overlayBackend(host).seals(pool);
  expect([...seals]).toEqual([
    [1, 'one\n'],
    [2, 'two\n'],
    [5, ''],
  ]);
  expect((await overlayBackend(failing('EIO', 'read')).seals(pool)).get(1)).toBe('');
});

it.each<[string, (path: string) => unknown]>([
  ['a symlink', path => symlinkSync('/etc/passwd', path)],
  ['a FIFO', path => execFileSync('mkfifo', [path])],
  ['a directory', path => mkdirSync(path)],
  ['a long file', path => writeFileSync(path, 'x'.repeat(5000))],
])('%s in the place of a mark is none', (_, put) => {
  put(`${pool}/generations/1/${MARK}`);
  expect(overlayBackend(host).readMark?.(generation(1))).toBeUndefined();
});

it('a pool is known by its ID, if it has one and that is on record', async () => {
  rmSync(`${pool}/generations`, { recursive: true });
  rmSync(`${pool}/seals`, { recursive: true });
  const b = overlayBackend(host);
  expect(b.isThere?.(pool)).toBe(false);
  await b.prepare(pool);
  const id = poolId(host, pool);
  expect(id).toMatch(/^[0-9a-f]{32}$/);
  expect([undefined, id, 'ff'].map(known => b.isThere?.(pool, known))).toEqual([true, true, false]);
  await b.prepare(pool);
  expect(poolId(host, pool)).toBe(id);
  writeFileSync(`${pool}/.mayfly-pool`, 'This is a pool of mayfly(8).\n'); // of an earlier version
  expect(b.isThere?.(pool, id)).toBe(true);
});

it('a mark can be read by root only', () => {
  overlayBackend(host).writeMark?.(generation(1), '1 ab\n');
  expect(statSync(`${pool}/generations/1/${MARK}`).mode & 0o777).toBe(0o600);
  expect(overlayBackend(host).readMark?.(generation(1))).toBe('1 ab\n');
});
