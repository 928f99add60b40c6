/** Death at every call of start, stop and recover: what reality does next must leave the state as it was before. */
import { describe, expect, it } from 'vitest';
import { recover } from '../../src/service/recover.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

/** Everything made on first use is there, bob is logged in and has a process in his session. */
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

/** How many effects `act` has on a fresh copy of the world. */
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

/** Alice in her session, with processes that do not want to go. */
async function used(w: World): Promise<void> {
  await start(w);
  const alice = readSessions(w.host, w.machine().paths).find(s => s.user.name === 'alice');
  if (alice) for (const stubborn of [true, false]) w.enter(alice.root, stubborn);
}

const nothing = async (): Promise<void> => undefined;

describe.each([
  ['start', nothing, start],
  ['stop', used, finish],
] as const)('death at every call of %s', (_name, prepare, act) => {
  it('is mended by recover on the same boot, and no other session is touched', async () => {
    const before = (await world()).picture();
    const total = await count(prepare, act);
    expect(total).toBeGreaterThan(10);
    for (let n = 1; n <= total; n++) {
      const w = await world();
      await prepare(w);
      await dieAt(w, n, act);
      w.newProcess();
      const result = await recover(w.machine());
      // A start that had done its last call has succeeded; a stop that had not begun leaves the session alive.
      if (readSessions(w.host, w.machine().paths).some(s => s.user.name === 'alice')) {
        expect(n).toBeLessThanOrEqual(act === finish ? 2 : 0);
        await finish(w);
      }
      expect(result.stuck, `died at ${n}`).toEqual([]);
      expect(w.picture(), `died at ${n}`).toBe(before);
    }
  });

  it('is mended by the hook that comes next', async () => {
    const before = (await world()).picture();
    const total = await count(prepare, act);
    for (let n = 1; n <= total; n++) {
      const w = await world();
      await prepare(w);
      await dieAt(w, n, act);
      w.newProcess();
      // The next login of the same person at the same display: a fresh session, and after it nothing of either.
      const s = await start(w);
      expect(s?.state, `died at ${n}`).toBe('live');
      await finish(w);
      w.newProcess();
      await recover(w.machine());
      expect(w.picture(), `died at ${n}`).toBe(before);
    }
  });

  it('is mended by recover after a reboot', async () => {
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

describe('death at every call of recover', () => {
  it('is mended by recover', async () => {
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

  it('finds nothing to do the second time', async () => {
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
