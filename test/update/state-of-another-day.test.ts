/** A state directory and a pool of different days, as restores leave them: nothing proven goes, nothing else comes. */
import { describe, expect, it } from 'vitest';
import { recover } from '../../src/service/recover.ts';
import {
  endProbation,
  markDemoted,
  readableGeneration,
  whyDemoted,
  writeGeneration,
} from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { init } from '../../src/update/init.ts';
import { prune } from '../../src/update/retention.ts';
import { rollback } from '../../src/update/rollback.ts';
import { MARK } from '../../src/volume/seal-files.ts';
import type { Node, World } from '../world.ts';
import {
  hasTree,
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

/** Only generation 2 is left in the pool, stable and proven; `during` is the state in the checks of its update. */
async function onlyTwo(): Promise<{ w: World; during: [string, Node][] }> {
  const w = await world(1);
  let during: [string, Node][] = [];
  await updateOf(w, 'two', () => {
    if (w.host.exists(`${STATE}/generations/2.candidate`)) during = stateOf(w);
  });
  endProbation(w.host, w.machine().paths);
  await prune(w.machine(), pool);
  expect([hasTree(w, 1), hasTree(w, 2), sealIn(w, 2)?.proven]).toEqual([false, true, true]);
  expect(during.some(([p]) => p.endsWith('2.candidate'))).toBe(true);
  return { w, during };
}

const eio = (): Error => Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });

describe('a candidate of another day, which has passed its checks since, is kept', () => {
  it('where its seal is damaged or cannot be read', async () => {
    const { w, during } = await onlyTwo();
    w.seals.set(volumeOf(2), '');
    putBack(w, during);
    await recover(w.machine());
    expect(hasTree(w, 2)).toBe(true);
  });
  it('where the directory of the seals cannot be read once', async () => {
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
    expect(hasTree(w, 2)).toBe(true);
  });
  it('where the pool was moved, and the copy is still running', async () => {
    const { w, during } = await onlyTwo();
    move(w);
    w.volumes.get(volumeOf(2))?.nodes.delete('/etc/version');
    putBack(w, during);
    await recover(w.machine());
    expect(hasTree(w, 2)).toBe(true);
  });
  it('where the pool was moved, and find(1) fails once', async () => {
    const { w, during } = await onlyTwo();
    move(w);
    putBack(w, during);
    w.failing.add('find');
    await recover(w.machine());
    w.failing.delete('find');
    expect(hasTree(w, 2)).toBe(true);
  });
});

describe('records of two days in one directory, as of a backup restored over what is there', () => {
  it('a corrupt record of a removal costs the stable generation nothing', async () => {
    const w = await world();
    await updateOf(w, 'two');
    w.put(`${STATE}/generations/2.retired`, '{"numb');
    w.reboot();
    await recover(w.machine());
    expect([stableOf(w), hasTree(w, 2), numbersOf(w)]).toEqual([2, true, [1, 2]]);
  });
  it('the record of a candidate costs the stable generation nothing, although its seal is damaged', async () => {
    const { w } = await onlyTwo();
    const text = w.host.read(`${STATE}/generations/2.json`) ?? '';
    w.put(`${STATE}/generations/2.candidate`, text);
    w.seals.set(volumeOf(2), '');
    w.reboot();
    await recover(w.machine());
    expect([stableOf(w), hasTree(w, 2), numbersOf(w)]).toEqual([2, true, [2]]);
  });
  it('a removal is not completed with a pool of an earlier day, in which it would leave nothing', async () => {
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
    expect(hasTree(w, 2)).toBe(true);
    expect(stableOf(w)).toBe(2);
  });
  it('a corrupt record of a removal does not take the last generation', async () => {
    const { w } = await onlyTwo();
    w.host.rename(`${STATE}/generations/2.json`, `${STATE}/generations/2.retired`);
    w.put(`${STATE}/generations/2.retired`, '{"numb');
    w.reboot();
    await recover(w.machine());
    expect(hasTree(w, 2)).toBe(true);
  });
});

describe('what was demoted does not become stable', () => {
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
  it('by the state of the day before without its pointer: the seal says demoted', async () => {
    const { w, before } = await demoted();
    putBack(
      w,
      before.filter(([p]) => p !== `${STATE}/stable`),
    );
    await recover(w.machine());
    expect(sealIn(w, 3)?.demoted).toBe('rolled back to generation 2');
    expect(stableOf(w)).toBe(2);
  });
  it('by a state in which its promotion is still to be completed', async () => {
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

describe('a way out', () => {
  it('only demoted generations are left, and no pointer: the newest of them is better than none', async () => {
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
  it('the record of another generation does not hide the sealed one of the same number', async () => {
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

describe('a tree that was emptied, but for its mark', () => {
  it('is not adopted', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    const nodes = w.volumes.get(volumeOf(3))?.nodes;
    for (const path of [...(nodes?.keys() ?? [])])
      if (path !== '' && path !== `/${MARK}`) nodes?.delete(path);
    putBack(w);
    await recover(w.machine());
    expect(stableOf(w)).toBe(2);
    await mustLogIn(w, 2);
  });
});

describe('a pool that was moved, and whose state is lost later', () => {
  it('says when it was moved: doctor would count each file as changed', async () => {
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

describe('one record that cannot be read', () => {
  it('does not keep the pointer from being repaired', async () => {
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

describe('what is done every ten minutes', () => {
  it('counts an incomplete copy once', async () => {
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
    expect(finds.length).toBeLessThanOrEqual(1);
  });
  it('writes a seal that can be read, also from a damaged record', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { paths } = w.machine();
    const g = readableGeneration(w.host, paths, 2);
    if (!g) throw new Error();
    writeGeneration(
      w.host,
      paths,
      { ...g, content: { entries: -1, bytes: 1, owners: 1, modes: 1 } },
      'proven',
    );
    await recover(w.machine());
    w.newProcess();
    await recover(w.machine());
    expect(sealIn(w, 2)).toBeDefined();
  });
});

describe('record and seal of a proven generation are lost, and its mark is there', () => {
  it('it is kept, although it has the last number', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await updateOf(w, 'three');
    await rollback(w.machine(), 2);
    w.newProcess();
    w.host.unlink(`${STATE}/generations/3.json`);
    w.seals.delete(volumeOf(3));
    await recover(w.machine());
    expect(hasTree(w, 3)).toBe(true);
  });
  it('init removes neither it nor master', async () => {
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
    await recover(w.machine());
    w.newProcess();
    const o = { backend: 'overlay', source: { kind: 'host' }, say: () => undefined } as const;
    await init(w.machine(), o).catch(() => undefined);
    const tree = w.volumes.get(volumeOf(1))?.nodes.get(`/${MARK}`)?.text;
    expect([tree?.startsWith('1 '), w.volumes.has(`${pool.path}/master/master`)]).toEqual([true, true]);
  });
});
