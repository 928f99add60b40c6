/** The service completes the erasing of discarded volumes that nobody else completes. */
import { expect, it } from 'vitest';
import { endIfThere } from '../../src/cli/end.ts';
import { logTo } from '../../src/linux/log.ts';
import { discards } from '../../src/service/discards.ts';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { login } from '../../src/session/session.ts';
import { readPool } from '../../src/state/pool.ts';
import { readSessions } from '../../src/state/sessions.ts';
import type { VolumeBackend } from '../../src/volume/backend.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const ID = 'u1001-00000001';

/** A world in which the process that ended a session died before it started to erase the volume. */
async function waiting(): Promise<World> {
  const w = preparedWorld();
  const s = await login(w.machine(), callOf(w, 'alice', ':0'));
  for (let at = 1; w.discarded.size === 0; at++) {
    w.newProcess();
    w.dieAt = at;
    await end(w.machine(), s?.id ?? '').catch(() => undefined);
  }
  w.newProcess();
  return w;
}

/** One look of the service; returns what it logged. */
function looks(w: World, backend: Partial<VolumeBackend> = {}) {
  const on = w.machine();
  const pool = readPool(w.host, on.paths);
  const said: string[] = [];
  const log = logTo((level, words) => void said.push(`${level} ${words}`));
  const service = discards();
  return async (): Promise<string[]> => {
    said.length = 0;
    const machine = { ...on, log, backend: () => ({ ...on.backend('overlay'), ...backend }) };
    if (pool) await Promise.all([service.erase(machine, pool), service.erase(machine, pool)]);
    return [...said];
  };
}

it('the service erases them, and says nothing', async () => {
  const w = await waiting();
  expect(await looks(w)()).toEqual([]);
  expect(w.discarded.size).toBe(0);
});

it('the unit that ends a session waits until its volume is erased, and leaves a failure to the service', async () => {
  for (const works of [true, false]) {
    const w = preparedWorld();
    const s = await login(w.machine(), callOf(w, 'alice', ':0'));
    const on = w.machine();
    const swept: string[] = [];
    const backend: VolumeBackend = {
      ...on.backend('overlay'),
      list: async pool => ({
        ...(await on.backend('overlay').list(pool)),
        discarded: [s?.id ?? '', 'u1002-0000000b'].map(session => ({
          ...{ name: `sessions/.old-${session}`, session, age: 0, deleted: false },
        })),
      }),
      sweep: async (_, name) => {
        swept.push(name);
        if (!works) throw new Error('no');
      },
    };
    await endIfThere({ ...on, backend: () => backend }, s?.id ?? '');
    expect(swept).toEqual([`sessions/.old-${s?.id}`]);
    expect(readSessions(w.host, on.paths)).toEqual([]);
  }
});

it('recovery erases them, unless the service will', async () => {
  const w = await waiting();
  await recover(w.machine(), false);
  expect(readSessions(w.host, w.machine().paths)).toEqual([]);
  expect(w.discarded.size).toBe(1);
  expect(await recover(w.machine())).toMatchObject({ stuck: [] });
  expect(w.discarded.size).toBe(0);
});

it('what cannot be erased is reported: once by the service, each time by recovery', async () => {
  const w = await waiting();
  const sweep = () => Promise.reject(new Error('no'));
  const look = looks(w, { sweep });
  expect(await look()).toEqual([expect.stringMatching(`^warning cannot erase .*${ID}.*: no$`)]);
  expect(await look()).toEqual([]);
  const on = w.machine();
  for (const _ of [1, 2]) {
    const { stuck } = await recover({ ...on, backend: k => ({ ...on.backend(k), sweep }) });
    expect(stuck).toEqual([expect.stringMatching(`${ID}.*: no$`)]);
  }
});

it('space that is held is reported once, for as long as it is', async () => {
  const w = preparedWorld();
  let age = 1000;
  const list: VolumeBackend['list'] = async pool => ({
    ...(await w.backend().list(pool)),
    discarded: [{ name: 'sessions/.old-x', session: ID, age, deleted: true }],
  });
  const look = looks(w, { list });
  expect(await look()).toEqual([]);
  age = 700_000;
  expect(await look()).toEqual([expect.stringMatching(`^warning ${ID} has ended, but its space`)]);
  age = 800_000;
  expect(await look()).toEqual([]);
});
