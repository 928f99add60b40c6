/** What prevents the removal of a generation at the last moment. */
import { describe, expect, it } from 'vitest';
import { login } from '../../src/session/session.ts';
import { readGeneration, stableNumber, writeGeneration } from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { retire } from '../../src/update/retention.ts';
import { rollback } from '../../src/update/rollback.ts';
import { update } from '../../src/update/update.ts';
import { generationOf, masterOf } from '../../src/volume/backend.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const pool = { backend: 'overlay', path: '/var/lib/mayfly/pool' } as const;
const volumeOf = (n: number): string => `${pool.path}/generation/${n}`;

/** Two proven generations; the first is stable. */
async function world(): Promise<World> {
  const w = preparedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\n');
  const on = w.machine();
  const backend = w.backend();
  const volume = generationOf(pool, 2);
  await backend.fork(generationOf(pool, 1), volume);
  await backend.fork(volume, masterOf(pool));
  const one = readGeneration(w.host, on.paths, 1);
  const identity = await backend.identity(volume);
  if (!one || identity === undefined) throw new Error('no generation');
  writeGeneration(w.host, on.paths, { ...one, number: 2, volume, identity }, 'proven');
  w.newProcess();
  return w;
}

/** Expects the generation to be unchanged: proven, with its volume. */
function isKept(w: World, n: number): boolean {
  return readGeneration(w.host, w.machine().paths, n) !== undefined && w.volumes.has(volumeOf(n));
}

describe('a generation', () => {
  it('that is not needed is removed with all its records', async () => {
    const w = await world();
    expect(await retire(w.machine(), 2, 'asked')).toBe(true);
    expect(isKept(w, 2)).toBe(false);
    expect(w.volumes.has(volumeOf(2))).toBe(false);
    expect(w.host.list(w.machine().paths.generations).filter(name => name.startsWith('2'))).toEqual([]);
  });

  it('that is stable is kept', async () => {
    const w = await world();
    expect(await retire(w.machine(), 1, 'asked')).toBe(false);
    expect(isKept(w, 1)).toBe(true);
  });

  it('that a session uses is kept, also if it is not stable', async () => {
    const w = await world();
    await login(w.machine(), callOf(w, 'alice', ':0'));
    await rollback(w.machine(), 2);
    expect(await retire(w.machine(), 1, 'asked')).toBe(false);
    expect(isKept(w, 1)).toBe(true);
  });

  it('that a corrupt record may name is kept', async () => {
    const w = await world();
    w.put(`${w.machine().paths.sessions}/u1002-0000000f.json`, '{"id":"u1002-');
    expect(await retire(w.machine(), 2, 'asked')).toBe(false);
    expect(isKept(w, 2)).toBe(true);
  });

  it('for which a login writes its record at the last moment is kept, and the login succeeds', async () => {
    const w = await world();
    await rollback(w.machine(), 2);
    const on = w.machine();
    // The login has read the pointer and writes its record while the generation's file is renamed.
    let joined = false;
    const host: Machine['host'] = {
      ...on.host,
      rename(from, to) {
        on.host.rename(from, to);
        if (joined || !to.endsWith('/2.retired')) return;
        joined = true;
        const record = { volume: { name: 'u1002-0000000f' }, root: `${on.paths.roots}/u1002-0000000f` };
        const s = { ...record, id: 'u1002-0000000f', user: {}, logins: [], devices: [], generation: 2 };
        w.put(`${on.paths.sessions}/${s.id}.json`, JSON.stringify(s));
      },
    };
    await rollback(on, 1);
    expect(await retire({ ...on, host }, 2, 'asked')).toBe(false);
    expect(joined).toBe(true);
    expect(isKept(w, 2)).toBe(true);
  });

  it('that is retired before a login writes its record is not used by it', async () => {
    const w = await world();
    const on = w.machine();
    const host: Machine['host'] = {
      ...on.host,
      write(path, text, o) {
        if (path.startsWith(`${on.paths.sessions}/`) && readGeneration(w.host, on.paths, 1))
          on.host.rename(`${on.paths.generations}/1.json`, `${on.paths.generations}/1.retired`);
        on.host.write(path, text, o);
      },
    };
    await expect(login({ ...on, host }, callOf(w, 'alice', ':0'))).rejects.toMatchObject({
      code: 'no-generation',
      message: expect.stringMatching(/it was retired$/),
    });
    expect(readSessions(w.host, on.paths)).toEqual([]);
    expect(w.volumes.has(volumeOf(1))).toBe(true);
  });
});

it('a rollback during an update is kept: the new generation is proven but not promoted', async () => {
  const w = await world();
  await rollback(w.machine(), 2);
  const on = w.machine();
  const outcome = await update(on, {
    ...{ what: 'an update', origin: 'test', force: true, say: () => undefined },
    async change() {
      await rollback(on, 1);
      return true;
    },
  });
  expect(outcome).toMatchObject({
    result: 'kept',
    generation: 3,
    reason: 'generation 1 became stable meanwhile',
  });
  expect(stableNumber(w.host, on.paths)).toBe(1);
  expect(readGeneration(w.host, on.paths, 3)).toBeDefined();
});
