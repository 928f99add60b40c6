/** Attacks on the seals. Each test says what should be; those that fail are findings. */
import { describe, expect, it } from 'vitest';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { login } from '../../src/session/session.ts';
import {
  endProbation,
  generationNumbers,
  markDemoted,
  readableGeneration,
  stableNumber,
  whyDemoted,
  writeGeneration,
} from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { parseSeal, sealText } from '../../src/state/seals.ts';
import { prune } from '../../src/update/retention.ts';
import { rollback } from '../../src/update/rollback.ts';
import { update } from '../../src/update/update.ts';
import { init } from '../../src/update/init.ts';
import { generationOf, masterOf, type VolumeBackend } from '../../src/volume/backend.ts';
import { MARK } from '../../src/volume/seal-files.ts';
import { callOf, type Node, preparedWorld, type World } from '../world.ts';

const STATE = '/var/lib/mayfly';
const pool = { backend: 'overlay', path: `${STATE}/pool` } as const;
const volumeOf = (n: number): string => `${pool.path}/generation/${n}`;
const numbersOf = (w: World): number[] => generationNumbers(w.host, w.machine().paths);
const stableOf = (w: World): number | undefined => stableNumber(w.host, w.machine().paths);
const sealIn = (w: World, n: number) => parseSeal(w.seals.get(volumeOf(n)), n);
const has = (w: World, n: number): boolean => w.volumes.has(volumeOf(n));

async function world(keep = 3): Promise<World> {
  const w = preparedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', `[check]\nuser = "bob"\n[update]\nkeep = ${keep}\n`);
  await w.backend().fork(generationOf(pool, 1), masterOf(pool));
  return w;
}

async function updateOf(w: World, what: string, say: (l: string) => void = () => undefined): Promise<void> {
  await update(w.machine(), {
    ...{ what: 'an update', origin: 'test', force: true, say },
    change: async () => {
      const work = w.volumes.get(`${pool.path}/work/work`);
      work?.nodes.set('/etc/version', { kind: 'file', text: what, mode: 0o644, uid: 0, gid: 0, ino: 1 });
      return true;
    },
  });
  w.newProcess();
}

function stateOf(w: World): [string, Node][] {
  const [root] = w.fileSystems();
  return [...(root?.nodes ?? [])].filter(([path]) => path === STATE || path.startsWith(`${STATE}/`));
}

function putBack(w: World, state: readonly [string, Node][] = []): void {
  const [root] = w.fileSystems();
  if (!root) throw new Error('no root');
  for (const [path] of stateOf(w)) root.nodes.delete(path);
  for (const [path, node] of state) root.nodes.set(path, node);
  w.reboot();
}

async function mustLogIn(w: World, generation: number, when = ''): Promise<void> {
  const s = await login(w.machine(), callOf(w, 'bob', ':7'));
  expect(s?.generation, when).toBe(generation);
  if (s) await end(w.machine(), s.id);
  w.newProcess();
}

/** Every volume has another identity. */
const move = (w: World): void => {
  for (const [key, fs] of w.volumes) w.volumes.set(key, { nodes: new Map(fs.nodes), dev: fs.dev + 1000 });
  w.newProcess();
};

/** Only generation 2 is left in the pool, stable and proven; `during` is the state in the checks of its update. */
async function onlyTwo(): Promise<{ w: World; during: [string, Node][] }> {
  const w = await world(1);
  let during: [string, Node][] = [];
  await updateOf(w, 'two', () => {
    if (w.host.exists(`${STATE}/generations/2.candidate`)) during = stateOf(w);
  });
  endProbation(w.host, w.machine().paths);
  await prune(w.machine(), pool);
  expect([has(w, 1), has(w, 2), sealIn(w, 2)?.proven]).toEqual([false, true, true]);
  expect(during.some(([p]) => p.endsWith('2.candidate'))).toBe(true);
  return { w, during };
}

const eio = (): Error => Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });

describe('A1: a candidate of another day is dropped without its seal having been read', () => {
  it('a: the seal is damaged or cannot be read (readSealTexts gives "")', async () => {
    const { w, during } = await onlyTwo();
    w.seals.set(volumeOf(2), '');
    putBack(w, during);
    await recover(w.machine());
    expect(has(w, 2)).toBe(true);
  });
  it('b: the directory of the seals cannot be read once', async () => {
    const { w, during } = await onlyTwo();
    putBack(w, during);
    let n = 0;
    const m = w.machine();
    const bad: Machine = {
      ...m,
      backend: k => ({
        ...m.backend(k),
        seals: async p => {
          n++;
          if (n === 1) throw eio();
          return m.backend(k).seals(p);
        },
      }),
    };
    await recover(bad);
    expect(has(w, 2)).toBe(true);
  });
  it('c: the pool was moved, and the copy is still running', async () => {
    const { w, during } = await onlyTwo();
    move(w);
    w.volumes.get(volumeOf(2))?.nodes.delete('/etc/version');
    putBack(w, during);
    await recover(w.machine());
    expect(has(w, 2)).toBe(true);
  });
  it('d: the pool was moved, is complete, and find fails once', async () => {
    const { w, during } = await onlyTwo();
    move(w);
    putBack(w, during);
    w.failing.add('find');
    await recover(w.machine());
    w.failing.delete('find');
    expect(has(w, 2)).toBe(true);
  });
});

describe('A2: records of two days in one directory (a backup restored over what is there)', () => {
  it('a: a corrupt N.retired beside the record of the stable generation removes its tree', async () => {
    const w = await world();
    await updateOf(w, 'two');
    w.put(`${STATE}/generations/2.retired`, '{"numb');
    w.reboot();
    await recover(w.machine());
    expect([stableOf(w), has(w, 2), numbersOf(w)]).toEqual([2, true, [1, 2]]);
  });
  it('b: N.candidate beside the record of the stable generation, whose seal is damaged', async () => {
    const { w } = await onlyTwo();
    const text = w.host.read(`${STATE}/generations/2.json`) ?? '';
    w.put(`${STATE}/generations/2.candidate`, text);
    w.seals.set(volumeOf(2), '');
    w.reboot();
    await recover(w.machine());
    expect([stableOf(w), has(w, 2), numbersOf(w)]).toEqual([2, true, [2]]);
  });
  it('c: N.retired, and a pool of an earlier day, in which N is the only generation', async () => {
    const { w } = await onlyTwo();
    const poolThen = new Map(w.volumes);
    const sealsThen = new Map(w.seals);
    await updateOf(w, 'three');
    endProbation(w.host, w.machine().paths);
    // The state of the moment in which 2 is being removed.
    w.host.rename(`${STATE}/generations/2.json`, `${STATE}/generations/2.retired`);
    w.volumes.clear();
    w.seals.clear();
    for (const [k, v] of poolThen) w.volumes.set(k, v);
    for (const [k, v] of sealsThen) w.seals.set(k, v);
    w.reboot();
    await recover(w.machine());
    expect(has(w, 2)).toBe(true);
    expect(stableOf(w)).toBe(2);
  });
  it('d: a corrupt N.retired and no other generation', async () => {
    const { w } = await onlyTwo();
    w.host.rename(`${STATE}/generations/2.json`, `${STATE}/generations/2.retired`);
    w.put(`${STATE}/generations/2.retired`, '{"numb');
    w.reboot();
    await recover(w.machine());
    expect(has(w, 2)).toBe(true);
  });
});

describe('A3: what was demoted becomes stable', () => {
  const demoted = async (): Promise<{ w: World; before: [string, Node][] }> => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    const before = stateOf(w); // stable 3
    const { paths } = w.machine();
    await rollback(w.machine(), 2);
    expect([whyDemoted(w.host, paths, 3), sealIn(w, 3)?.demoted]).toEqual([
      'rolled back to generation 2',
      'rolled back to generation 2',
    ]);
    w.newProcess();
    return { w, before };
  };
  it('a: state of the day before, without its pointer: the seal says demoted, and is overwritten', async () => {
    const { w, before } = await demoted();
    putBack(w, before.filter(([p]) => p !== `${STATE}/stable`));
    await recover(w.machine());
    expect(sealIn(w, 3)?.demoted).toBe('rolled back to generation 2');
    expect(stableOf(w)).toBe(2);
  });
  it('b: state with the promotion of 3 still to be completed', async () => {
    const w = await world();
    await updateOf(w, 'two');
    let during: [string, Node][] = [];
    const { paths } = w.machine();
    await updateOf(w, 'three', l => {
      if (l === 'adopt' && during.length === 0) during = stateOf(w);
    });
    await rollback(w.machine(), 2);
    w.newProcess();
    expect(during.some(([p]) => p === `${STATE}/adopt`)).toBe(true);
    // the pointer is not moved yet in that state: a promotion that waited for a login
    const old = during.map(([p, n]): [string, Node] =>
      p === paths.stable ? [p, { ...n, text: 'generations/2.json' }] : [p, n],
    );
    putBack(w, old);
    await recover(w.machine());
    expect(stableOf(w)).toBe(2);
  });
});

describe('A4: states without a way out', () => {
  it('a: only demoted generations are left, and no pointer', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { paths } = w.machine();
    markDemoted(w.host, paths, 2, 'x');
    await recover(w.machine());
    w.volumes.delete(volumeOf(1));
    w.seals.delete(volumeOf(1));
    putBack(w);
    await recover(w.machine());
    expect(numbersOf(w)).toEqual([2]);
    expect(stableOf(w)).toBe(2); // or a hint that leads there
  });
  it('b: a stale record hides the sealed generation of the same number (state from before destroy and init; LVM has no pool ID)', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { paths } = w.machine();
    const g = readableGeneration(w.host, paths, 2);
    if (g) writeGeneration(w.host, paths, { ...g, seal: 'ffff', identity: 'memory 99999' }, 'proven');
    w.volumes.delete(volumeOf(1));
    w.host.unlink(`${paths.generations}/1.json`);
    w.seals.delete(volumeOf(1));
    w.reboot();
    await recover(w.machine());
    await mustLogIn(w, 2);
  });
});

describe('A5: the tree is not whole, and its identity and mark are', () => {
  it('a: rm -rf generations/3/* leaves the mark; the state is lost; 2 is whole', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    const nodes = w.volumes.get(volumeOf(3))?.nodes;
    for (const path of [...(nodes?.keys() ?? [])]) if (path !== '' && path !== `/${MARK}`) nodes?.delete(path);
    putBack(w);
    await recover(w.machine());
    expect(stableOf(w)).toBe(2);
    await mustLogIn(w, 2);
  });
});

describe('A6: moved, and later the state is lost', () => {
  it('the record says again when it was moved: doctor counts each file as changed otherwise', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    move(w);
    await recover(w.machine());
    const moved = readableGeneration(w.host, w.machine().paths, 3)?.moved;
    expect(moved).toBeDefined();
    putBack(w);
    await recover(w.machine());
    expect(readableGeneration(w.host, w.machine().paths, 3)?.moved).toBe(moved);
  });
});

describe('A7: one record that cannot be read', () => {
  it('a: EIO of 2.json keeps the pointer from being repaired', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    const m = w.machine();
    w.host.unlink(m.paths.stable);
    w.reboot();
    const bad: Machine = {
      ...w.machine(),
      host: {
        ...w.machine().host,
        read: p => {
          if (p.endsWith('/2.json')) throw eio();
          return w.host.read(p);
        },
      },
    };
    const r = await recover(bad).catch(e => ({ stuck: [`threw ${String(e)}`] }));
    expect({ stable: stableOf(w), r: r.stuck }).toMatchObject({ stable: 3 });
  });
});

describe('A8: work without need', () => {
  it('an incomplete copy is counted once by a recovery, not by each look', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    move(w);
    w.volumes.get(volumeOf(2))?.nodes.delete('/etc/version');
    putBack(w);
    await recover(w.machine());
    w.newProcess();
    w.ran.length = 0;
    await recover(w.machine());
    const finds = w.ran.filter(c => c.startsWith('find') && c.includes('%s\\n'));
    console.log('A8', finds);
    expect(finds.length).toBeLessThanOrEqual(1);
  });
  it('a record with a seal ID that parseSeal refuses is not written for ever', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { paths } = w.machine();
    const g = readableGeneration(w.host, paths, 2);
    if (!g) throw new Error();
    writeGeneration(w.host, paths, { ...g, content: { entries: -1, bytes: 1 } }, 'proven');
    await recover(w.machine());
    w.newProcess();
    const before = w.calls;
    await recover(w.machine());
    const once = w.calls - before;
    console.log('A8b calls', once, w.seals.get(volumeOf(2)));
    expect(sealIn(w, 2)).toBeDefined();
  });
});

describe('A9: record and seal of a proven generation are lost, the mark is there', () => {
  it('is kept, though it has the last number', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    await rollback(w.machine(), 2);
    w.newProcess();
    w.host.unlink(`${STATE}/generations/3.json`);
    w.seals.delete(volumeOf(3));
    const r = await recover(w.machine());
    console.log('A9', r.swept);
    expect(has(w, 3)).toBe(true);
  });
  it('init does not remove the last marked tree and master', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { paths } = w.machine();
    // generation 1 as a sealed and marked one: move 2 to 1 in everything
    const fs = w.volumes.get(volumeOf(2));
    if (!fs) throw new Error();
    w.volumes.delete(volumeOf(2));
    w.volumes.set(volumeOf(1), fs);
    const mark = fs.nodes.get(`/${MARK}`);
    if (mark) fs.nodes.set(`/${MARK}`, { ...mark, text: mark.text.replace(/^2/, '1') });
    w.seals.clear();
    for (const f of ['1.json', '2.json', '1.run', '2.run']) w.host.unlink(`${paths.generations}/${f}`);
    w.host.unlink(paths.stable);
    w.put(`${paths.generations}/last`, '1\n');
    w.put('/etc/passwd', `${w.host.read('/etc/passwd')}nobody:x:65534:65534::/nonexistent:/bin/sh\n`);
    w.reboot();
    const r = await recover(w.machine());
    console.log('A9b', r.kept);
    w.newProcess();
    const o = { backend: 'overlay', source: { kind: 'host' }, say: () => undefined } as const;
    await init(w.machine(), o).catch(e => console.log('A9b init', String(e), e.facts?.hint));
    const tree = w.volumes.get(volumeOf(1))?.nodes.get(`/${MARK}`)?.text;
    expect([tree?.startsWith('1 '), w.volumes.has(`${pool.path}/master/master`)]).toEqual([true, true]);
  });
});

/** A machine whose pool has an ID, and another one, or none, is there. */
const withId = (w: World, there: string | undefined): Machine => {
  const m = w.machine();
  return {
    ...m,
    backend: k => ({ ...m.backend(k), isThere: (_p, id) => there !== undefined && (id === undefined || id === there) }),
  };
};

describe('B1: another pool is at the path', () => {
  it('gc (prune) removes nothing of it', async () => {
    const w = await world(1);
    for (const what of ['two', 'three', 'four']) await updateOf(w, what);
    w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\n[update]\nkeep = 1\n');
    endProbation(w.host, w.machine().paths);
    const before = [...w.volumes.keys()];
    const n = numbersOf(w);
    await prune(withId(w, 'bb'), { ...pool, id: 'aa' } as never);
    console.log('B1', n, numbersOf(w));
    expect([...w.volumes.keys()]).toEqual(before);
  });
  it('recover goes on, and ends sessions, if the marker of the pool cannot be looked at (EIO, ESTALE)', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await login(w.machine(), callOf(w, 'bob', ':7'));
    w.reboot();
    const m = w.machine();
    const bad: Machine = { ...m, backend: k => ({ ...m.backend(k), isThere: () => { throw eio(); } }) };
    const r = await recover(bad).catch(e => String(e));
    console.log('B1b', r);
    expect(r).toMatchObject({ ended: [expect.any(String)] });
  });
});

describe('C', () => {
  it('C1: N.retired of another lineage does not remove the sealed, proven generation N that is in the pool', async () => {
    const w = await world();
    for (const what of ['two', 'three']) await updateOf(w, what);
    const { paths } = w.machine();
    const g = readableGeneration(w.host, paths, 2);
    if (!g) throw new Error();
    w.host.unlink(`${paths.generations}/2.json`);
    w.put(`${paths.generations}/2.retired`, JSON.stringify({ ...g, seal: 'ffff', identity: 'memory 99999' }));
    w.reboot();
    await recover(w.machine());
    expect(has(w, 2)).toBe(true);
  });
  it('C2: the generations are not there for a night (renamed): their seals are not taken with the records', async () => {
    const w = await world(1);
    for (const what of ['two', 'three']) await updateOf(w, what);
    const seals = new Map(w.seals);
    const away = [...w.volumes].filter(([k]) => k.includes('/generation/'));
    for (const [k] of away) w.volumes.delete(k);
    await updateOf(w, 'four').catch(() => undefined);
    w.newProcess();
    for (const [k, f] of away) w.volumes.set(k, f);
    await recover(w.machine());
    console.log('C2', [...seals.keys()].length, [...w.seals.keys()], numbersOf(w));
    expect(numbersOf(w)).toContain(3);
  });
  it('C6: a removal that is interrupted after it took the seal is completed, wherever', async () => {
    const bad: string[] = [];
    const one = async (die: number): Promise<[World, number, boolean]> => {
      const w = await world();
      await updateOf(w, 'two');
      const { paths } = w.machine();
      await updateOf(w, 'three');
      // the state in the checks of 3, which has not passed
      const seal = sealIn(w, 3);
      w.host.rename(`${paths.generations}/3.json`, `${paths.generations}/3.candidate`);
      w.seals.set(volumeOf(3), sealText({ ...seal, proven: false } as never));
      w.host.unlink(paths.stable);
      w.host.symlink('generations/2.json', paths.stable);
      w.newProcess();
      w.dieAt = die;
      let over = true;
      await recover(w.machine()).catch(() => { over = false; });
      if (w.calls >= die) over = false;
      const n = w.calls; if (die === Number.POSITIVE_INFINITY) console.log('C6x', n, [...w.volumes.keys()], stateOf(w).map(e => e[0]).filter(p => p.includes('generations/')), stableOf(w));
      w.newProcess();
      return [w, n, over];
    };
    const [, total] = await one(Number.POSITIVE_INFINITY);
    for (let n = 1; n <= total; n++) {
      const [w] = await one(n);
      const r = await recover(w.machine());
      w.newProcess();
      if (has(w, 3) || r.kept.length) bad.push(`died at ${n}: ${r.kept}`);
    }
    console.log('C6', total, bad);
    expect(bad).toEqual([]);
  });
  it('C6b: the same for a retirement', async () => {
    const bad: string[] = [];
    for (let n = 1; n < 40; n++) {
      const w = await world();
      for (const what of ['two', 'three', 'four']) await updateOf(w, what);
      w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\n[update]\nkeep = 1\n');
      endProbation(w.host, w.machine().paths);
      w.newProcess();
      w.dieAt = n;
      await prune(w.machine(), pool).catch(() => undefined);
      w.newProcess();
      const r = await recover(w.machine());
      w.newProcess();
      await prune(w.machine(), pool);
      w.newProcess();
      if (has(w, 2) || has(w, 3) || r.kept.length) bad.push(`died at ${n}: ${r.kept} ${r.stuck} ${[...w.volumes.keys()]}`);
    }
    console.log('C6b', bad);
    expect(bad).toEqual([]);
  });
  it('C3: a pool that is being copied: an update does not make half of master stable', async () => {
    const w = await world();
    await updateOf(w, 'two');
    move(w);
    w.volumes.get(`${pool.path}/master/master`)?.nodes.delete('/usr/lib'); // still to come
    await recover(w.machine());
    w.newProcess();
    await updateOf(w, 'three').catch(() => undefined);
    w.newProcess();
    const st = stableOf(w) ?? 0;
    console.log('C3', st, w.volumes.get(volumeOf(st))?.nodes.has('/usr/lib'));
    expect(w.volumes.get(volumeOf(st))?.nodes.has('/usr/lib')).toBe(true);
  });
});

/** Random histories, and any subset of a state with any pool. */
const SEEDS = Number(process.env.ATTACK_SEEDS ?? 60);
const FIRST = Number(process.env.ATTACK_FIRST ?? 1);
const chance = (seed: number) => {
  let a = seed * 2654435761;
  return (n: number): number => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
};
interface Day { state: [string, Node][]; volumes: Map<string, { dev: number; nodes: Map<string, Node> }>; seals: Map<string, string>; when: string; good: number[] }
describe('F: any state with any pool', () => {
  it(`seeds ${FIRST} to ${FIRST + SEEDS - 1}`, async () => {
    const bad: string[] = [];
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      const r = chance(seed);
      const w = await world(1 + r(3));
      const { paths } = w.machine();
      const days: Day[] = [];
      const proved = new Set<string>();
      const note = (when: string): void => {
        const proven = numbersOf(w).filter(n => has(w, n));
        for (const n of proven) proved.add(`${n} ${readableGeneration(w.host, paths, n)?.seal}`);
        days.push({ when, good: proven, state: stateOf(w), seals: new Map(w.seals),
          volumes: new Map([...w.volumes].map(([k, f]) => [k, { dev: f.dev, nodes: new Map(f.nodes) }])) });
      };
      await recover(w.machine());
      w.newProcess();
      note('0');
      for (let i = 2; i < 7; i++) {
        const what = r(6);
        try {
          if (what === 0 && numbersOf(w).length > 1) { await rollback(w.machine(), undefined); w.newProcess(); note(`rollback at ${i}`); }
          else if (what === 1) { w.dieAt = w.calls + 1 + r(120); await updateOf(w, `v${i}`); }
          else await updateOf(w, `v${i}`, l => { if (r(3) === 0) note(`in ${l} of ${i}`); });
        } catch { /* died */ }
        w.newProcess();
        note(`after ${i}`);
        if (r(2)) { await recover(w.machine()); w.newProcess(); }
        if (r(2)) endProbation(w.host, paths);
        if (r(3) === 0) { await prune(w.machine(), pool).catch(() => undefined); w.newProcess(); note(`prune ${i}`); }
      }
      const s = days[r(days.length)] as Day;
      const p = days[r(days.length)] as Day;
      const s2 = days[r(days.length)] as Day;
      const files = s.state.filter(([path, n]) => n.kind === 'dir' || r(100) >= (seed % 3 === 0 ? 30 : 0));
      if (seed % 5 === 0) for (const e of s2.state) if (!files.some(([q]) => q === e[0])) files.push(e); // merged
      w.volumes.clear();
      w.seals.clear();
      for (const [k, f] of p.volumes) w.volumes.set(k, { dev: f.dev, nodes: new Map(f.nodes) });
      for (const [k, t] of p.seals) w.seals.set(k, t);
      const truly = [...w.volumes.keys()].flatMap(k => /generation\/(\d+)$/.exec(k)?.[1] ?? []).map(Number)
        .filter(n => sealIn(w, n)?.proven);
      const damage: string[] = [];
      const whole = new Set(truly);
      if (process.env.ATTACK_DAMAGE) {
        for (const n of [...w.volumes.keys()].flatMap(k => /generation\/(\d+)$/.exec(k)?.[1] ?? []).map(Number)) {
          const kind = r(12);
          const nodes = w.volumes.get(volumeOf(n))?.nodes;
          if (kind === 0) w.seals.set(volumeOf(n), '');
          else if (kind === 1) w.seals.delete(volumeOf(n));
          else if (kind === 2) nodes?.delete(`/${MARK}`);
          else if (kind === 3) nodes?.delete('/etc/version');
          else if (kind === 4) { for (const q of [...(nodes?.keys() ?? [])]) if (q !== '' && q !== `/${MARK}`) nodes?.delete(q); }
          else if (kind === 5) { const o = [...truly].find(m => m !== n); if (o) w.seals.set(volumeOf(n), w.seals.get(volumeOf(o)) ?? ''); }
          else continue;
          whole.delete(n);
          damage.push(`${n}:${kind}`);
        }
        if (r(4) === 0) { move(w); damage.push('moved'); whole.delete(1); }
        if (r(6) === 0) { const at = files.filter(([q, n]) => n.kind === 'file' && q.includes('/generations/')); const f = at[r(at.length)]; if (f) { files.splice(files.indexOf(f), 1, [f[0], { ...f[1], text: f[1].text.slice(0, 9) }]); damage.push(`cut ${f[0].slice(-12)}`); } }
      }
      putBack(w, files);
      const retired = generationNumbers(w.host, paths, 'retired');
      const name = `seed ${seed}: state ${s.when}${seed % 5 === 0 ? ` + ${s2.when}` : ''} pool ${p.when} [${truly}] demoted [${truly.filter(n => sealIn(w, n)?.demoted !== undefined)}] retired [${retired}] damage [${damage}] stable ${stableOf(w)}`;
      const hadMaster = w.volumes.has(`${pool.path}/master/master`);
      try {
        const first = await recover(w.machine());
        w.newProcess();
        const gone = truly.filter(n => !has(w, n) && (!retired.includes(n) || !truly.some(m => has(w, m))));
        if (gone.length) bad.push(`${name}: deleted ${gone}`);
        if (hadMaster && !w.volumes.has(`${pool.path}/master/master`)) bad.push(`${name}: master deleted`);
        if (truly.length && ![...truly].some(n => has(w, n))) bad.push(`${name}: the last is deleted`);
        const st = stableOf(w);
        if (st !== undefined && has(w, st) && !truly.includes(st) && !proved.has(`${st} ${readableGeneration(w.host, paths, st)?.seal}`)) bad.push(`${name}: stable ${st} is not proven`);
        const can = [...whole].some(n => sealIn(w, n)?.demoted === undefined) && (st === undefined || !truly.includes(st) || whole.has(st));
        if (can) {
          const g = await login(w.machine(), callOf(w, 'bob', ':7')).catch(e => String(e));
          if (typeof g === 'string') bad.push(`${name}: login ${g} stable ${st} stuck ${first.stuck} kept ${first.kept}`);
          else if (g) await end(w.machine(), g.id);
          w.newProcess();
        }
        const again = await recover(w.machine());
        w.newProcess();
        if (again.adopted.length || again.swept.length) bad.push(`${name}: not idempotent ${JSON.stringify(again)}`);
        // and a night
        await updateOf(w, 'night').catch(e => { bad.push(`${name}: update ${String(e)}`); w.newProcess(); });
        const s3 = stableOf(w);
        if (s3 !== undefined) {
          const g = await login(w.machine(), callOf(w, 'bob', ':7')).catch(e => String(e));
          if (typeof g === 'string') bad.push(`${name}: login after a night ${g}`);
        }
      } catch (e) {
        bad.push(`${name}: threw ${String(e)}`);
      }
      w.newProcess();
    }
    console.log(`F ${bad.length}\n${bad.join('\n')}`);
    expect(bad).toEqual([]);
  }, 600_000);
});
export type { VolumeBackend };
void sealText;
describe('C7', () => {
  it('each tree is counted once when the state is lost', async () => {
    const w = await world(5);
    for (const what of ['two', 'three', 'four']) await updateOf(w, what);
    putBack(w);
    w.ran.length = 0;
    await recover(w.machine());
    const finds = w.ran.filter(c => c.startsWith('find') && c.includes('%s\\n'));
    console.log('C7', finds.length);
    expect(finds.length).toBeLessThanOrEqual(3);
  });
});
describe('D', () => {
  it('D1: master was moved, and no generation is usable: an update has something to start from', async () => {
    const w = await world();
    await updateOf(w, 'two');
    move(w); // generation 1 has no mark
    w.volumes.get(volumeOf(2))?.nodes.delete('/etc/version'); // lost with the disk
    await recover(w.machine());
    w.newProcess();
    await updateOf(w, 'three');
    await mustLogIn(w, 3);
  });
});
