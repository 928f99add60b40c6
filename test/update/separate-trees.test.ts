/** Subvolumes and mounts in master and in its working copy, of which a generation would not have the files. */
import { expect, it } from 'vitest';
import { readOnly, runChecks } from '../../src/cli/doctor/check.ts';
import { masterCheck } from '../../src/cli/doctor/master.ts';
import { generationNumbers, stableNumber } from '../../src/state/generations.ts';
import { init } from '../../src/update/init.ts';
import { update } from '../../src/update/update.ts';
import { generationOf, masterOf } from '../../src/volume/backend.ts';
import { preparedWorld, World } from '../world.ts';

const pool = { backend: 'overlay', path: '/var/lib/mayfly/pool' } as const;
const MASTER = `${pool.path}/master/master`;
const WORK = `${pool.path}/work/work`;

type Row = readonly [dev: number, inode: number, links: number, mode: number, path: string];

/** A machine on which find(1) sees these directories, besides the root, in the tree `tree`. */
async function world(tree: string, ...rows: readonly Row[]): Promise<World> {
  const w = preparedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\n');
  await w.backend().fork(generationOf(pool, 1), masterOf(pool));
  let left = rows;
  w.programs.find = args => {
    const there = args[0] === tree ? left : [];
    const all = [[40, 256, 1, 755, ''], [40, 300, 1, 755, 'etc'], ...there] as const;
    return { stdout: all.map(([d, i, n, m, p]) => `${d} ${i} ${n} ${m} 0 7 ${p}\0`).join('') };
  };
  w.programs.install = () => {
    left = [];
    return undefined;
  };
  for (const [, , , , path] of rows) w.makeDirs(`${tree}/${path}`);
  return w;
}

const run = (w: World, change = async () => true) =>
  update(w.machine(), { what: 'an edit', origin: 'test', force: true, say: () => undefined, change });

/** What a failed update must leave. */
function mustBeAsBefore(w: World): void {
  const { host, paths } = w.machine();
  expect(stableNumber(host, paths)).toBe(1);
  expect(generationNumbers(host, paths)).toEqual([1]);
  expect(generationNumbers(host, paths, 'candidate')).toEqual([]);
  expect([...w.volumes.keys()].sort()).toEqual([`${pool.path}/generation/1`, MASTER]);
}

const examine = async (w: World) => {
  const on = { ...w.machine(), host: readOnly(w.host), file: '/c', invalid: undefined };
  const [result] = await runChecks(on, [masterCheck]);
  return result?.findings.map(f => `${f.level}: ${f.what} | ${f.fix}`);
};

const PATH = 'var/lib/two\nlines';

it('a subvolume with files in master is refused before anything is copied, and reported by doctor', async () => {
  const w = await world(MASTER, [41, 256, 1, 755, PATH]);
  w.put(`${MASTER}/${PATH}/data`, '');
  const at = `${MASTER}/${PATH}`;
  const fix = `mv ${at} ${at}.old && cp -a --reflink=auto ${at}.old ${at} && rm -rf ${at}.old`;
  await expect(run(w)).rejects.toMatchObject({
    code: 'refused',
    message: expect.stringMatching(/^an edit failed in "prepare": .* is a subvolume of its own: /s),
    facts: { path: at, hint: fix },
  });
  mustBeAsBefore(w);
  const [finding, ...others] = (await examine(w)) ?? [];
  expect(finding).toMatch(/^problem: .*the next update would lose them \| mv /s);
  expect(finding?.endsWith(fix)).toBe(true);
  expect(others).toEqual([]);
});

it('a subvolume whose name is not valid UTF-8 does not count as empty: nothing shows what is in it', async () => {
  const w = await world(MASTER, [41, 256, 1, 755, 'srv/b\ufffdcher']);
  await expect(run(w)).rejects.toMatchObject({
    code: 'refused',
    message: expect.stringMatching(/^an edit failed in "prepare": .* is a subvolume of its own: /s),
  });
  mustBeAsBefore(w);
});

it('a subvolume with files in the working copy is refused before it is sealed', async () => {
  const w = await world(WORK, [41, 256, 1, 755, 'srv/data']);
  w.put(`${WORK}/srv/data/file`, '');
  await expect(run(w)).rejects.toMatchObject({
    code: 'refused',
    message:
      'an edit failed in "seal": "/srv/data" in the working copy is a subvolume of its own: the generation would not contain its files',
    facts: { hint: 'create it as a directory first: mayfly enter master -- mkdir -p /srv/data' },
  });
  mustBeAsBefore(w);
});

it.each([
  [MASTER, /^an edit failed in "prepare": something is mounted on ".*\/mnt"/],
  [WORK, /^an edit failed in "seal": "\/mnt" in the working copy is a mount/],
])('a mount in %s is refused, also if it is empty', async (tree, message) => {
  const w = await world(tree, [41, 2, 3, 755, 'mnt']);
  await expect(run(w)).rejects.toThrow(message);
  mustBeAsBefore(w);
});

it.each([
  ['an empty subvolume', [41, 256, 1, 1777, 'var/tmp']],
  ['what a snapshot shows of a subvolume', [41, 2, 1, 755, 'var/tmp']],
] as const)('%s in the working copy is replaced by a directory', async (_, row) => {
  const w = await world(WORK, row);
  expect((await run(w)).result).toBe('promoted');
  expect(w.ran).toContain(`install -d -m ${row[3]} -o 0 -g 7 -- ${WORK}/var/tmp`);
  expect(w.host.lstat(`${WORK}/var/tmp`)).toBeUndefined(); // removed; install(1) has no effect here
});

it('an empty subvolume in master loses nothing', async () => {
  const w = await world(MASTER, [41, 256, 1, 755, 'var/lib/portables']);
  expect(await examine(w)).toEqual([]);
  expect((await run(w)).result).toBe('promoted');
});

it('an ordinary directory with the inode number of a subvolume is none', async () => {
  const w = await world(MASTER, [40, 256, 1, 755, 'usr']);
  w.put(`${MASTER}/usr/file`, '');
  expect(await examine(w)).toEqual([]);
  expect((await run(w)).result).toBe('promoted');
});

it('a subvolume in the first tree is refused by init, which can be repeated', async () => {
  const w = new World();
  w.put('/etc/passwd', `${w.host.read('/etc/passwd')}nobody:x:65534:65534::/nonexistent:/bin/sh\n`);
  const on = w.machine();
  for (const name of ['etc', 'usr', 'var', 'bin/sh', 'sub']) w.makeDirs(`${WORK}/${name}`);
  for (const name of ['etc/passwd', 'etc/group', 'sub/file']) w.put(`${WORK}/${name}`, '');
  w.programs.find = args =>
    args[0] === WORK ? { stdout: '40 256 1 755 0 0 \x0041 256 1 755 0 0 sub\0' } : {};
  const o = { backend: 'overlay', source: { kind: 'host' }, say: () => undefined } as const;
  await expect(init(on, o)).rejects.toThrow(/^"\/sub" in the working copy is a subvolume of its own/);
  expect(stableNumber(on.host, on.paths)).toBeUndefined();
  w.programs.find = () => ({});
  expect((await init(on, o)).number).toBeGreaterThan(0);
});
