/** When sessions are brought up to date with the host. */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, it, onTestFinished } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import { changedCopies, hostChanges, hostSnapshot } from '../../src/service/host-changes.ts';
import { login } from '../../src/session/session.ts';
import { readSessions, writeSession } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const CUPS = '/run/cups';

function replace(w: World, path: string): void {
  w.host.rmdir(path);
  w.host.mkdir(path, 0o755);
}

async function begin(w: World) {
  replace(w, CUPS);
  const s = await login(w.machine(), callOf(w, 'alice', ':0'));
  if (!s) throw new Error('out of scope');
  const changes = hostChanges();
  const look = async (): Promise<boolean> => {
    w.ran.length = 0;
    const on = w.machine();
    return changes.apply(on, readSessions(w.host, on.paths), hostSnapshot(on));
  };
  const refreshed = (): string[] =>
    w.ran.filter(line => line.startsWith('timeout')).map(line => line.split(' -- ')[1] ?? '');
  return { s, look, refreshed };
}

it('a session of before the service began is brought up to date once, and again after each change', async () => {
  const w = preparedWorld();
  const { s, look, refreshed } = await begin(w);
  expect(await look()).toBe(true);
  expect(refreshed()).toHaveLength(1);
  expect(refreshed()[0]).toContain(`${s.root} alice `);
  expect(await look()).toBe(true);
  expect(refreshed()).toEqual([]);
  replace(w, CUPS);
  await look();
  expect(refreshed()).toHaveLength(1);
  w.host.write('/etc/shadow', 'alice:!locked:1::::::\n', { mode: 0o640 });
  await look();
  expect(refreshed()).toHaveLength(1);
  expect(refreshed().join()).not.toContain('locked');
  await look();
  expect(refreshed()).toEqual([]);
});

it('a new session is not brought up to date if nothing has changed since, and waits until it is complete', async () => {
  const w = preparedWorld();
  const { s, look, refreshed } = await begin(w);
  await look();
  const { paths } = w.machine();
  writeSession(w.host, paths, {
    ...s,
    id: 'u1002-00000001',
    root: `${paths.roots}/u1002-00000001`,
    user: { ...s.user, uid: 1002, name: 'bob' },
    volume: { ...s.volume, name: 'u1002-00000001' },
    state: 'starting',
  });
  expect(await look()).toBe(true);
  expect(refreshed()).toEqual([]);
  replace(w, CUPS);
  expect(await look()).toBe(false); // it may have mounted the old directory
  expect(refreshed()).toHaveLength(1);
  const bob = readSessions(w.host, paths, 1002)[0];
  if (!bob) throw new Error('no record');
  writeSession(w.host, paths, { ...bob, state: 'live' });
  expect(await look()).toBe(true);
  expect(refreshed().map(line => line.includes('bob'))).toEqual([true]);
});

it('a session that is ending, or of an earlier boot, is left alone', async () => {
  const w = preparedWorld();
  const { s, look, refreshed } = await begin(w);
  for (const change of [{ state: 'ending' }, { boot: 'earlier' }] as const) {
    writeSession(w.host, w.machine().paths, { ...s, ...change });
    expect(await look()).toBe(true);
    expect(refreshed()).toEqual([]);
  }
});

it('a file that is copied to sessions is copied again after it has changed, and no other', async () => {
  const w = preparedWorld();
  w.host.write('/etc/hosts', 'one', { mode: 0o644 });
  w.host.write('/etc/resolv.conf', 'one', { mode: 0o644 });
  const { look, refreshed } = await begin(w);
  const copied = (): string[] =>
    refreshed()
      .join(' ')
      .match(/\/etc\/[a-z.]+/g) ?? [];
  await look();
  expect(copied()).toContain('/etc/hosts'); // whatever happened before the service began
  w.host.write('/etc/hosts', 'two', { mode: 0o644 });
  await look();
  expect(copied()).toEqual(['/etc/hosts']);
  w.host.symlink('/run/resolver', '/etc/resolv.conf');
  await look();
  expect(copied()).toEqual(['/etc/resolv.conf']);
  await look();
  expect(refreshed()).toEqual([]);
});

it.each([
  ['a file', (at: string) => fs.writeFileSync(`${at}/f`, 'other'), '/f'],
  ['a file that was renamed', (at: string) => fs.renameSync(`${at}/h`, `${at}/f`), '/f'],
  ['a file that is gone', (at: string) => fs.rmSync(`${at}/f`), '/f'],
  ['the target of a symlink', (at: string) => fs.writeFileSync(`${at}/g`, 'other'), '/l'],
  ['the target of a symlink that was renamed', (at: string) => fs.renameSync(`${at}/f`, `${at}/g`), '/f /l'],
  ['a symlink', (at: string) => fs.rmSync(`${at}/l`), '/l'],
  ['nothing', () => undefined, ''],
])('a change is seen of %s', (_what, change, expected) => {
  const at = fs.mkdtempSync(`${tmpdir()}/mayfly-changes-`);
  onTestFinished(() => fs.rmSync(at, { recursive: true }));
  for (const name of ['f', 'g', 'h']) fs.writeFileSync(`${at}/${name}`, name);
  fs.symlinkSync('g', `${at}/l`);
  const identity = { copy: ['f', 'l'].map(name => `${at}/${name}`) };
  const on = { host: realHost(), config: { mounts: { bind: [], rbind: [] }, identity } } as never;
  const before = hostSnapshot(on);
  change(at);
  expect(changedCopies({ identity }, before, hostSnapshot(on)).join(' ').replaceAll(at, '')).toBe(expected);
});

it.each([
  ['of root, in a directory of root', '/srv/lab/tool', {}, true],
  ['in a directory of somebody else', '/srv/lab/tool', { uid: 1001 }, false],
  ['in a directory where others can write', '/srv/lab/tool', { mode: 0o777 }, false],
  ['that each login finds as it is', '/proc', {}, false],
])('a shared path of the administrator is looked at: one %s', (_what, path, owner, expected) => {
  const w = preparedWorld();
  w.makeDirs('/srv/lab/tool');
  const stat = (at: string) => {
    const there = w.host.stat(at);
    return there && { ...there, uid: 0, mode: 0o755, ...(at === '/srv/lab' ? owner : {}) };
  };
  const host = { ...w.host, stat, lstat: stat } as never;
  for (const [list, other] of [
    ['bind', 'rbind'],
    ['rbind', 'bind'],
  ] as const) {
    if (list === 'rbind' && path === '/proc') continue; // only the default list of `bind` has it
    const config = { mounts: { [list]: [path], [other]: [] }, identity: { copy: [] } } as never;
    expect(hostSnapshot({ host, config }).includes(`${path} `)).toBe(expected);
  }
});

it('a directory with all its mounts that the host has made since the login is shown with them', async () => {
  const w = preparedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', 'mounts.rbind = ["/home", "/run/media"]\n');
  const { look, refreshed } = await begin(w);
  await look();
  w.makeDirs('/run/media');
  await look();
  expect(refreshed()[0]).toMatch(/ \/run\/media all( |$)/);
  expect(refreshed()[0]).toMatch(/ \/run\/cups {2}/);
});

it.each([
  [undefined, '/a 1\n/b 1', ['/a', '/b']],
  ['/a 1\n/b 1', '/a 1\n/b 2', ['/b']],
  ['/a 1\n/ab 1', '/a 1\n/ab 2', []],
  ['/a 1', '/a \n/etc/machine-id 2', ['/a']],
])('between the snapshots %j and %j, %j have changed', (before, now, expected) => {
  const identity = { copy: ['/a', '/b', '/etc/machine-id'] };
  expect(changedCopies({ identity }, before, now)).toEqual(expected);
});
