/** When sessions are brought up to date with the host. */
import { expect, it } from 'vitest';
import { hostChanges, hostSnapshot } from '../../src/service/host-changes.ts';
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
