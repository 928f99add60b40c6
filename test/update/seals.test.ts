/** The seals of generations in the pool: what they bring back, and what they never take. */
import { describe, expect, it } from 'vitest';
import { recover } from '../../src/service/recover.ts';
import { login } from '../../src/session/session.ts';
import {
  endProbation,
  generationNumbers,
  lastNumber,
  markDemoted,
  probation,
  readableGeneration,
  stableNumber,
  whyDemoted,
} from '../../src/state/generations.ts';
import { readPool } from '../../src/state/pool.ts';
import { markOf, parseSeal, sealText } from '../../src/state/seals.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { init } from '../../src/update/init.ts';
import { prune } from '../../src/update/retention.ts';
import { rollback } from '../../src/update/rollback.ts';
import { unrecorded } from '../../src/update/unrecorded.ts';
import { generationOf, masterOf, type VolumeBackend, workOf } from '../../src/volume/backend.ts';
import { MARK } from '../../src/volume/seal-files.ts';
import { callOf, type Node, type World } from '../world.ts';
import {
  move,
  mustLogIn,
  numbersOf,
  pool,
  putBack,
  STATE,
  sealIn,
  stableOf,
  stateOf,
  updateOf,
  volumeOf,
  world,
} from './seal-world.ts';

const NOTHING = { ended: [], swept: [], adopted: [], kept: [], stuck: [] };

describe('a generation', () => {
  it('carries its number, its ID, and whether it has passed its checks, in the pool', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const g = readableGeneration(w.host, w.machine().paths, 2);
    expect(sealIn(w, 2)).toMatchObject({ number: 2, id: g?.seal, identity: g?.identity, proven: true });
    expect(w.volumes.get(volumeOf(2))?.nodes.get(`/${MARK}`)?.text).toBe(markOf(2, g?.seal ?? ''));
    expect(w.volumes.get(`${pool.path}/master/master`)?.nodes.has(`/${MARK}`)).toBe(false);
  });
  it('of an earlier version gets a seal from its record', async () => {
    const w = await world();
    expect(sealIn(w, 1)).toBeUndefined();
    await recover(w.machine());
    expect(sealIn(w, 1)).toMatchObject({ number: 1, proven: true });
    putBack(w);
    await recover(w.machine());
    expect(readableGeneration(w.host, w.machine().paths, 1)?.seal).toBeUndefined(); // its tree has no mark
    await mustLogIn(w, 1);
  });
});

describe('a state directory that is lost', () => {
  const lost = async (): Promise<World> => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    putBack(w);
    return w;
  };
  it('is made again from the pool: people log in as before, and the next update gets a new number', async () => {
    const w = await lost();
    const found = await recover(w.machine());
    expect(found).toMatchObject({ swept: [], stuck: [] });
    expect(readPool(w.host, w.machine().paths)).toEqual({ ...pool, mountPoint: '/' });
    expect([numbersOf(w), stableOf(w)]).toEqual([[1, 2, 3], 3]);
    expect(await recover(w.machine())).toEqual(NOTHING);
    await mustLogIn(w, 3);
    await updateOf(w, 'four');
    expect([stableOf(w), w.volumes.has(volumeOf(3))]).toEqual([4, true]);
  });
  it('is made again whenever that is interrupted', async () => {
    const probe = await lost();
    await recover(probe.machine());
    const total = probe.calls;
    expect(total).toBeGreaterThan(10);
    for (let n = 1; n <= total; n++) {
      const w = await lost();
      w.dieAt = n;
      await recover(w.machine()).catch(() => undefined);
      w.newProcess();
      expect((await recover(w.machine())).stuck, `died at ${n}`).toEqual([]);
      expect([numbersOf(w), stableOf(w)], `died at ${n}`).toEqual([[1, 2, 3], 3]);
      await mustLogIn(w, 3, `died at ${n}`);
    }
  });
  it('knows what was demoted: it is in the seal since the next recovery', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    markDemoted(w.host, w.machine().paths, 3, 'nobody could log in');
    await recover(w.machine());
    expect(sealIn(w, 3)).toMatchObject({ proven: true, demoted: 'nobody could log in' });
    putBack(w);
    await recover(w.machine());
    expect([numbersOf(w), stableOf(w)]).toEqual([[1, 2, 3], 2]);
    expect(whyDemoted(w.host, w.machine().paths, 3)).toBe('nobody could log in');
    await rollback(w.machine(), 3);
    expect(sealIn(w, 3)?.demoted).toBeUndefined();
  });
  it('puts the newest on probation', async () => {
    const w = await lost();
    await recover(w.machine());
    expect(probation(w.host, w.machine().paths)).toMatchObject({ number: 3, previous: 2 });
  });
  it('at any call of an update loses no generation that was proven, and makes none stable that was not', async () => {
    const probe = await world(2);
    await updateOf(probe, 'two');
    probe.newProcess();
    const before = probe.calls;
    await updateOf(probe, 'three');
    for (const isOlder of [false, true])
      for (let n = before + 1; ; n++) {
        const w = await world(2);
        const older = stateOf(w);
        await updateOf(w, 'two');
        w.dieAt = n;
        let isOver = true;
        await updateOf(w, 'three').catch(() => {
          isOver = false;
        });
        const when = `died at ${n}`;
        const proven = [1, 2, 3].filter(g => w.volumes.has(volumeOf(g)) && sealIn(w, g)?.proven);
        expect(proven.length, when).toBeGreaterThan(0);
        putBack(w, isOlder ? older : []);
        const { stuck } = await recover(w.machine());
        expect(stuck, when).toEqual([]);
        for (const g of proven) expect(numbersOf(w), when).toContain(g);
        const stable = stableOf(w) ?? 0;
        expect(proven, when).toContain(stable);
        await mustLogIn(w, stable, when);
        const { kept, ...others } = await recover(w.machine());
        expect({ ...others, kept: [] }, when).toEqual(NOTHING);
        // This state does not know that the number was assigned.
        for (const what of kept)
          expect(what, when).toMatch(/^generation 3 .* it has (no seal|not passed its checks)$/);
        if (isOlder && n % 10 === 0) {
          await updateOf(w, 'more');
          await mustLogIn(w, stableOf(w) ?? 0, when);
        }
        if (isOver) break;
      }
  });
  it('does not matter to init, which leads to recovery and removes nothing', async () => {
    const w = await lost();
    w.put('/etc/passwd', `${w.host.read('/etc/passwd')}nobody:x:65534:65534::/nonexistent:/bin/sh\n`);
    const o = { backend: 'overlay', source: { kind: 'host' }, say: () => undefined } as const;
    await expect(init(w.machine(), o)).rejects.toMatchObject({ facts: { hint: 'mayfly recover' } });
    w.newProcess();
    await recover(w.machine());
    await mustLogIn(w, 3);
  });
});

describe('a state directory of another day', () => {
  it('three updates ago leads to the newest generation, if the one that was stable is gone', async () => {
    const w = await world(2);
    const older = stateOf(w);
    for (const what of ['two', 'three', 'four']) {
      await updateOf(w, what);
      endProbation(w.host, w.machine().paths); // a session has lasted
    }
    expect(numbersOf(w)).toEqual([3, 4]);
    putBack(w, older);
    expect((await recover(w.machine())).stuck).toEqual([]);
    expect([numbersOf(w), stableOf(w)]).toEqual([[1, 3, 4], 4]);
    await mustLogIn(w, 4);
    await updateOf(w, 'five');
    expect([numbersOf(w), stableOf(w)]).toEqual([[3, 4, 5], 5]); // the one before the one on probation is kept
  });
  it('keeps what is stable there if that is still in the pool', async () => {
    const w = await world();
    const older = stateOf(w);
    await updateOf(w, 'two');
    putBack(w, older);
    expect((await recover(w.machine())).stuck).toEqual([]);
    expect([numbersOf(w), stableOf(w)]).toEqual([[1, 2], 1]);
  });
  it('does not make a generation stable again that it knows as demoted', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    const { paths } = w.machine();
    markDemoted(w.host, paths, 3, 'test');
    w.host.unlink(paths.stable);
    await recover(w.machine());
    expect(stableOf(w)).toBe(2);
  });
  it('of a moment in the checks of an update: what has passed them since is no candidate any more', async () => {
    for (const isCorrupt of [false, true]) {
      const w = await world(1);
      const { paths } = w.machine();
      let during: [string, Node][] = [];
      await updateOf(w, 'two', () => {
        during = stateOf(w);
      });
      endProbation(w.host, paths);
      await updateOf(w, 'three');
      endProbation(w.host, paths);
      await prune(w.machine(), pool);
      // The snapshot of the state is of the second update, and shows the third generation as its candidate would be.
      const text = w.host.read(`${paths.generations}/3.json`) ?? '';
      putBack(w, during);
      w.put(`${paths.generations}/3.candidate`, isCorrupt ? '{"numb' : text);
      w.put(`${paths.generations}/last`, '3\n');
      expect((await recover(w.machine())).stuck).toEqual([]);
      expect(numbersOf(w)).toContain(3);
      expect(generationNumbers(w.host, paths, 'candidate')).toEqual([]);
      await mustLogIn(w, stableOf(w) ?? 0);
    }
  });
  it('with a promotion that was begun: the working copy of a later update does not become master', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { paths } = w.machine();
    w.put(`${STATE}/adopt`, '2 1 inode 77 of 1\n');
    await w.backend().fork(masterOf(pool), workOf(pool));
    w.volumes.get(`${pool.path}/work/work`)?.nodes.delete('/etc/version'); // half refreshed
    expect((await recover(w.machine())).stuck).toEqual([]);
    expect(w.volumes.get(`${pool.path}/master/master`)?.nodes.get('/etc/version')?.text).toBe('two');
    expect([w.volumes.has(`${pool.path}/work/work`), w.host.exists(`${STATE}/adopt`)]).toEqual([
      false,
      false,
    ]);
    expect(stableNumber(w.host, paths)).toBe(2);
  });
  it('that is newer than the pool: what is gone takes no place of what is there', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    for (const g of [2, 3]) w.volumes.delete(volumeOf(g));
    w.newProcess();
    expect((await recover(w.machine())).stuck).toEqual([]);
    expect(stableOf(w)).toBe(1);
    await updateOf(w, 'four');
    expect(numbersOf(w)).toEqual([1, 4]);
  });
});

describe('a pool that is not there', () => {
  it('is not taken for an empty one: nothing is removed, and no record is dropped', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const all = new Map(w.volumes);
    w.volumes.clear();
    w.isPoolThere = false;
    const before = stateOf(w).map(([path]) => path);
    const { stuck } = await recover(w.machine());
    expect(stuck.join()).toContain(
      'the pool is not at "/var/lib/mayfly/pool"; its file system may not be mounted',
    );
    expect(stateOf(w).map(([path]) => path)).toEqual(before);
    await expect(updateOf(w, 'three')).rejects.toThrow(/its file system may not be mounted/);
    for (const [key, fs] of all) w.volumes.set(key, fs);
    w.isPoolThere = true;
    w.newProcess();
    await recover(w.machine());
    await mustLogIn(w, 2);
  });
  it('costs no generation when others are pruned', async () => {
    const w = await world(1);
    await updateOf(w, 'two');
    w.isPoolThere = false;
    w.volumes.clear();
    expect(await prune(w.machine(), pool)).toEqual([]);
  });
});

describe('a seal', () => {
  const whole = {
    number: 2,
    id: 'ab12',
    marked: true,
    identity: 'x',
    created: 'x',
    origin: 'x',
    proven: true,
  };
  it.each([
    ['a whole one', sealText(whole), true],
    ['one that is cut short', sealText(whole).slice(0, 30), false],
    ['an empty one', '', false],
    ['zeros', '\0\0\0', false],
    ['null', 'null', false],
    ['a list', '[]', false],
    ['foreign JSON', '{"name":"x"}', false],
    ['one of another generation', sealText({ ...whole, number: 3 }), false],
    [
      'one with numbers without a name that are none',
      sealText({ ...whole, unnamed: { users: [] } as never }),
      false,
    ],
    ['one with another kind of mark', sealText({ ...whole, proven: 'yes' as never }), false],
  ])('that is %s is read, or counts as damaged', (_, text, isWhole) =>
    expect(parseSeal(text, 2) !== undefined).toBe(isWhole),
  );
  it.each(['', '{"numb', 'null', '{"number":3}', '\0'])(
    'of %j keeps its generation, which is not on record, and stops nothing else',
    async text => {
      const w = await world();
      await updateOf(w, 'two');
      await updateOf(w, 'three');
      w.seals.set(volumeOf(2), text);
      putBack(w);
      expect((await recover(w.machine())).stuck).toEqual([]);
      expect([numbersOf(w), stableOf(w)]).toEqual([[1, 3], 3]);
      expect(w.volumes.has(volumeOf(2))).toBe(true);
      expect(await unrecorded(w.machine(), pool)).toMatchObject([
        { action: 'keep', why: 'its seal is damaged, or that of another generation' },
      ]);
      await updateOf(w, 'four');
      expect(w.volumes.has(volumeOf(2))).toBe(true);
      expect(stableOf(w)).toBe(4);
    },
  );
  it('that is damaged is written again from the record', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const text = w.seals.get(volumeOf(2));
    w.seals.set(volumeOf(2), 'x');
    await recover(w.machine());
    expect(w.seals.get(volumeOf(2))).toBe(text);
  });
  it('restores a record that is corrupt', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { paths } = w.machine();
    const before = w.host.read(`${paths.generations}/2.json`);
    w.put(`${paths.generations}/2.json`, '{"numb');
    expect(await recover(w.machine())).toEqual({
      ...NOTHING,
      adopted: ['generation 2, whose record was corrupt'],
    });
    expect(JSON.parse(w.host.read(`${paths.generations}/2.json`) ?? '')).toEqual(JSON.parse(before ?? ''));
  });
});

describe('what is in the pool and is no generation of this machine', () => {
  it('a copy of a generation, with its seal, is kept and not adopted', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await w.backend().fork(generationOf(pool, 2), generationOf(pool, 5));
    w.seals.set(volumeOf(5), w.seals.get(volumeOf(2)) ?? '');
    await recover(w.machine());
    expect(numbersOf(w)).toEqual([1, 2]);
    expect(w.volumes.has(volumeOf(5))).toBe(true);
    w.seals.delete(volumeOf(5));
    await recover(w.machine());
    expect(w.volumes.has(volumeOf(5))).toBe(true);
    await updateOf(w, 'six');
    expect([stableOf(w), w.volumes.has(volumeOf(5))]).toEqual([6, true]);
  });
  it('another tree in the place of one that was sealed is kept and not adopted', async () => {
    const w = await world();
    await updateOf(w, 'two');
    putBack(w);
    w.volumes.delete(volumeOf(2));
    await w.backend().fork(generationOf(pool, 1), generationOf(pool, 2));
    await recover(w.machine());
    expect([numbersOf(w), stableOf(w)]).toEqual([[1], 1]);
    expect(w.volumes.has(volumeOf(2))).toBe(true);
  });
  it('a generation without a seal is kept, whatever numbers are assigned after it', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await w.backend().fork(generationOf(pool, 1), generationOf(pool, 9));
    expect((await recover(w.machine())).kept).toEqual([
      'generation 9 in the pool is not on record and is kept: it has no seal',
    ]);
    await updateOf(w, 'ten');
    await recover(w.machine());
    expect([stableOf(w), w.volumes.has(volumeOf(9))]).toEqual([10, true]);
    expect(await unrecorded(w.machine(), pool)).toMatchObject([{ action: 'keep', why: 'it has no seal' }]);
  });
  it('the last tree is kept, although record and seal are lost', async () => {
    const w = await world(1);
    await updateOf(w, 'two');
    const { paths } = w.machine();
    endProbation(w.host, paths);
    await prune(w.machine(), pool);
    expect(numbersOf(w)).toEqual([2]);
    w.host.unlink(`${paths.generations}/2.json`);
    w.seals.delete(volumeOf(2));
    await recover(w.machine());
    expect(w.volumes.has(volumeOf(2))).toBe(true);
  });
  it('one that cannot be examined is kept, and stops nothing else', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    putBack(w);
    const { backend } = w.machine();
    const broken = (kind: Parameters<typeof backend>[0]): VolumeBackend => ({
      ...backend(kind),
      identity: async v => {
        if (v.name === '2') throw new Error('EIO');
        return backend(kind).identity(v);
      },
    });
    const { kept } = await recover({ ...w.machine(), backend: broken });
    expect(kept.join()).toBe(
      'generation 2 in the pool is not on record and is kept: it cannot be examined: EIO',
    );
    expect([numbersOf(w), stableOf(w)]).toEqual([[1, 3], 3]);
  });
  it('a candidate of an update that was never recorded is not made stable, and goes when a number was taken after it', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { paths } = w.machine();
    const seal = sealIn(w, 2);
    if (!seal) throw new Error('no seal');
    w.seals.set(volumeOf(2), sealText({ ...seal, proven: false }));
    putBack(w);
    await recover(w.machine());
    expect([numbersOf(w), stableOf(w), w.volumes.has(volumeOf(2))]).toEqual([[1], 1, true]);
    await updateOf(w, 'three');
    expect([lastNumber(w.host, paths), stableOf(w)]).toEqual([3, 3]);
    await recover(w.machine());
    expect(w.volumes.has(volumeOf(2))).toBe(false);
  });
});

describe('a pool that was moved to another disk', () => {
  it('is known by the marks in its trees', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    move(w);
    expect((await recover(w.machine())).adopted).toEqual([
      'generation 2, which was moved',
      'generation 3, which was moved',
    ]);
    expect(await recover(w.machine())).toMatchObject({ adopted: [] });
    await mustLogIn(w, 3);
    move(w);
    putBack(w);
    await recover(w.machine());
    expect([numbersOf(w), stableOf(w)]).toEqual([[2, 3], 3]); // the first one has no mark
    expect(readableGeneration(w.host, w.machine().paths, 3)?.moved).toBeDefined();
    await mustLogIn(w, 3);
  });
  it('waits for the end of a copy that has the mark, and not all files yet', async () => {
    for (const isLost of [false, true]) {
      const w = await world();
      await updateOf(w, 'two');
      move(w);
      const nodes = w.volumes.get(volumeOf(2))?.nodes;
      const last = [...(nodes ?? [])].filter(([path]) => path !== `/${MARK}`).at(-1);
      if (!nodes || !last) throw new Error('no tree');
      nodes.delete(last[0]);
      if (isLost) putBack(w);
      const { kept, stuck } = await recover(w.machine());
      expect([...kept, ...stuck].join()).toContain('a copy may still be running, or was interrupted');
      expect(stableOf(w)).not.toBe(isLost ? 2 : undefined);
      await expect(login(w.machine(), callOf(w, 'bob', ':7'))).rejects.toThrow();
      w.newProcess();
      nodes.set(last[0], last[1]);
      expect((await recover(w.machine())).stuck).toEqual([]);
      await mustLogIn(w, 2);
    }
  });
  it('does not make a tree good that was replaced: by another one, or by one without a mark', async () => {
    for (const mark of [undefined, '2 ffff\n', '1 ffff\n', '']) {
      const w = await world();
      await updateOf(w, 'two');
      move(w);
      const nodes = w.volumes.get(volumeOf(2))?.nodes;
      const before = nodes?.get(`/${MARK}`);
      if (mark === undefined) nodes?.delete(`/${MARK}`);
      else if (before) nodes?.set(`/${MARK}`, { ...before, text: mark });
      expect((await recover(w.machine())).stuck.join()).toContain('the stable generation 2 is unusable');
      await expect(login(w.machine(), callOf(w, 'bob', ':7'))).rejects.toThrow();
      expect(readSessions(w.host, w.machine().paths)).toEqual([]);
    }
  });
});
