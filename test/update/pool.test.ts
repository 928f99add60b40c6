/** The pool: mounting it, its record, and removing it. */
import { expect, it } from 'vitest';
import { isMounted } from '../../src/linux/mounts.ts';
import { recover } from '../../src/service/recover.ts';
import { makeDirectories } from '../../src/state/paths.ts';
import { readPool, writePool } from '../../src/state/pool.ts';
import { destroy } from '../../src/update/destroy.ts';
import { init } from '../../src/update/init.ts';
import { mountPool, poolOf } from '../../src/update/pool.ts';
import { update } from '../../src/update/update.ts';
import { preparedWorld, World } from '../world.ts';

it.each(['/pool', '/srv/lab/pool'])(
  'an image at %s is mounted once and removed with the pool',
  async path => {
    const w = new World();
    const on = w.machine();
    const image = '/var/lib/mayfly/pool.img';
    makeDirectories(w.host, on.paths);
    w.makeDirs(path);
    w.put(image, '');
    const pool = { backend: 'btrfs', path, image } as const;
    writePool(w.host, on.paths, pool);
    expect(isMounted(w.host, path)).toBe(false);
    await mountPool(on, pool);
    await mountPool(on, pool);
    expect(isMounted(w.host, path)).toBe(true);
    expect(w.ran.filter(c => c.startsWith('mount ')).length).toBe(1);
    await w.host.run({ file: 'umount', args: [path], effect: 'write' });
    await destroy(on);
    expect([path, image, on.paths.poolFile].map(p => w.host.lstat(p))).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  },
);

it('a machine without a pool has no failed update, and is healthy after init', async () => {
  const w = new World();
  const on = w.machine();
  const before = w.picture();
  const change = async () => true;
  const say = () => undefined;
  await expect(update(on, { what: 'an update', origin: 'test', change, say })).rejects.toThrow(
    /^there is no pool$/,
  );
  expect(w.picture()).toBe(before);
  const tree = '/var/lib/mayfly/pool/work/work';
  for (const name of ['etc', 'usr', 'var', 'bin/sh']) w.makeDirs(`${tree}/${name}`);
  for (const name of ['passwd', 'group']) w.put(`${tree}/etc/${name}`, '');
  w.put('/etc/passwd', `${w.host.read('/etc/passwd')}nobody:x:65534:65534::/nonexistent:/bin/sh\n`);
  await init(on, { backend: 'overlay', source: { kind: 'host' }, say });
  expect(readPool(w.host, on.paths)?.path).toBe('/var/lib/mayfly/pool');
  expect(w.host.read('/run/mayfly/health')).toMatch(/^OK - generation 1 /);
});

const AT = '/p';
it.each([
  ['a directory', { backend: 'overlay', pool: AT }, '', { backend: 'overlay', path: AT }],
  ['a volume group', { backend: 'lvm', pool: AT, fs: 'xfs' }, '', { backend: 'lvm', path: AT, fs: 'xfs' }],
  ['btrfs', { backend: 'btrfs', pool: AT }, '', { backend: 'btrfs', path: AT }],
  ['btrfs beside an image', { backend: 'btrfs', pool: AT }, 'im', { backend: 'btrfs', path: AT }],
  [
    'an image',
    { backend: 'btrfs', pool: AT },
    'i',
    { backend: 'btrfs', path: AT, image: '/var/lib/mayfly/pool.img' },
  ],
] as const)('the record of a pool is derived from a volume in %s', (_, volume, there, expected) => {
  const w = new World();
  const { paths } = w.machine();
  makeDirectories(w.host, paths);
  w.makeDirs(AT);
  if (there.includes('i')) w.put('/var/lib/mayfly/pool.img', '');
  if (there.includes('m')) w.put(`${AT}/.mayfly-pool`, '');
  expect(poolOf(w.host, paths, { ...volume, role: 'generation', name: '1' })).toEqual(expected);
});

it('a corrupt record of the pool is rewritten from a generation, or the error has a hint', async () => {
  const w = preparedWorld();
  const on = w.machine();
  const before = readPool(w.host, on.paths);
  w.put(on.paths.poolFile, '{"backe');
  expect(() => readPool(w.host, on.paths)).toThrow(/pool\.json" is corrupt/);
  expect((await recover(on)).adopted).toEqual(['the corrupt file "/var/lib/mayfly/pool.json"']);
  expect(readPool(w.host, on.paths)).toEqual(before);
  w.put(on.paths.poolFile, '');
  w.put(`${on.paths.generations}/1.json`, '');
  w.isPoolThere = false;
  await expect(recover(on)).rejects.toMatchObject({
    code: 'corrupt',
    facts: {
      hint: 'rm -f /var/lib/mayfly/pool.json /var/lib/mayfly/stable /var/lib/mayfly/generations/* && mayfly init',
    },
  });
  w.isPoolThere = true; // it is where the configuration says
  expect((await recover(on)).adopted).toContain('generation 1, whose record was corrupt');
  expect(readPool(w.host, on.paths)).toEqual(before);
});
