/** A crash at every call of start, stop and recover: what happens next must restore the state of before. */
import { describe, expect, it } from 'vitest';
import { recover } from '../../src/service/recover.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { destroy } from '../../src/update/destroy.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

/** Everything that is created on first use exists; bob is logged in and has a process in his session. */
async function world(): Promise<World> {
  const w = preparedWorld();
  await login(w.machine(), callOf(w, 'bob', ':9'));
  const bob = readSessions(w.host, w.machine().paths)[0];
  if (bob) w.enter(bob.root);
  w.newProcess();
  return w;
}

const start = (w: World) => login(w.machine(), callOf(w, 'alice', ':0'));
const finish = (w: World) => logout(w.machine(), callOf(w, 'alice', ':0'), (s, on) => stop(on, s));

/** Number of effects of `act` on a new copy of the world. */
async function count(
  prepare: (w: World) => Promise<unknown>,
  act: (w: World) => Promise<unknown>,
): Promise<number> {
  const w = await world();
  await prepare(w);
  w.newProcess();
  await act(w);
  return w.calls;
}

async function dieAt(w: World, n: number, act: (w: World) => Promise<unknown>): Promise<void> {
  w.newProcess();
  w.dieAt = n;
  await act(w).catch(() => undefined);
}

/** Alice is in her session, with processes that ignore SIGTERM. */
async function used(w: World): Promise<void> {
  await start(w);
  const alice = readSessions(w.host, w.machine().paths).find(s => s.user.name === 'alice');
  if (alice) for (const stubborn of [true, false]) w.enter(alice.root, stubborn);
}

const nothing = async (): Promise<void> => undefined;

describe.each([
  ['start', nothing, start],
  ['stop', used, finish],
] as const)('a crash at any call of %s', (_name, prepare, act) => {
  it('is repaired by recover in the same boot, without touching other sessions', async () => {
    const before = (await world()).picture();
    const total = await count(prepare, act);
    expect(total).toBeGreaterThan(10);
    for (let n = 1; n <= total; n++) {
      const w = await world();
      await prepare(w);
      await dieAt(w, n, act);
      w.newProcess();
      const result = await recover(w.machine());
      // A start that made its last call has succeeded; a stop that did not begin leaves the session live.
      if (readSessions(w.host, w.machine().paths).some(s => s.user.name === 'alice')) {
        expect(n).toBeLessThanOrEqual(act === finish ? 2 : 0);
        await finish(w);
      }
      expect(result.stuck, `died at ${n}`).toEqual([]);
      expect(w.picture(), `died at ${n}`).toBe(before);
    }
  });

  it('is repaired by the next hook', async () => {
    const before = (await world()).picture();
    const total = await count(prepare, act);
    for (let n = 1; n <= total; n++) {
      const w = await world();
      await prepare(w);
      await dieAt(w, n, act);
      w.newProcess();
      // The next login of the same user on the same display gets a new session; after it nothing of either is left.
      const s = await start(w);
      expect(s?.state, `died at ${n}`).toBe('live');
      await finish(w);
      w.newProcess();
      await recover(w.machine());
      expect(w.picture(), `died at ${n}`).toBe(before);
    }
  });

  it('is repaired by recover after a reboot', async () => {
    const clean = await world();
    clean.reboot();
    await recover(clean.machine());
    const before = clean.picture();
    const total = await count(prepare, act);
    for (let n = 1; n <= total; n++) {
      const w = await world();
      await prepare(w);
      await dieAt(w, n, act);
      w.reboot();
      const result = await recover(w.machine());
      expect(result.stuck, `died at ${n}`).toEqual([]);
      expect(w.picture(), `died at ${n}`).toBe(before);
    }
  });
});

describe('without a record, as after a reboot', () => {
  it('a schroot entry that has lost its text is removed, also if the volume is gone', async () => {
    const w = await world();
    await start(w);
    const { paths } = w.machine();
    const [s] = readSessions(w.host, paths, 1001);
    w.reboot();
    for (const key of w.volumes.keys()) if (key.includes(s?.id ?? '-')) w.volumes.delete(key);
    w.put(`${paths.schroot}/mayfly-${s?.id}`, '');
    const others = ['mayfly-notes', 'other-u1001-0000000b'];
    for (const name of others) w.put(`${paths.schroot}/${name}`, '');
    expect((await recover(w.machine())).stuck).toEqual([]);
    expect(w.host.list(paths.schroot)).toEqual(others);
  });
  it('a schroot entry is removed also where no pool is on record', async () => {
    const w = await world();
    await start(w);
    const { paths } = w.machine();
    w.reboot();
    for (const path of [paths.poolFile, `${paths.generations}/1.json`]) w.host.unlink(path);
    expect((await recover(w.machine())).swept).toHaveLength(2);
    expect(w.host.list(paths.schroot)).toEqual([]);
  });
  it('destroy leaves no schroot entry, but those of others', async () => {
    const w = await world();
    const { paths } = w.machine();
    const [s] = readSessions(w.host, paths);
    w.reboot();
    w.put(`${paths.schroot}/mayfly-u1001-0000000a`, '[x]\ndirectory=/elsewhere/roots/u1001-0000000a\n');
    await destroy(w.machine());
    expect(s && w.host.list(paths.schroot)).toEqual(['mayfly-u1001-0000000a']);
  });
});

describe('a crash at any call of recover', () => {
  it('is repaired by another recover', async () => {
    const before = (await world()).picture();
    const broken = async (): Promise<World> => {
      const w = await world();
      await used(w);
      await dieAt(w, 8, finish);
      return w;
    };
    const probe = await broken();
    probe.newProcess();
    await recover(probe.machine());
    const total = probe.calls;
    expect(total).toBeGreaterThan(5);
    for (let n = 1; n <= total; n++) {
      const w = await broken();
      await dieAt(w, n, x => recover(x.machine()));
      w.newProcess();
      await recover(w.machine());
      expect(w.picture(), `died at ${n}`).toBe(before);
    }
  });

  it('leaves nothing to do after a complete recover', async () => {
    const w = await world();
    await used(w);
    await dieAt(w, 8, finish);
    w.newProcess();
    await recover(w.machine());
    w.newProcess();
    expect(await recover(w.machine())).toEqual({ ended: [], swept: [], stuck: [] });
    expect(w.calls).toBe(2); // the health line: written and renamed
  });
});

it('a logout removes what a killed writer has left in the directory of the user', async () => {
  const w = await world();
  const before = w.picture();
  await start(w);
  w.put('/run/mayfly/users/1001/.session.4242.tmp', '');
  await finish(w);
  w.newProcess();
  expect(w.picture()).toBe(before);
});
