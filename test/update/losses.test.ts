/** What a new generation must not lack of the stable one, and what is only told. */
import { describe, expect, it } from 'vitest';
import { logTo } from '../../src/linux/log.ts';
import { login } from '../../src/session/session.ts';
import { stableNumber } from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readHistory } from '../../src/state/update-history.ts';
import { gatherHealth, healthLine } from '../../src/update/health.ts';
import { loadedVersions, type PairVersions, treeVersions } from '../../src/update/kernel-pairs.ts';
import { type Inventory, planLosses, readInventory } from '../../src/update/losses.ts';
import { installedPackages } from '../../src/update/packages.ts';
import { update } from '../../src/update/update.ts';
import { masterOf, type Volume, workOf } from '../../src/volume/backend.ts';
import { callOf, preparedWorld, World } from '../world.ts';

const stanza = (name: string, more = ''): string =>
  `Package: ${name}\nStatus: install ok installed\nVersion: 1\n${more}\n`;

describe('the database of dpkg', () => {
  it.each([
    ['an installed package', stanza('a'), ['a']],
    ['one on hold', 'Package: a\nStatus: hold ok installed\n\n', ['a']],
    ['one that waits for a trigger', 'Package: a\nStatus: install ok triggers-awaited\n\n', ['a']],
    [
      'one that was removed, of which settings are left',
      'Package: a\nStatus: deinstall ok config-files\n\n',
      [],
    ],
    ['one that is half installed', 'Package: a\nStatus: install reinstreq half-installed\n\n', []],
    [
      'one for two architectures',
      stanza('a', 'Architecture: amd64\n') + stanza('a', 'Architecture: i386\n'),
      ['a'],
    ],
    ['none', '', []],
  ])('with %s', (_what, text, names) => expect([...installedPackages(text).keys()]).toEqual(names));

  it('tells what packages provide and replace, also in several lines', () => {
    const text = stanza(
      'a',
      'Section: contrib/web\nProvides: www-browser (= 1),\n b:any\nReplaces: old (<< 2), older\n',
    );
    expect(installedPackages(text).get('a')).toEqual({
      ...{ version: '1', section: 'contrib/web', provides: ['www-browser', 'b'], replaces: ['old', 'older'] },
    });
  });
});

describe('losses', () => {
  const packages = (...texts: string[]) =>
    installedPackages(texts.map(t => stanza(...(t.split('|') as [string]))).join('\n'));
  const tree = (o: Partial<Record<'desktops' | 'programs' | 'packages', string[]>>): Inventory => ({
    desktops: new Set(o.desktops ?? []),
    programs: new Set(o.programs ?? []),
    packages: packages(...(o.packages ?? [])),
    pairs: new Map(),
  });
  const many = (n: number, more = ''): string[] => Array.from({ length: n }, (_, i) => `p${i}${more}`);
  const limits = { protect: ['passwd'], packages: ['wanted'], max_removals: 3 };
  it.each([
    ['nothing', { desktops: ['x/a'] }, { desktops: ['x/a'] }, '', ''],
    ['the last desktop', { desktops: ['x/a'] }, {}, 'no desktop is left of x/a', 'desktop x/a'],
    [
      'all desktops',
      { desktops: ['x/b', 'w/a'] },
      {},
      'no desktop is left of w/a, x/b',
      'desktop w/a, desktop x/b',
    ],
    ['one desktop of two', { desktops: ['x/a', 'x/b'] }, { desktops: ['x/b'] }, '', 'desktop x/a'],
    [
      'all desktops for X, with one for Wayland',
      { desktops: ['x/a'] },
      { desktops: ['w/a'] },
      '',
      'desktop x/a',
    ],
    ['no desktop, where there was none', {}, { desktops: ['x/a'] }, '', ''],
    ['a display server', { programs: ['display server Xorg'] }, {}, '', 'display server Xorg'],
    [
      'a shell',
      { programs: ['shell /bin/zsh', 'shell /bin/sh'] },
      { programs: ['shell /bin/sh'] },
      '',
      'shell /bin/zsh',
    ],
    ['a browser', { packages: ['fox|Provides: www-browser\n'] }, {}, '', 'package fox'],
    ['a metapackage', { packages: ['xfce4|Section: metapackages\n'] }, {}, '', 'package xfce4'],
    ['a task', { packages: ['task-kde-desktop'] }, {}, '', 'package task-kde-desktop'],
    ['a package that is configured', { packages: ['wanted'] }, {}, '', 'package wanted'],
    ['a package that nobody knows', { packages: ['p'] }, {}, '', ''],
    [
      'a protected package',
      { packages: ['passwd'] },
      {},
      'protected packages are gone: passwd',
      'package passwd',
    ],
    [
      'a protected package with an heir',
      { packages: ['passwd'] },
      { packages: ['new|Replaces: passwd\n'] },
      '',
      'package passwd',
    ],
    [
      'a browser with an heir',
      { packages: ['fox|Provides: www-browser\n'] },
      { packages: ['fox2|Provides: fox\n'] },
      '',
      '',
    ],
    [
      'a browser whose heir was there before',
      { packages: ['fox|Provides: www-browser\n', 'cat|Replaces: fox\n'] },
      { packages: ['cat|Replaces: fox\n'] },
      '',
      'package fox',
    ],
    ['as many packages as may go', { packages: many(3) }, {}, '', ''],
    [
      'more packages',
      { packages: many(4) },
      {},
      '4 packages are gone, and "update.max_removals" is 3: p0, p1, p2, p3',
      '',
    ],
    ['many libraries', { packages: many(9, '|Section: contrib/libs\n') }, {}, '', ''],
    ['many kernels', { packages: many(9).map(n => `linux-image-${n}`) }, {}, '', ''],
    [
      'many packages with heirs',
      { packages: many(9) },
      { packages: [`q|Replaces: ${many(9).join(', ')}\n`] },
      '',
      '',
    ],
  ])('%s', (_what, before, after, failures, lost) => {
    const found = planLosses(tree(before), tree(after), limits);
    expect([found.failures.join('; '), found.lost.join(', ')]).toEqual([failures, lost]);
  });
  it('no package may go with max_removals = 0', () =>
    expect(
      planLosses(tree({ packages: ['p'] }), tree({}), { ...limits, max_removals: 0 }).failures,
    ).toHaveLength(1));
  it('names ten packages of many', () =>
    expect(planLosses(tree({ packages: many(40) }), tree({}), limits).failures[0]).toMatch(
      /: p0,.*, p17 and 30 more$/,
    ));
});

describe('a shell', () => {
  const of = (root: string, shells: string, files: readonly string[], w: World): void => {
    w.makeDirs(`${root}/etc`);
    w.put(`${root}/etc/shells`, shells);
    for (const path of files) {
      w.makeDirs(root + path.replace(/\/[^/]*$/, ''));
      w.put(root + path, '');
    }
  };
  const limits = { protect: [], packages: [], max_removals: 3 };
  it.each([
    ['listed no more under one of its paths is not lost', ['/bin/dash', '/usr/bin/dash'], []],
    ['whose file is gone is lost', ['/usr/bin/dash'], ['shell /bin/dash']],
  ])('%s', (_what, files, lost) => {
    const w = new World();
    of('/old', '/bin/dash\n/usr/bin/dash\n/bin/gone\n', ['/bin/dash', '/usr/bin/dash'], w);
    of('/new', '# shells\n/usr/bin/dash\n', files, w);
    const before = readInventory(w.host, '/old');
    expect(planLosses(before, readInventory(w.host, '/new', before), limits).lost).toEqual(lost);
  });
});

describe('what must match the running kernel', () => {
  const NVRM =
    'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: 12\n';
  const OPEN = 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build  (a@b)\n';
  it.each([
    ['/proc/driver/nvidia/version', NVRM, 'NVIDIA', '535.183.01'],
    ['/proc/driver/nvidia/version', OPEN, 'NVIDIA', '550.54.14'],
    ['/sys/module/nvidia/version', '470.256.02\n', 'NVIDIA', '470.256.02'],
    ['/sys/module/vboxguest/version', '7.0.20 r163906\n', 'VirtualBox Guest Additions', '7.0.20'],
    ['/sys/module/zfs/version', '2.1.11-1\n', 'ZFS', '2.1.11'],
    ['/sys/module/evdi/version', '1.14.1\n', 'DisplayLink (evdi)', '1.14.1'],
  ])('is read from %s', (path, text, name, version) => {
    const { host } = new World();
    expect(loadedVersions({ ...host, read: at => (at === path ? text : undefined) })).toEqual(
      new Map([[name, [version]]]),
    );
  });
  it('is found in a tree, also in the directories of which Debian chooses one', () => {
    const w = new World();
    for (const path of ['/t/usr/lib/x86_64-linux-gnu/nvidia/current', '/t/usr/lib64']) w.makeDirs(path);
    w.put('/t/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.183.01', '');
    w.put('/t/usr/lib64/libnvidia-glcore.so.470.256.02', '');
    w.put('/t/usr/lib/x86_64-linux-gnu/libcuda.so.1', '');
    const found = treeVersions(w.host, '/t', name =>
      name === 'zfsutils-linux' ? '1:2.3.1-1~bpo' : undefined,
    );
    expect(found).toEqual(
      new Map([
        ['NVIDIA', ['470.256.02', '535.183.01']],
        ['ZFS', ['2.3.1']],
      ]),
    );
  });
  const v = (name: string, ...versions: string[]) => new Map([[name, versions]]);
  const GPU = 'NVIDIA';
  const ZFS = 'ZFS';
  const bare = { desktops: new Set<string>(), programs: new Set<string>(), packages: new Map() };
  it.each([
    ['is the same', v(GPU, '1.2.3'), v(GPU, '1.2.3'), v(GPU, '1.2.3'), 0, 0],
    ['was the same, and differs', v(GPU, '1.2.3'), v(GPU, '1.2.3'), v(GPU, '1.2.4'), 1, 0],
    ['is one of several', v(GPU, '1.2.3'), v(GPU, '1.2.3'), v(GPU, '1.2.3', '9.9'), 0, 0],
    ['differed before', v(GPU, '1.2.3'), v(GPU, '1.2.2'), v(GPU, '1.2.4'), 0, 1],
    ['is new, and differs', v(GPU, '1.2.3'), new Map(), v(GPU, '1.2.4'), 0, 1],
    ['is not there', v(GPU, '1.2.3'), new Map(), new Map(), 0, 0],
    ['has no module', new Map(), v(GPU, '1.2.3'), v(GPU, '1.2.4'), 0, 0],
    ['is mended', v(GPU, '1.2.3'), v(GPU, '1.2.2'), v(GPU, '1.2.3'), 0, 0],
    ['may differ in its last part', v(ZFS, '2.1.11'), v(ZFS, '2.1.11'), v(ZFS, '2.1.15'), 0, 0],
    ['differs, and works for the most part', v(ZFS, '2.1.11'), v(ZFS, '2.1.11'), v(ZFS, '2.3.1'), 0, 1],
  ])('%s', (_what, loaded: PairVersions, before: PairVersions, after: PairVersions, failures, warnings) => {
    const limits = { protect: [], packages: [], max_removals: 20 };
    const found = planLosses({ ...bare, pairs: before }, { ...bare, pairs: after }, limits, loaded);
    expect([found.failures.length, found.warnings.length]).toEqual([failures, warnings]);
  });
});

describe('a night', () => {
  const pool = { backend: 'overlay' as const, path: '/var/lib/mayfly/pool' };
  const entry = '[Desktop Entry]\nName=A\nExec=a\n';
  const BEFORE = {
    '/usr/share/xsessions/a.desktop': entry,
    '/usr/share/wayland-sessions/b.desktop': entry.replace('Exec', 'TryExec=b\nExec'),
    '/usr/bin/a': '',
    '/usr/bin/b': '',
    '/usr/bin/firefox': '',
  };
  const write = (w: World, volume: string, files: Readonly<Record<string, string | undefined>>): void => {
    const nodes = w.volumes.get(volume)?.nodes;
    const file = nodes?.get('/etc/passwd');
    if (!nodes || !file) throw new Error(volume);
    for (const [path, text] of Object.entries(files)) {
      if (text === undefined) nodes.delete(path);
      else nodes.set(path, { ...file, text });
      for (let at = path; text !== undefined && at !== ''; at = at.slice(0, at.lastIndexOf('/')))
        if (!nodes.has(at)) nodes.set(at, { ...file, kind: 'dir', mode: 0o755, text: '' });
    }
  };
  /** A machine whose generation 1 has two desktops. */
  async function world(): Promise<World> {
    const w = preparedWorld();
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\n');
    const on = w.machine();
    write(w, `${pool.path}/generation/1`, BEFORE);
    await on.backend('overlay').fork({ ...masterOf(pool), role: 'generation', name: '1' }, masterOf(pool));
    return w;
  }
  /** The machine, whose trees are on devices: they are mounted to be looked at. */
  const withDevices = (w: World): Machine => {
    const backend = w.backend();
    const key = (v: Volume): string => backend.path(v) ?? '';
    const attachTree = async (v: Volume, target: string) => ({
      ...{ source: key(v), target, type: 'memory', options: 'rw' },
    });
    return { ...w.machine(), backend: () => ({ ...backend, path: () => undefined, attachTree }) };
  };
  const night = (
    w: World,
    files: Readonly<Record<string, string | undefined>>,
    allow = false,
    journal: string[] = [],
  ) => {
    const log = logTo((_, words) => void journal.push(words));
    const on = { ...withDevices(w), log };
    return update(on, {
      ...{ what: 'an update', origin: 'test', say: () => undefined },
      force: Object.keys(files).length > 0,
      losses: { allow, command: 'allow it' },
      change: async () => {
        write(w, w.backend().path(workOf(pool)) ?? '', files);
        return true;
      },
    });
  };
  const LAST = { '/usr/share/xsessions/a.desktop': undefined, '/usr/bin/b': undefined };

  it('that takes the last desktop away is given up, and says so', async () => {
    const w = await world();
    await expect(night(w, LAST)).rejects.toMatchObject({
      code: 'update',
      message:
        'an update failed in "check": compared with generation 1: no desktop is left of wayland-sessions/b.desktop, xsessions/a.desktop',
      facts: { hint: 'if this is intended: allow it' },
    });
    const on = w.machine();
    expect(stableNumber(on.host, on.paths)).toBe(1);
    const { line } = healthLine(await gatherHealth(on), on.host.now());
    expect(line).toMatch(/^WARNING - the last update failed in check/);
    await expect(night(w, { '/etc/version': 'two' })).resolves.toMatchObject({ result: 'promoted' }); // master is as it was
  });
  it('that the administrator allows to do that does it', async () => {
    const w = await world();
    const done = await night(w, LAST, true);
    expect(done).toMatchObject({ result: 'promoted' });
    expect(done.warnings?.join()).toMatch(/no desktop is left/);
    expect(readHistory(w.host, w.machine().paths)?.lost).toBeUndefined();
  });
  it('tells in the journal and the history which packages are new, also after a night without news', async () => {
    const w = await world();
    const lines: string[] = [];
    const status = '/var/lib/dpkg/status';
    write(w, `${pool.path}/generation/1`, { [status]: stanza('a') });
    const told = () => readHistory(w.host, w.machine().paths)?.changes;
    await night(w, { [status]: stanza('a').replace('Version: 1', 'Version: 2') }, false, lines);
    const changes = { generation: 2, since: 1, packages: '1 package changed: a 1 -> 2' };
    expect(told()).toEqual(changes);
    expect(lines).toContain('generation 2 compared with 1: 1 package changed: a 1 -> 2');
    await night(w, {});
    expect(readHistory(w.host, w.machine().paths)?.result).toBe('unchanged');
    expect(told()).toEqual(changes);
    await night(w, { '/etc/version': 'three' }, false, lines);
    expect([lines.at(-1), lines.filter(line => line.includes(' compared with '))]).toEqual([
      'generation 3 is stable',
      ['generation 2 compared with 1: 1 package changed: a 1 -> 2'],
    ]);
  });
  it('that takes a desktop and a browser away is a warning with names, until another generation is stable', async () => {
    const w = await world();
    const files = { '/usr/share/wayland-sessions/b.desktop': 'damaged', '/usr/bin/firefox': undefined };
    const done = await night(w, files);
    expect(done.warnings).toEqual([
      'compared with generation 1, it lacks: desktop wayland-sessions/b.desktop, browser firefox',
    ]);
    const health = async () => healthLine(await gatherHealth(w.machine()), w.host.now()).line;
    const warns = /^WARNING - generation 2 has lost: desktop wayland-sessions\/b.desktop, browser firefox, /;
    expect(await health()).toMatch(warns);
    await night(w, {});
    expect(readHistory(w.host, w.machine().paths)?.result).toBe('unchanged');
    expect(await health()).toMatch(warns);
    await night(w, { '/etc/version': 'three' });
    expect(await health()).toMatch(/^OK - generation 3/);
  });
  it('replaces a stable generation that is damaged, with which it cannot be compared', async () => {
    const w = await world();
    w.volumes.delete(`${pool.path}/generation/1`);
    const done = await night(w, LAST);
    expect(done).toMatchObject({ result: 'promoted' });
    expect(done.warnings?.join()).toMatch(/was not compared with generation 1: /);
    expect((await login(w.machine(), callOf(w, 'alice', ':0')))?.generation).toBe(2);
  });
});
