/** A crash at every call of start, stop and recover: what happens next must restore the state of before. */
import { describe, expect, it } from 'vitest';
import type { Host } from '../../src/linux/host.ts';
import { recover } from '../../src/service/recover.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import { deleteSession, moveRecord, readSessions } from '../../src/state/sessions.ts';
import { destroy } from '../../src/update/destroy.ts';
import { pins } from '../../src/update/retention.ts';
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

/** Nobody is logged in. */
async function fresh(): Promise<World> {
  const w = await world();
  w.reboot();
  await recover(w.machine());
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

describe('records on disk, where an earlier version wrote them', () => {
  /** Alice and bob are logged in, and their records are on disk; "both": alice's is also where it is now, and newer. */
  async function upgraded(both = false): Promise<World> {
    const w = await world();
    await start(w);
    const { paths } = w.machine();
    w.makeDirs(paths.oldSessions);
    for (const s of readSessions(w.host, paths)) {
      const text = JSON.stringify(both ? { ...s, state: 'starting' } : s);
      w.put(`${paths.oldSessions}/${s.id}.json`, text);
      if (!both) w.host.unlink(`${paths.sessions}/${s.id}.json`);
    }
    w.newProcess();
    return w;
  }
  const on = (w: World): string[] => w.host.list(w.machine().paths.oldSessions);

  it.each([false, true])('are taken over by recover, which ends none of them', async both => {
    const w = await upgraded(both);
    const before = readSessions(w.host, w.machine().paths);
    expect(before.map(s => s.state)).toEqual(['live', 'live']);
    expect(await recover(w.machine())).toEqual({ ended: [], swept: [], stuck: [] });
    expect(on(w)).toEqual([]);
    expect(readSessions(w.host, w.machine().paths)).toEqual(before);
  });
  it('are found by a second login, by a logout and by a retirement before that', async () => {
    const w = await upgraded();
    const { paths } = w.machine();
    const joined = await login(w.machine(), callOf(w, 'alice', ':1'));
    expect(joined?.logins.map(l => l.display)).toEqual([':0', ':1']);
    expect(on(w)).toHaveLength(2); // where a process of the earlier version sees it, too
    expect(w.host.list(paths.sessions)).toEqual([]);
    expect(pins(w.machine())?.get(1)).toBe(2);
    expect(await logout(w.machine(), callOf(w, 'bob', ':9'), (s, m) => stop(m, s))).toBe('ended');
    expect(on(w)).toHaveLength(1);
    expect(readSessions(w.host, paths).map(s => s.user.name)).toEqual(['alice']);
  });
  it('are moved or removed whole, whenever a login or logout dies', async () => {
    const act = (w: World) => logout(w.machine(), callOf(w, 'alice', ':0'), (s, m) => stop(m, s));
    const probe = await upgraded();
    await act(probe);
    for (let n = 1; n <= probe.calls; n++) {
      const w = await upgraded();
      await dieAt(w, n, act);
      w.newProcess();
      await recover(w.machine());
      const left = readSessions(w.host, w.machine().paths).map(s => `${s.user.name} ${s.state}`);
      expect(
        left.filter(who => who !== 'alice live'),
        `died at ${n}`,
      ).toEqual(['bob live']);
      if (n > 2) expect(left).toHaveLength(1);
    }
  });
  it('stay while an update runs, which may be of the earlier version and must see its pins', async () => {
    const w = await upgraded();
    const { paths } = w.machine();
    const m = w.machine();
    let opened = '';
    const host: Host = {
      ...m.host,
      openLock: path => {
        opened = path;
        return m.host.openLock(path);
      },
      run: async c =>
        c.file === 'flock' && opened === `${paths.locks}/update`
          ? { code: 75, stdout: '', stderr: '' }
          : m.host.run(c),
    };
    expect(await recover({ ...m, host })).toEqual({ ended: [], swept: [], stuck: [] });
    expect(on(w)).toHaveLength(2);
    await recover(w.machine());
    expect(on(w)).toEqual([]);
    expect(w.host.list(paths.sessions)).toHaveLength(2);
  });
  it('are seen by whoever lists while they move', async () => {
    const w = await upgraded();
    const { paths } = w.machine();
    for (const first of [paths.oldSessions, paths.sessions]) {
      const all = readSessions(w.host, paths);
      const list = (path: string): string[] => {
        const names = w.host.list(path);
        if (path === first) for (const s of all) moveRecord(w.host, paths, s);
        return names;
      };
      expect(readSessions({ ...w.host, list }, paths)).toHaveLength(2);
      expect(pins({ ...w.machine(), host: { ...w.host, list } })?.get(1)).toBe(2);
      for (const s of all) {
        w.put(`${paths.oldSessions}/${s.id}.json`, JSON.stringify(s));
        w.host.unlink(`${paths.sessions}/${s.id}.json`);
      }
    }
  });
  it('go with their session, also where there was no room to move them', async () => {
    const w = await upgraded();
    const { paths } = w.machine();
    for (const s of readSessions(w.host, paths)) deleteSession(w.host, paths, s.id);
    expect(readSessions(w.host, paths)).toEqual([]);
  });
  it('are those of sessions that are over, after a reboot', async () => {
    const w = await upgraded();
    w.reboot();
    expect((await recover(w.machine())).ended).toHaveLength(2);
    expect(w.host.lstat(w.machine().paths.oldSessions)).toBeUndefined();
    expect(w.volumes.size).toBe((await fresh()).volumes.size);
  });
});

it('the directory of records is made root’s: what is in there is believed', async () => {
  const w = await world();
  const { paths } = w.machine();
  w.reboot();
  w.makeDirs(paths.sessions);
  w.chown(paths.sessions, 1001, 0o777);
  await start(w);
  expect(w.host.lstat(paths.sessions)).toMatchObject({ uid: 0, mode: 0o700 });
});

describe('without a record, as after a reboot', () => {
  it('a schroot entry is removed also where no pool is on record', async () => {
    const w = await world();
    await start(w);
    const { paths } = w.machine();
    w.reboot();
    for (const path of [paths.poolFile, `${paths.generations}/1.json`]) w.host.unlink(path);
    expect((await recover(w.machine())).swept).toHaveLength(2);
    expect(w.host.list(paths.schroot)).toEqual([]);
  });
  it('an entry that has lost its text in the power cut is removed', async () => {
    const w = await world();
    const { paths } = w.machine();
    const [s] = readSessions(w.host, paths);
    w.reboot();
    for (const name of [...w.volumes.keys()]) if (s && name.includes(s.id)) w.volumes.delete(name);
    w.put(`${paths.schroot}/mayfly-${s?.id}`, '');
    w.put(`${paths.schroot}/mayfly-own`, '');
    await recover(w.machine());
    expect(w.host.list(paths.schroot)).toEqual(['mayfly-own']);
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
