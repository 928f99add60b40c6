/** Which numbers the users and groups of a tree get, and what an update and `init` do with that. */
import { describe, expect, it } from 'vitest';
import { readOnly, runChecks } from '../../src/cli/doctor/check.ts';
import { numberCheck } from '../../src/cli/doctor/numbers.ts';
import { isInRange, namedNumbers, renumberLines, renumberRanges } from '../../src/linux/account-files.ts';
import { OWNERSHIP_PROGRAM } from '../../src/linux/ownership.ts';
import {
  generationNumbers,
  readGeneration,
  stableNumber,
  writeGeneration,
} from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { ownersPath } from '../../src/state/owners.ts';
import { keepLastTree } from '../../src/update/adopt.ts';
import { candidates, deviceGroups, planMoves } from '../../src/update/numbers.ts';
import { update } from '../../src/update/update.ts';
import { generationOf, masterOf, workOf } from '../../src/volume/backend.ts';
import { Died, preparedWorld, type World } from '../world.ts';

type Row = Record<string, number>;

/** `plan(tree, host, unnamed)`: moves as "from>to", and "from>?" for what needs a free number. */
function plan(tree: readonly Row[], host: Row, unnamed: Record<number, string> = {}): string {
  const named = tree.flatMap(row => Object.entries(row).map(([name, number]) => ({ name, number })));
  const byNumber = new Map(Object.entries(host).map(([name, number]) => [number, name]));
  const known = new Map(Object.entries(unnamed).map(([number, name]) => [Number(number), name]));
  const { moves, homeless } = planMoves(named, known, { byName: new Map(Object.entries(host)), byNumber });
  return [...[...moves].map(([from, to]) => `${from}>${to}`), ...homeless.map(n => `${n}>?`)]
    .sort()
    .join(' ');
}

describe('the plan', () => {
  it.each<[string, Row[], Row, Record<number, string>, string]>([
    ['nothing if all agree', [{ root: 0, a: 100 }], { root: 0, a: 100, b: 101 }, {}, ''],
    ['the host’s number for the same name', [{ a: 100 }], { a: 110 }, {}, '100>110'],
    ['exchanges', [{ a: 100, b: 101 }], { a: 101, b: 100 }, {}, '100>101 101>100'],
    [
      'a free number if the host gives it to another name',
      [{ cert: 7702 }],
      { robotics: 7702 },
      {},
      '7702>?',
    ],
    ['both', [{ cert: 110, wire: 120 }], { wire: 110 }, {}, '110>? 120>110'],
    ['nothing for what only the image has', [{ cert: 110 }], { wire: 111 }, {}, ''],
    ['never root’s number, and never for root', [{ toor: 100, root: 0 }], { toor: 0, root: 5 }, {}, ''],
    ['never that of nobody', [{ nogroup: 65534, x: 7 }], { nobody: 65534, x: 65534 }, {}, ''],
    ['one for several names with one number', [{ a: 100, b: 100 }], { b: 105 }, {}, '100>105'],
    ['nothing if one of the names has the number', [{ a: 100, b: 100 }], { a: 100, b: 105 }, {}, ''],
    ['a free number without a name', [{ root: 0 }], { alice: 1001 }, { 1001: '' }, '1001>?'],
    ['nothing without a name on both sides', [{ root: 0 }], { alice: 1001 }, { 1002: '' }, ''],
    ['nothing for a known name without one in the tree', [], { alice: 1001 }, { 1001: 'alice' }, ''],
    ['the new number of a known name', [], { alice: 1005, bob: 1001 }, { 1001: 'alice' }, '1001>1005'],
    ['a free number for a known name that is gone', [], { bob: 1001 }, { 1001: 'alice' }, '1001>?'],
  ])('is %s', (_what, tree, host, unnamed, expected) => expect(plan(tree, host, unnamed)).toBe(expected));

  it('tries numbers first that no program assigns soon', () => {
    expect(candidates(110).slice(0, 2)).toEqual([500, 501]);
    expect(candidates(110)).not.toContain(100);
    expect(candidates(1000)[0]).toBe(59999);
    expect(new Set(candidates(110)).size).toBe(candidates(110).length);
  });
});

describe('texts', () => {
  const moves = { users: new Map([[100, 200]]), groups: new Map([[100, 300], [7, 8]]) }; // biome-ignore format: a table
  it.each([
    ['passwd', 'a:x:100:100:,,100:/:/bin/sh\n', 'a:x:200:300:,,100:/:/bin/sh\n'],
    ['passwd', '+::::::\n# x\nb:x:10:7::/:\n', '+::::::\n# x\nb:x:10:8::/:\n'],
    ['group', 'a:x:100:a,b\nbad\nc:*:7:', 'a:x:300:a,b\nbad\nc:*:8:'],
  ] as const)('%s %j becomes %j', (file, text, expected) =>
    expect(renumberLines(text, moves, file)).toBe(expected),
  );
  it('keeps ranges of subordinate numbers', () => {
    expect(renumberRanges('100:100:65536\na:100:65536\n', moves.users)).toBe('200:100:65536\na:100:65536\n');
    expect([99, 100, 65635, 65636].map(n => isInRange('a:100:65536\nbad\n', n))).toEqual([false, true, true, false]); // biome-ignore format: a table
  });
  it('leaves out lines without a number', () => {
    expect(namedNumbers('a:x:1:\nb:x::\n\nc:x:-1:\nd:x:01:\ne:x:4294967294:')).toEqual([
      { name: 'a', number: 1 },
      { name: 'e', number: 4294967294 },
    ]);
  });
  it('finds the groups of devices in the rules of udev', () => {
    const rules =
      'KERNEL=="kvm", GROUP="kvm", MODE="0660"\n# GROUP="no"\nSUBSYSTEM=="x", GROUP:="plug-dev"\n';
    expect(deviceGroups(rules)).toEqual(['kvm', 'plug-dev']);
  });
});

const pool = { backend: 'overlay', path: '/var/lib/mayfly/pool' } as const;

interface Numbers {
  /** Names and numbers of the host's groups. */
  readonly groups: Row;
  /** What the image has besides root and audio. */
  readonly image: string;
  /** The numbers of groups that files have. */
  readonly used?: readonly number[];
  /** What the generation says of numbers without a name; undefined: an earlier version has sealed it. */
  readonly sealed?: Record<string, string> | undefined;
}

/** A machine with master; what the program of owners was asked is in `asked`. */
async function machine({ groups, image, used = [], ...o }: Numbers): Promise<{ w: World; asked: string[] }> {
  const w = preparedWorld();
  const sealed = 'sealed' in o ? o.sealed : {};
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\n');
  const asked: string[] = [];
  w.programs.getent = args => {
    const [database, ...keys] = args.slice(args.indexOf('--') + 1);
    const all: Row = database === 'group' ? { audio: 29, root: 0, ...groups } : { root: 0 };
    const lines = keys.flatMap(key =>
      Object.entries(all).filter(([name, number]) => name === key || String(number) === key),
    );
    return {
      code: lines.length === keys.length ? 0 : 2,
      stdout: lines.map(([n, g]) => `${n}:x:${g}:\n`).join(''),
    };
  };
  w.programs.touch = () => undefined;
  const perl = w.programs.perl;
  w.programs.perl = args => {
    if (args[1] !== OWNERSHIP_PROGRAM) return perl?.(args);
    const [, , mode = '', , , users, gids] = args.slice(args.indexOf('--') + 1);
    if (mode !== 'survey') asked.push(`${mode} ${users} ${gids}`.trim());
    return mode === 'survey' ? { stdout: used.map(n => `g${n}\n`).join('') } : {};
  };
  await w.backend().fork(generationOf(pool, 1), masterOf(pool));
  const nodes = w.volumes.get(`${pool.path}/master/master`)?.nodes;
  const node = nodes?.get('/etc/group');
  if (node) nodes?.set('/etc/group', { ...node, text: `root:x:0:\naudio:x:29:\n${image}` });
  const on = w.machine();
  const first = readGeneration(w.host, on.paths, 1);
  if (first && sealed !== undefined)
    writeGeneration(w.host, on.paths, { ...first, unnamed: { users: {}, groups: sealed } }, 'proven');
  w.newProcess();
  return { w, asked };
}

/** The machine, on which each volume is a device: its tree is seen only where it is mounted. */
const devices = (w: World): Machine => ({
  ...w.machine(),
  backend: () => ({
    ...w.backend(),
    path: () => undefined,
    attachTree: async (v, target) => ({
      source: w.backend().path(v) ?? '',
      target,
      type: 'memory',
      options: 'rw',
    }),
  }),
});

const run = (w: World, o: { force?: boolean; lines?: string[] } = {}) =>
  update(devices(w), {
    ...{ what: 'an edit', origin: 'test', change: async () => true, ...o },
    say: (line, detail) => void (!detail && o.lines?.push(line)),
  });

const groupOf = (w: World, tree: string): string =>
  w.volumes.get(`${pool.path}/${tree}`)?.nodes.get('/etc/group')?.text ?? '';

describe('an update', () => {
  it('costs two questions and makes no generation if there is nothing to change', async () => {
    const { w, asked } = await machine({ groups: {}, image: 'cert:x:110:\n' });
    expect((await run(w)).result).toBe('unchanged');
    expect(asked).toEqual([]);
    expect(w.ran.filter(line => line.startsWith('getent') || line.includes('posix_acl'))).toHaveLength(2);
  });

  it('gives the same name the same number, another one to a number of the host, and says so', async () => {
    const groups = { wire: 110, robotics: 7702, kvm: 105 };
    const { w, asked } = await machine({ groups, image: 'cert:x:7702:\nwire:x:120:bob\n' });
    const lines: string[] = [];
    expect((await run(w, { lines })).result).toBe('promoted');
    expect(asked).toEqual(['plan  120=110,7702=59999', 'apply']);
    expect(groupOf(w, 'generation/2')).toBe(
      'root:x:0:\naudio:x:29:\ncert:x:59999:\nwire:x:110:bob\nkvm:x:105:\n',
    );
    expect(groupOf(w, 'master/master')).toBe(groupOf(w, 'generation/2'));
    expect(lines).toEqual(
      expect.arrayContaining([
        'group "wire": number 120 is now 110',
        'group "cert": number 7702 is now 59999',
        'group "kvm": added with number 105',
      ]),
    );
    expect((await run(w)).result).toBe('unchanged');
  });

  it('keeps files without a name apart from a name that is given their number', async () => {
    const { w, asked } = await machine({ groups: { wire: 110 }, image: 'wire:x:120:\n', used: [110, 120] });
    await run(w);
    expect(asked[0]).toBe('plan  120=110,110=500');
    const { host, paths } = w.machine();
    expect(Object.keys(readGeneration(host, paths, 2)?.unnamed?.groups ?? {})).toContain('120');
  });

  it('gives no number that is in use, also in a range of subordinate numbers', async () => {
    const groups = { robotics: 110, late: 500 };
    const { w, asked } = await machine({ groups, image: 'cert:x:110:\nimage:x:501:\n', used: [502] });
    w.put('/etc/subgid', 'alice:503:2\n');
    await run(w);
    expect(asked[0]).toBe('plan  110=505');
  });

  it.each([
    ['a generation of an earlier version', undefined, '7702=59999'],
    ['one that says so', { 7702: '' }, '7702=59999'],
    ['one in which they are the files of that group', { 7702: 'robotics' }, undefined],
    ['one in which they are the files of a group with another number now', { 7702: 'wire' }, '7702=110'],
  ])('moves files of a new group of the host that have no name in %s', async (_what, sealed, expected) => {
    const groups = { robotics: 7702, wire: 110 };
    const { w, asked } = await machine({ groups, image: '', used: [7702], sealed });
    expect((await run(w)).result).toBe('unchanged'); // of the names; that files have changed is seen by find(1)
    expect(asked).toEqual(expected === undefined ? [] : [`plan  ${expected}`, 'apply']);
    const { host, paths } = w.machine();
    expect(host.list(paths.state).filter(name => name.startsWith('renumber'))).toEqual([]);
  });

  it('asks only the local files if a directory does not answer', async () => {
    const { w } = await machine({ groups: { robotics: 110 }, image: 'cert:x:110:\n' });
    const { getent } = w.programs;
    w.programs.getent = args => (args.includes('-s') ? getent?.(args) : { code: 124 });
    await run(w);
    expect(groupOf(w, 'generation/2')).toContain('cert:x:500:');
  });

  it('leaves stable, master and no trace if it dies anywhere, and is completed by the next', async () => {
    let deaths = 0;
    for (let at = 1; ; at++) {
      const { w } = await machine({ groups: { wire: 110 }, image: 'wire:x:120:\n' });
      w.newProcess();
      w.dieAt = at;
      const end = await run(w).catch(error => error);
      if (!(end instanceof Error)) break;
      expect(end instanceof Died || w.calls >= at).toBe(true);
      deaths += 1;
      w.newProcess();
      expect((await run(w)).result).toMatch(/promoted|unchanged/);
      const { host, paths } = w.machine();
      expect(groupOf(w, `generation/${stableNumber(host, paths)}`)).toContain('wire:x:110:');
      expect(groupOf(w, 'master/master')).toContain('wire:x:110:');
      expect(host.list(paths.state).filter(name => name.startsWith('renumber'))).toEqual([]);
      const sealed = generationNumbers(host, paths).map(n => ownersPath(paths, n));
      const lists = host.list(paths.generations).filter(name => name.includes('.owners'));
      expect(sealed).toEqual(expect.arrayContaining(lists.map(name => `${paths.generations}/${name}`)));
    }
    expect(deaths).toBeGreaterThan(20);
  });

  it('is completed in a working copy that must be kept, because it is the last tree', async () => {
    const { w, asked } = await machine({ groups: {}, image: '' });
    const on = devices(w);
    await w.backend().rename(masterOf(pool), workOf(pool));
    w.volumes.delete(`${pool.path}/generation/1`);
    w.put(`${on.paths.state}/renumber.list`, '');
    w.put(`${on.paths.state}/renumber.json`, '{"group":"root:x:0:\\nwire:x:110:\\n"}');
    expect(await keepLastTree(on, pool)).toBe(true);
    expect(asked).toEqual(['apply']);
    expect(groupOf(w, 'master/master')).toBe('root:x:0:\nwire:x:110:\n');
    expect(w.host.list(on.paths.state).filter(name => name.startsWith('renumber'))).toEqual([]);
  });
});

it('doctor names what the next update will change', async () => {
  const { w } = await machine({ groups: { robotics: 7702, wire: 110 }, image: '' });
  const examine = async () => {
    const on = { ...w.machine(), host: readOnly(w.host), file: '/c', invalid: undefined };
    const [result] = await runChecks(on, [numberCheck]);
    return result?.findings.map(f => `${f.level}: ${f.what} | ${f.fix}`);
  };
  const etc = `${pool.path}/generation/1/etc`;
  w.makeDirs(etc);
  expect(await examine()).toEqual([]);
  w.host.write(`${etc}/group`, 'root:x:0:\ncert:x:7702:\nwire:x:120:\n', { mode: 0o644 });
  expect(await examine()).toEqual([
    'warning: the group "wire" has number 120 in generation 1, but 110 on the host | mayfly update',
    'warning: the group "cert" has number 7702 in generation 1, which the host gives to another name ("getent group 7702") | mayfly update',
  ]);
});
