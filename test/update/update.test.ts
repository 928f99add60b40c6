/** The updater: tables for its decisions, and a crash at every call of an update and of the recovery after it. */
import { describe, expect, it } from 'vitest';
import { judgePromotion } from '../../src/cli/doctor/generations.ts';
import { MayflyError } from '../../src/errors.ts';
import type { Host } from '../../src/linux/host.ts';
import { logTo } from '../../src/linux/log.ts';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { hasLasted, PROVEN_AFTER } from '../../src/session/proof.ts';
import { login } from '../../src/session/session.ts';
import {
  corruptRecord,
  endProbation,
  generationNumbers,
  markDemoted,
  probation,
  readableGeneration,
  readGeneration,
  stableNumber,
  takeNumber,
  whyDemoted,
} from '../../src/state/generations.ts';
import { blockLogins } from '../../src/state/login-block.ts';
import { makeDirectories } from '../../src/state/paths.ts';
import { writePool } from '../../src/state/pool.ts';
import { parseSeal } from '../../src/state/seals.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { readHistory, writeHistory } from '../../src/state/update-history.ts';
import { describePromotions, pendingPromotion, readIntent, writeIntent } from '../../src/update/adopt.ts';
import { programOf, sessionPrograms } from '../../src/update/built-in-checks.ts';
import { gatherHealth, healthLine } from '../../src/update/health.ts';
import { rebootIfRequired } from '../../src/update/host-update.ts';
import { aptOptions, incompletePackages } from '../../src/update/refresh.ts';
import { planRetention, prune, retentionPlan, retire } from '../../src/update/retention.ts';
import { rollback } from '../../src/update/rollback.ts';
import { isDue, isMissed, lastAttemptOf, offsetOf, spreadOf } from '../../src/update/schedule.ts';
import { update } from '../../src/update/update.ts';
import { removals } from '../../src/update/upgrade.ts';
import { masterOf, type Volume, workOf } from '../../src/volume/backend.ts';
import { MARK } from '../../src/volume/seal-files.ts';
import { callOf, preparedWorld, World } from '../world.ts';

describe('retention', () => {
  const g = (number: number, sessions = 0, demoted = false, corrupt = false) => ({
    ...{ number, sessions, demoted, corrupt },
  });
  it.each([
    [
      'keeps the newest, the stable one included',
      [g(1), g(2), g(3), g(4)],
      4,
      2,
      '1 remove, 2 remove, 3 keep-if-space, 4 keep',
    ],
    [
      'keeps the stable one regardless of its age',
      [g(1), g(2), g(3)],
      1,
      2,
      '1 keep, 2 remove, 3 keep-if-space',
    ],
    ['keeps one that sessions use', [g(1, 2), g(2), g(3), g(4)], 4, 1, '1 keep, 2 remove, 3 remove, 4 keep'],
    ['removes a demoted one', [g(1), g(2), g(3, 0, true)], 2, 3, '1 keep-if-space, 2 keep, 3 remove'],
    ['keeps a demoted one that sessions use', [g(1), g(2, 1, true)], 1, 3, '1 keep, 2 keep'],
    ['keeps only the stable one with keep = 1', [g(1), g(2)], 2, 1, '1 remove, 2 keep'],
    ['keeps all if none is stable', [g(1), g(2), g(3)], undefined, 1, '1 keep, 2 keep, 3 keep'],
    [
      'keeps one with a corrupt record, without counting it',
      [g(1), g(2, 0, false, true), g(3)],
      3,
      2,
      '1 keep-if-space, 2 keep, 3 keep',
    ],
    ['decides nothing without generations', [], undefined, 3, ''],
  ] as const)('%s', (_what, generations, stable, keep, expected) => {
    const plan = planRetention(generations, { stable, fallback: undefined, keep });
    expect(plan.map(f => `${f.number} ${f.action}`).join(', ')).toBe(expected);
  });
  it('keeps the generation to which one on probation falls back', () => {
    const plan = planRetention([g(1), g(2), g(3)], { stable: 3, fallback: 1, keep: 1 });
    expect(plan.map(f => f.action)).toEqual(['keep', 'remove', 'keep']);
  });
});

describe('apt', () => {
  it('names the packages that a simulation would remove', () => {
    const text =
      'NOTE: This is only a simulation!\nInst foo [1] (2)\nRemv bar [1]\nRemv libz:i386 [2] [a ]\nConf foo\n';
    expect(removals(text)).toEqual(['bar', 'libz']);
  });

  it.each([
    ['', []],
    ['The following packages are only half configured:\n a     words\n b:amd64  words\n\n', ['a', 'b:amd64']],
    ['The following are missing the list control file:\n a  x\n\nThe following, too:\n a  x\n', ['a']],
    ['The following packages are missing the md5sums control file in the\ndatabase:\n zoom  words\n\n', []],
  ])('%j of "dpkg --audit" names %j as incomplete', (text, names) =>
    expect(incompletePackages(text)).toEqual(names),
  );
  const { update: defaults } = new World().machine().config;
  it.each([
    [{}, ['Dpkg::Options::=--force-confold'], ['Acquire::http::Proxy', 'Dir::Etc::SourceParts']],
    [{ conffiles: 'replace' as const }, ['Dpkg::Options::=--force-confnew'], ['--force-confold']],
    [{ proxy: 'http://p:1' }, ['Acquire::http::Proxy=http://p:1', 'Acquire::https::Proxy=http://p:1'], []],
    [{ sources: ['deb file:/r ./'] }, ['Dir::Etc::SourceParts=/dev/null'], []],
  ])('gets its options from %j', (change, there, absent) => {
    const options = aptOptions({ ...defaults, ...change });
    for (const option of there) expect(options).toContain(option);
    for (const word of absent) expect(options.join(' ')).not.toContain(word);
  });
  it.each([
    ['startxfce4', 'startxfce4'],
    ['/usr/bin/gnome-session --session=gnome', '/usr/bin/gnome-session'],
    ['"/opt/my desktop/start" --x', '/opt/my desktop/start'],
    ['env GDK_BACKEND=x11 -u FOO startlxde', 'FOO'],
    ['env A=b startlxqt', 'startlxqt'],
    ['', ''],
  ])('starts "%s" as the program "%s"', (line, program) => expect(programOf(line)).toBe(program));
  it('does not take the values that Xsession interprets for programs, such as in the entry of lightdm', () => {
    const w = new World();
    const at = '/v/usr/share/xsessions';
    w.makeDirs(at);
    w.put(`${at}/lightdm-xsession.desktop`, '[Desktop Entry]\nName=Default Xsession\nExec=default\n');
    w.put(`${at}/x.desktop`, '[Desktop Entry]\nName=X\nExec=x\n');
    expect([...sessionPrograms(w.host, '/v').values()]).toEqual(['x']);
  });
});

const pool = { backend: 'overlay' as const, path: '/var/lib/mayfly/pool' };

/** Alice is logged in, and master equals generation 1. */
async function world(): Promise<World> {
  const w = preparedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\ndemote_after = 2\n[update]\nkeep = 1\n');
  const on = w.machine();
  await on.backend('overlay').fork({ ...masterOf(pool), role: 'generation', name: '1' }, masterOf(pool));
  await login(on, callOf(w, 'alice', ':0'));
  w.newProcess();
  return w;
}

function addCarol(w: World): void {
  w.put('/etc/passwd', `${w.host.read('/etc/passwd')}carol:x:1003:1003::/home/carol:/bin/sh\n`);
  w.put('/etc/group', `${w.host.read('/etc/group')}carol:x:1003:\n`);
}

const contents = (w: World, v: Volume): string =>
  JSON.stringify(
    [...(w.volumes.get(w.backend().path(v) ?? '')?.nodes ?? [])]
      .filter(([path]) => path !== `/${MARK}`) // only generations have it
      .map(([path, n]) => [path, n.text]),
  );

/** An update that writes `what` into the tree. */
function updateOf(w: World, what: string, from?: number) {
  const on = w.machine();
  return update(on, {
    what: 'an update',
    origin: 'test',
    force: true,
    from,
    say: () => undefined,
    change: async () => {
      on.host.sync('/'); // an effect: one more call at which to crash
      const work = w.volumes.get(w.backend().path(workOf(pool)) ?? '');
      const file = work?.nodes.get('/etc/passwd');
      if (work && file) work.nodes.set('/etc/version', { ...file, text: what });
      return true;
    },
  });
}

/** The invariants while no update is running. */
function mustBeSound(w: World, when: string): void {
  const { host, paths } = w.machine();
  const stable = stableNumber(host, paths);
  expect(stable, when).toBeDefined();
  const volumes = [...w.volumes.keys()];
  for (const n of generationNumbers(host, paths))
    expect(volumes, when).toContain(`${pool.path}/generation/${n}`);
  expect(generationNumbers(host, paths), when).toContain(stable);
  for (const standing of ['candidate', 'retired'] as const)
    expect(generationNumbers(host, paths, standing), when).toEqual([]);
  expect(
    volumes.filter(v => /\/work\//.test(v)),
    when,
  ).toEqual([]);
  expect(volumes.filter(v => /\/generation\//.test(v)).length, when).toBe(
    generationNumbers(host, paths).length,
  );
  const generation = { ...masterOf(pool), role: 'generation' as const, name: String(stable) };
  expect(contents(w, masterOf(pool)), when).toBe(contents(w, generation));
  const sessions = readSessions(host, paths);
  expect(
    sessions.map(s => s.user.name),
    when,
  ).toEqual(['alice']);
  expect(volumes, when).toContain(`${pool.path}/generation/1`); // pinned by alice
}

describe('a crash at any call of an update', () => {
  it('leaves a stable generation with its master and, after one recover, no leftovers; the next update works', async () => {
    const probe = await world();
    await updateOf(probe, 'two');
    mustBeSound(probe, 'undisturbed');
    expect(stableNumber(probe.host, probe.machine().paths)).toBe(2);
    const total = probe.calls;
    expect(total).toBeGreaterThan(60);
    const seen = new Set<number | undefined>();
    for (let n = 1; n <= total; n++) {
      const w = await world();
      w.newProcess();
      w.dieAt = n;
      await updateOf(w, 'two').catch(() => undefined);
      w.newProcess();
      const result = await recover(w.machine());
      expect(result.stuck, `died at ${n}`).toEqual([]);
      mustBeSound(w, `died at ${n}`);
      const { host, paths } = w.machine();
      seen.add(stableNumber(host, paths));
      const told = readHistory(host, paths)?.result;
      expect([undefined, 'interrupted', 'promoted', 'failed'], `died at ${n}`).toContain(told);
      w.newProcess();
      const outcome = await updateOf(w, 'three');
      expect(outcome.result, `died at ${n}`).toBe('promoted');
      expect(outcome.generation, `died at ${n}`).toBeGreaterThan(stableNumber(host, paths) === 2 ? 1 : 0);
      mustBeSound(w, `died at ${n}, then updated`);
    }
    expect([...seen].sort()).toEqual([1, 2]);
  });

  it('may be followed by a crash at any call of the recovery', async () => {
    const probe = await world();
    await updateOf(probe, 'two');
    const total = probe.calls;
    for (let n = 1; n <= total; n += 3) {
      const broken = async (): Promise<World> => {
        const w = await world();
        w.newProcess();
        w.dieAt = n;
        await updateOf(w, 'two').catch(() => undefined);
        w.newProcess();
        return w;
      };
      const once = await broken();
      await recover(once.machine());
      for (let m = 1; m <= once.calls; m++) {
        const w = await broken();
        w.dieAt = m;
        await recover(w.machine()).catch(() => undefined);
        w.newProcess();
        await recover(w.machine());
        mustBeSound(w, `update died at ${n}, recover at ${m}`);
      }
    }
  });

  it('never assigns a number twice', async () => {
    const w = await world();
    w.newProcess();
    const { setpriv } = w.programs;
    w.programs.setpriv = args => {
      if (args.includes('schroot')) throw new MayflyError('command', 'a check fails');
      return setpriv?.(args);
    };
    await expect(updateOf(w, 'two')).rejects.toThrow('a check fails');
    if (setpriv) w.programs.setpriv = setpriv;
    w.newProcess();
    expect((await updateOf(w, 'three')).generation).toBe(3);
  });
});

/** An update from one to two that dies at call `n`. */
async function diedAt(n: number): Promise<World> {
  const w = await world();
  w.newProcess();
  w.dieAt = n;
  await updateOf(w, 'two').catch(() => undefined);
  w.newProcess();
  return w;
}

/** Number of calls of an undisturbed update from one to two. */
async function callsOfUpdate(): Promise<number> {
  const w = await world();
  w.newProcess();
  await updateOf(w, 'two');
  return w.calls;
}

const INTENT = '/var/lib/mayfly/adopt';
const MASTER = `${pool.path}/master/master`;
const WORK = `${pool.path}/work/work`;

/** The last volume of {@link MASTER} or {@link WORK} must not be removed. */
const hasTree = (w: World): boolean => w.volumes.has(MASTER) || w.volumes.has(WORK);

describe('the record of a promotion that is cut short', () => {
  /** The calls at which the update has left the record, and what the first bytes of it may be after a crash. */
  async function* cuts(): AsyncGenerator<{ when: string; broken: () => Promise<World> }> {
    const total = await callsOfUpdate();
    for (let n = 1; n <= total; n++) {
      const text = (await diedAt(n)).host.read(INTENT);
      for (let bytes = 0; text !== undefined && bytes < text.length; bytes++) {
        const broken = async (): Promise<World> => {
          const w = await diedAt(n);
          w.put(INTENT, text.slice(0, bytes));
          return w;
        };
        yield { when: `died at ${n}, ${bytes} bytes`, broken };
      }
    }
  }

  it('costs neither master nor the promotion: recover completes or reverts it, and the next update works', async () => {
    const seen = new Set<string>();
    for await (const { when, broken } of cuts()) {
      const w = await broken();
      const { host, paths } = w.machine();
      const isCommitted = parseSeal(w.seals.get(`${pool.path}/generation/2`), 2)?.proven === true;
      const hadMaster = w.volumes.has(MASTER);
      expect((await recover(w.machine())).stuck, when).toEqual([]);
      mustBeSound(w, when);
      expect(stableNumber(host, paths), when).toBe(isCommitted ? 2 : 1);
      expect(host.exists(INTENT), when).toBe(false);
      w.newProcess();
      expect((await updateOf(w, 'three')).result, when).toBe('promoted');
      mustBeSound(w, `${when}, then updated`);
      seen.add(`${isCommitted ? 'committed' : 'not committed'}, master ${hadMaster ? 'there' : 'removed'}`);
    }
    expect([...seen].sort()).toEqual([
      'committed, master removed',
      'committed, master there',
      'not committed, master there',
    ]);
  });

  it('may be followed by a crash at any call of the recovery', async () => {
    for await (const { when, broken } of cuts()) {
      if (!when.endsWith(' 0 bytes')) continue;
      const once = await broken();
      await recover(once.machine());
      for (let m = 1; m <= once.calls; m++) {
        const w = await broken();
        w.dieAt = m;
        await recover(w.machine()).catch(() => undefined);
        expect(hasTree(w), `${when}, recover died at ${m}`).toBe(true);
        w.newProcess();
        await recover(w.machine());
        mustBeSound(w, `${when}, recover died at ${m}`);
      }
    }
  });

  it('is never read as another one', () => {
    const w = preparedWorld();
    const { host, paths } = w.machine();
    for (const known of [[], Array.from({ length: 11 }, (_, i) => i + 1)]) takeNumber(host, paths, known);
    writeIntent(host, paths, 12, 10, 'inode 8 of 3.5');
    expect(readIntent(host, paths)).toEqual({ number: 12, before: 10, work: 'inode 8 of 3.5' });
    w.put(INTENT, '12 10\n'); // of an earlier version
    expect(readIntent(host, paths)).toEqual({ number: 12, before: 10 });
    writeIntent(host, paths, 12, 10, 'inode 8 of 3.5');
    const text = host.read(INTENT) ?? '';
    for (let bytes = 0; bytes < text.length; bytes++) {
      w.put(INTENT, text.slice(0, bytes));
      expect(readIntent(host, paths)).toEqual({ number: 12, before: undefined });
    }
  });

  it('does not bring back a generation that was demoted', async () => {
    const w = await world();
    await updateOf(w, 'two');
    await rollback(w.machine(), 1);
    w.put(INTENT, '');
    await recover(w.machine());
    expect(stableNumber(w.host, w.machine().paths)).toBe(1);
  });
});

describe('a promotion that logins do not let through in time', () => {
  /** A world with an update whose promotion has waited for a login in vain. */
  async function pending(): Promise<{ w: World; leave: () => void }> {
    const w = await world();
    const { paths } = w.machine();
    w.readers.set(1, { pid: 50, path: paths.forks });
    const began = w.host.monotonic();
    const outcome = await updateOf(w, 'two');
    expect(outcome).toMatchObject({
      result: 'kept',
      generation: 2,
      reason:
        'the promotion of generation 2 has waited 60 s for process 50 lightdm; the service tries again within ten minutes',
    });
    expect(w.host.monotonic() - began).toBeGreaterThanOrEqual(60_000);
    expect(w.host.monotonic() - began).toBeLessThan(70_000);
    expect(stableNumber(w.host, paths)).toBe(1);
    expect(readHistory(w.host, paths)).toMatchObject({ result: 'kept' });
    expect(pendingPromotion(w.host, paths)).toBe(2);
    w.newProcess();
    return { w, leave: () => w.readers.delete(1) };
  }

  it('is completed by recover, as it would have been by the update', async () => {
    const { w, leave } = await pending();
    const { host, paths } = w.machine();
    expect(await recover(w.machine())).toMatchObject({ stuck: [] });
    expect(stableNumber(host, paths)).toBe(1);
    expect(pendingPromotion(host, paths)).toBe(2);
    leave();
    await recover(w.machine());
    mustBeSound(w, 'completed');
    expect(stableNumber(host, paths)).toBe(2);
    expect(probation(host, paths)).toEqual({ number: 2, previous: 1, failures: 0 });
    expect(pendingPromotion(host, paths)).toBeUndefined();
    const told = readHistory(host, paths);
    expect(told).toMatchObject({ result: 'promoted', generation: 2, lastSuccess: told?.lastAttempt });
    expect(told?.reason).toBeUndefined();
    expect(host.exists(paths.promotion)).toBe(false);
  });

  it('is completed at any call of recover, whenever that dies', async () => {
    const { w: probe, leave } = await pending();
    leave();
    await recover(probe.machine());
    for (let n = 1; n <= probe.calls; n += 2) {
      const { w, leave: go } = await pending();
      go();
      w.dieAt = n;
      await recover(w.machine()).catch(() => undefined);
      w.newProcess();
      await recover(w.machine());
      mustBeSound(w, `died at ${n}`);
      expect(stableNumber(w.host, w.machine().paths), `died at ${n}`).toBe(2);
    }
  });

  it('keeps another update from its working copy, and is completed by the next one', async () => {
    const { w, leave } = await pending();
    const { host, paths } = w.machine();
    await expect(updateOf(w, 'three')).rejects.toMatchObject({
      code: 'locked',
      message: expect.stringMatching(/generation 2 has waited 10 s for process 50 lightdm$/),
    });
    expect(contents(w, workOf(pool))).toContain('two');
    leave();
    expect(await updateOf(w, 'three')).toMatchObject({ result: 'promoted', generation: 3 });
    mustBeSound(w, 'updated');
    expect(stableNumber(host, paths)).toBe(3);
  });

  it('leaves the pointer to an administrator who moves it meanwhile', async () => {
    const { w, leave } = await pending();
    const { host, paths } = w.machine();
    leave();
    expect(await rollback(w.machine(), 2)).toEqual({ from: 1, to: 2 });
    expect(await rollback(w.machine(), 1)).toEqual({ from: 2, to: 1 });
    await recover(w.machine());
    expect(stableNumber(host, paths)).toBe(1);
  });

  it('is named by status and doctor, with the login that it waits for', async () => {
    const { w, leave } = await pending();
    const { host, paths } = w.machine();
    const finding = () => {
      const words = describePromotions(host, paths);
      return judgePromotion({ pending: pendingPromotion(host, paths), words }).findings.map(f => [
        f.what,
        f.fix,
      ]);
    };
    const what = 'generation 2 passed its checks, but is not stable yet: its promotion';
    expect(finding()).toEqual([[`${what} waits for process 50 lightdm`, 'mayfly recover']]);
    leave();
    expect(finding()).toEqual([
      [`${what} was interrupted, or logins did not let it through`, 'mayfly recover'],
    ]);
    await recover(w.machine());
    expect(finding()).toEqual([]);
    expect(judgePromotion({ pending: undefined, words: 'the rollback waits' }).findings).toMatchObject([
      { what: 'the rollback waits', fix: 'mayfly sessions' },
    ]);
  });

  it.each([
    ['without room to announce it', 'promotion.json', 'there is no room in "/run/mayfly" to announce'],
    ['because the lock cannot be taken', 'locks/promote', 'no lock'],
  ])(
    '%s: the generation is proven and waits, and the next update does not touch its working copy',
    async (_, what, reason) => {
      const w = await world();
      const { paths } = w.machine();
      let isFull = true;
      const machine = w.machine.bind(w);
      w.machine = () => {
        const on = machine();
        const { host } = on;
        return {
          ...on,
          host: {
            ...host,
            write(path, text, o) {
              if (isFull && path.endsWith(what)) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
              host.write(path, text, o);
            },
            openLock(path) {
              if (isFull && path.endsWith(what)) throw new MayflyError('command', 'no lock');
              return host.openLock(path);
            },
          },
        };
      };
      const outcome = await updateOf(w, 'two');
      expect(outcome).toMatchObject({ result: 'kept', generation: 2 });
      expect(outcome.reason).toContain(reason);
      expect(pendingPromotion(w.host, paths)).toBe(2);
      expect(contents(w, workOf(pool))).toContain('two');
      await expect(updateOf(w, 'three')).rejects.toThrow(reason);
      expect(contents(w, workOf(pool))).toContain('two');
      isFull = false;
      await recover(w.machine());
      mustBeSound(w, 'completed');
      expect(stableNumber(w.host, paths)).toBe(2);
    },
  );
});

describe('master that is missing', () => {
  async function without(): Promise<World> {
    const w = await world();
    w.volumes.delete(MASTER);
    return w;
  }

  it('is made again from the stable generation by the next update, whenever that is interrupted', async () => {
    const probe = await without();
    expect((await updateOf(probe, 'two')).result).toBe('promoted');
    mustBeSound(probe, 'undisturbed');
    const total = probe.calls;
    for (let n = 1; n <= total; n++) {
      const w = await without();
      w.newProcess();
      w.dieAt = n;
      await updateOf(w, 'two').catch(() => undefined);
      w.newProcess();
      expect((await recover(w.machine())).stuck, `died at ${n}`).toEqual([]);
      expect(w.volumes.has(WORK), `died at ${n}`).toBe(false);
      w.newProcess();
      expect((await updateOf(w, 'three')).result, `died at ${n}`).toBe('promoted');
      mustBeSound(w, `died at ${n}, then updated`);
    }
  });

  it('is the working copy if no generation is usable', async () => {
    const w = await without();
    await w.backend().fork({ ...masterOf(pool), role: 'generation', name: '1' }, workOf(pool));
    const before = contents(w, workOf(pool));
    w.volumes.delete(`${pool.path}/generation/1`);
    await recover(w.machine());
    expect(w.volumes.has(WORK)).toBe(false);
    expect(contents(w, masterOf(pool))).toBe(before);
  });

  it('is not made of a tree that "init" left unfinished', async () => {
    const w = new World();
    const on = w.machine();
    makeDirectories(w.host, on.paths);
    writePool(w.host, on.paths, pool);
    await on.backend('overlay').create(workOf(pool));
    await recover(on);
    expect([...w.volumes.keys()]).toEqual([]);
  });

  it('without a usable generation stops an update with the reason', async () => {
    const w = await without();
    w.volumes.delete(`${pool.path}/generation/1`);
    await expect(updateOf(w, 'two')).rejects.toMatchObject({
      code: 'no-generation',
      message: 'an update failed in "prepare": master is missing, and no generation is usable',
    });
  });
});

describe('an update from a generation', () => {
  it('replaces master by what the generation holds', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const { host, paths } = w.machine();
    expect(contents(w, masterOf(pool))).toContain('two');
    const plain = { force: false, change: async () => true, say: () => undefined };
    const outcome = await update(w.machine(), { ...plain, what: 'an edit', origin: 'test', from: 1 });
    expect(outcome).toMatchObject({ result: 'promoted', generation: 3 });
    mustBeSound(w, 'after it');
    expect(contents(w, masterOf(pool))).not.toContain('two');
    expect(stableNumber(host, paths)).toBe(3);
  });

  it('does not remove that generation to make space for the update', async () => {
    const w = await world();
    const { host, paths } = w.machine();
    await updateOf(w, 'two');
    endProbation(host, paths); // it is proven, and kept for a rollback
    await updateOf(w, 'three');
    endProbation(host, paths); // so that no rollback to generation 2 is expected
    markDemoted(host, paths, 2, 'a test'); // it would be the first to be removed
    const isShort = async () => true;
    expect(await prune(w.machine(), pool, isShort, 2)).toEqual([]);
    expect(readGeneration(host, paths, 2)).toBeDefined();
    expect(await prune(w.machine(), pool, isShort)).toEqual([2]);
  });

  it.each([
    [7, 'there is no generation 7'],
    [1, 'generation 1 is not usable'],
  ])('%d is refused if %s', async (from, reason) => {
    const w = await world();
    await updateOf(w, 'two');
    w.volumes.delete(`${pool.path}/generation/1`);
    const before = contents(w, masterOf(pool));
    await expect(updateOf(w, 'three', from)).rejects.toThrow(reason);
    expect(contents(w, masterOf(pool))).toBe(before);
  });
});

it.each(['', '{"lastAttem', 'null', '\0\0'])(
  'a corrupt history of %j is ignored and does not block an update',
  async text => {
    const w = await world();
    const { host, paths } = w.machine();
    for (const at of [paths.state, paths.run]) w.put(`${at}/update.json`, text);
    expect(readHistory(host, paths)).toBeUndefined();
    expect((await updateOf(w, 'two')).result).toBe('promoted');
    expect(readHistory(host, paths)?.result).toBe('promoted');
  },
);

it('a generation without a seal whose record is corrupt is skipped, and kept until the administrator removes it', async () => {
  const w = await world();
  await updateOf(w, 'two');
  w.seals.clear(); // as an earlier version leaves them
  const said: string[] = [];
  const on = { ...w.machine(), log: logTo((_, words) => said.push(words)) };
  const { host, paths } = on;
  const at = (n: number) => `${paths.generations}/${n}.json`;
  const text = host.read(at(1)) ?? '';
  expect(generationNumbers(host, paths)).toEqual([1, 2]); // alice uses the first
  w.put(at(1), '{"numb');
  expect(readableGeneration(host, paths, 1)).toBeUndefined();
  expect(corruptRecord(host, paths, 1)).toBe(at(1));
  await expect(rollback(on, undefined)).rejects.toThrow(/no usable generation before 2/);
  expect((await recover(on)).stuck).toEqual([]);
  expect(await prune(on, pool)).toEqual([]);
  expect(said.join()).toContain(`generation 1 is unusable and is kept: "${at(1)}" is corrupt`);
  expect([...w.volumes.keys()]).toContain(`${pool.path}/generation/1`);
  w.put(at(1), text);
  w.put(at(2), '');
  expect(await gatherHealth(on)).toMatchObject({ stable: 2, usable: false });
  expect((await rollback(on, undefined)).to).toBe(1);
  for (const s of readSessions(host, paths)) await end(on, s.id);
  host.rename(at(2), at(2).replace('.json', '.retired')); // as doctor says
  await recover(on);
  expect([...w.volumes.keys()]).not.toContain(`${pool.path}/generation/2`);
});

describe('a login that is over', () => {
  const SOCKET = '/run/systemd/journal/socket';
  /** A new generation, and the journal, in which each of these people has written this. */
  const judged = async (journal: (uid: number, now: number) => string): Promise<World> => {
    const w = await world();
    addCarol(w);
    w.makeDirs('/run/systemd/journal');
    w.put(SOCKET, '');
    w.programs.timeout = args => {
      if (!args.includes('journalctl')) throw new Error(args.join(' '));
      const uid = Number(args.find(arg => arg.startsWith('_UID='))?.slice(5));
      return { stdout: journal(uid, w.host.monotonic()) };
    };
    await updateOf(w, 'two');
    return w;
  };
  const line = (message: string, ms: number): string =>
    `${JSON.stringify({ MESSAGE: message, __MONOTONIC_TIMESTAMP: String(ms * 1000) })}\n`;
  const ENDED = 'bob: the desktop ended as soon as it had started, with exit code 1 (MAYFLY-DESKTOP)';
  /** Logs people in and out, one after the other. */
  const comeAndGo = async (w: World, lasting: number, ...names: string[]): Promise<void> => {
    for (const name of names) {
      const s = await login(w.machine(), callOf(w, name, ':1'));
      await w.host.sleep(lasting);
      if (s) await end(w.machine(), s.id);
      w.newProcess();
    }
  };
  const failed = (_uid: number, now: number): string => line(ENDED, now - 1);
  it.each([
    [
      'whose desktop ended at once, of two people, demotes the generation',
      failed,
      9_000,
      ['bob', 'carol'],
      1,
      false,
    ],
    ['whose desktop ended at once, of one person, does not', failed, 9_000, ['bob', 'bob', 'bob'], 2, true],
    ['that was short proves nothing', () => '', 9_000, ['bob', 'carol'], 2, true],
    [
      'of which the journal tells of the one before',
      (_: number, now: number) => line(ENDED, now - 10_000),
      9_000,
      ['bob', 'carol'],
      2,
      true,
    ],
    [
      'of which the journal tells something else',
      (_: number, now: number) => line('hello', now),
      9_000,
      ['bob', 'carol'],
      2,
      true,
    ],
    ['that lasted proves the generation', failed, PROVEN_AFTER, ['bob'], 2, false],
  ])('%s', async (_what, journal, lasting, names, stable, stays) => {
    const w = await judged(journal);
    await comeAndGo(w, lasting, ...names);
    const { host, paths } = w.machine();
    expect([stableNumber(host, paths), probation(host, paths) !== undefined]).toEqual([stable, stays]);
    if (stable === 1)
      expect(whyDemoted(host, paths, 2)).toMatch(
        /^the first logins of 2 users failed; .*the desktop of carol ended/,
      );
  });
  const CAROL = 'carol:x:1003:1003::/home/carol:';
  const also = (w: World, line: string): void =>
    w.put('/etc/passwd', `${w.host.read('/etc/passwd')}${line}\n`);
  it.each([
    ['the only person of the machine', () => undefined, 2, 1],
    ['the only person, once', () => undefined, 1, 2],
    ['a person beside an account that nobody logs in to', w => also(w, `${CAROL}/usr/sbin/nologin`), 2, 1],
    [
      'a person beside one whose logins get the host',
      w => {
        also(w, `${CAROL}/bin/sh`);
        w.put(
          '/etc/mayfly/mayfly.toml',
          'exclude = ["root", "@staff"]\n[check]\ndemote_after = 2\n[update]\nkeep = 1\n',
        );
        w.put('/etc/group', `${w.host.read('/etc/group')}staff:x:50:carol\n`);
      },
      2,
      1,
    ],
    ['a person beside another', w => also(w, `${CAROL}/bin/sh`), 3, 2],
    ['a person of a directory', w => w.put('/etc/nsswitch.conf', 'passwd: files sss\n'), 3, 2],
    ['a person beside those of NIS', w => also(w, '+::::::'), 3, 2],
    [
      'a person beside one of systemd-homed',
      w => {
        w.makeDirs('/var/lib/systemd/home');
        w.put('/var/lib/systemd/home/dora.identity', '{}');
      },
      3,
      2,
    ],
  ] as const satisfies [string, (w: World) => void, number, number][])(
    'whose desktop ended at once, of %s',
    async (_who, prepare, times, stable) => {
      const w = await judged(failed);
      const { host, paths } = w.machine();
      for (const s of readSessions(host, paths)) await end(w.machine(), s.id);
      w.put('/etc/passwd', 'root:x:0:0::/root:/bin/sh\nbob:x:1002:1002::/home/bob:/bin/sh\n');
      prepare(w);
      await comeAndGo(w, 9_000, ...Array<string>(times).fill('bob'));
      expect(stableNumber(host, paths)).toBe(stable);
      if (stable === 1)
        expect(whyDemoted(host, paths, 2)).toMatch(
          /^the first logins of the only person of this machine failed/,
        );
      else
        expect(healthLine(await gatherHealth(w.machine()), host.now()).line).toMatch(
          times === 1
            ? /^WARNING - a login to the new generation 2 failed, and none has lasted/
            : /3 logins to/,
        );
    },
  );
  it('counts over the nights, and what was never proven is nothing to fall back to', async () => {
    const w = await judged(failed);
    const { host, paths } = w.machine();
    await comeAndGo(w, 9_000, 'bob');
    expect(probation(host, paths)).toMatchObject({ number: 2, previous: 1, failures: 1 });
    expect(await updateOf(w, 'three')).toMatchObject({ result: 'promoted', generation: 3 });
    expect(probation(host, paths)).toMatchObject({ number: 3, previous: 1, failures: 1 });
    expect(retentionPlan(w.machine()).find(d => d.number === 1)?.action).toBe('keep');
    await comeAndGo(w, 9_000, 'carol');
    expect(stableNumber(host, paths)).toBe(1);
    await updateOf(w, 'four');
    expect(probation(host, paths)).toEqual({ number: 4, previous: 1, failures: 0 });
  });
  it('falls back to the one before that was proven, wherever the promotion after it was cut short', async () => {
    const begun = async (): Promise<World> => {
      const w = await judged(failed);
      w.newProcess();
      return w;
    };
    const probe = await begun();
    await updateOf(probe, 'three');
    for (let n = 1; n <= probe.calls; n++) {
      const w = await begun();
      w.dieAt = n;
      await updateOf(w, 'three').catch(() => undefined);
      w.newProcess();
      await recover(w.machine());
      const { host, paths } = w.machine();
      const number = stableNumber(host, paths);
      // Cut short before the pointer: it may name the next one already, and then counts for nobody.
      if (number === 3) expect(probation(host, paths), `died at ${n}`).toMatchObject({ number, previous: 1 });
      expect(readableGeneration(host, paths, 1), `died at ${n}`).toBeDefined();
    }
  });
  it('falls back to the stable one where the one before has been demoted meanwhile', async () => {
    const w = await judged(failed);
    const { host, paths } = w.machine();
    markDemoted(host, paths, 1, 'a test');
    await updateOf(w, 'three');
    expect(probation(host, paths)).toEqual({ number: 3, previous: 2, failures: 0 });
  });
  it('ends whatever the journal does', async () => {
    const w = await judged(() => {
      throw new MayflyError('command', 'no journal');
    });
    await comeAndGo(w, 9_000, 'bob', 'carol');
    expect(readSessions(w.host, w.machine().paths).map(s => s.user.name)).toEqual(['alice']);
  });
  it.each([
    ['at a display', 'lightdm', 'lightdm', true, true],
    ['over ssh', 'pam', 'sshd-session', true, false],
    ['on a console', 'pam', 'login', true, false],
    ['through PAM of a display manager', 'pam', 'sddm-helper', true, true],
    ['over ssh, on a machine without display managers', 'pam', 'sshd', false, true],
  ] as const)('%s proves a generation: %#', async (_what, adapter, comm, hasDesktops, proves) => {
    const w = await world();
    if (hasDesktops) w.put('/etc/mayfly/enabled', '');
    w.processes.set(4321, { start: '1', dev: 1, comm, ignoresTerm: false, cgroup: '/' });
    const [s] = readSessions(w.host, w.machine().paths);
    if (!s) throw new Error('no session');
    const logins = [{ adapter, caller: { pid: 4321, start: '1' }, since: 0 }] as const;
    expect(hasLasted(w.host, { ...s, logins })).toBe(false);
    await w.host.sleep(PROVEN_AFTER);
    expect(hasLasted(w.host, { ...s, logins })).toBe(proves);
    expect(hasLasted(w.host, { ...s, logins, kind: 'run' })).toBe(false);
    expect(hasLasted(w.host, { ...s, logins, boot: 'another' })).toBe(false);
  });
});

describe('a generation to which logins fail', () => {
  const bob = (w: World) => login(w.machine(), callOf(w, 'bob', ':1'));
  const carol = (w: World) => login(w.machine(), callOf(w, 'carol', ':2'));
  const lose = (w: World, n: number) => w.volumes.delete(`${pool.path}/generation/${n}`);

  it('is demoted after the configured number of people, and the last of them gets the previous generation', async () => {
    const w = await world();
    addCarol(w);
    await updateOf(w, 'two');
    lose(w, 2);
    await expect(bob(w)).rejects.toThrow(/its volume is missing/);
    const { host, paths } = w.machine();
    expect(stableNumber(host, paths)).toBe(2);
    expect((await carol(w))?.generation).toBe(1);
    expect(stableNumber(host, paths)).toBe(1);
    expect(whyDemoted(host, paths, 2)).toMatch(/first logins of 2 users failed; .*its volume is missing/);
  });

  it('is not demoted by a login that other logins keep waiting; the next failure does it', async () => {
    const w = await world();
    addCarol(w);
    await updateOf(w, 'two');
    lose(w, 2);
    const { host, paths } = w.machine();
    w.readers.set(1, { pid: 50, path: paths.forks });
    await expect(bob(w)).rejects.toThrow(/its volume is missing/);
    const began = host.monotonic();
    await expect(carol(w)).rejects.toThrow(/its volume is missing/);
    expect(host.monotonic() - began).toBeLessThan(10_000);
    expect(stableNumber(host, paths)).toBe(2);
    expect(whyDemoted(host, paths, 2)).toBeUndefined();
    w.readers.delete(1);
    expect((await carol(w))?.generation).toBe(1);
    expect(whyDemoted(host, paths, 2)).toMatch(/first logins of 2 users failed/);
  });

  it.each([1, 2, 3])(
    'is not demoted by one person, however often they try, with demote_after = %i',
    async n => {
      const w = await world();
      w.put('/etc/mayfly/mayfly.toml', `[check]\nuser = "bob"\ndemote_after = ${n}\n`);
      addCarol(w);
      await updateOf(w, 'two');
      w.failing.add('perl');
      const { host, paths } = w.machine();
      for (let tries = 0; tries < 5; tries++) await expect(bob(w)).rejects.toThrow();
      expect(stableNumber(host, paths)).toBe(2);
      expect(probation(host, paths)).toMatchObject({ failures: 5, people: { 1002: 'command' } });
      w.failing.clear();
      expect((await carol(w))?.generation).toBe(2);
      expect(stableNumber(host, paths)).toBe(2);
    },
  );

  it('is demoted on a machine with one person if another account fails in the same way', async () => {
    const w = await world();
    w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "nobody"\ndemote_after = 3\n');
    w.put('/etc/passwd', `${w.host.read('/etc/passwd')}nobody:x:65534:65534::/nonexistent:/bin/sh\n`);
    await updateOf(w, 'two');
    lose(w, 2);
    for (const _ of [1, 2]) await expect(bob(w)).rejects.toThrow(/its volume is missing/);
    const { host, paths } = w.machine();
    expect(stableNumber(host, paths)).toBe(2);
    expect((await bob(w))?.generation).toBe(1);
    expect(stableNumber(host, paths)).toBe(1);
    expect(whyDemoted(host, paths, 2)).toMatch(
      /^the first logins of a user and of "nobody" failed; .*missing$/,
    );
    expect(readSessions(host, paths).map(s => s.user.name)).toEqual(['alice', 'bob']); // and no trial
  });

  it('is not demoted by one person if another account can log in, which leaves nothing', async () => {
    const w = await world();
    w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "nobody"\ndemote_after = 1\n');
    w.put('/etc/passwd', `${w.host.read('/etc/passwd')}nobody:x:65534:65534::/nonexistent:/bin/sh\n`);
    await updateOf(w, 'two');
    const { perl } = w.programs;
    w.programs.perl = args => {
      if (args.some(arg => arg.includes('/u1002-')) && !args.includes('detach'))
        throw new MayflyError('command', '"perl" failed');
      return perl?.(args);
    };
    const { host, paths } = w.machine();
    for (const failures of [1, 2, 3, 4]) {
      await expect(bob(w)).rejects.toThrow(/"perl" failed/);
      expect(probation(host, paths)).toMatchObject({ number: 2, failures });
    }
    expect(stableNumber(host, paths)).toBe(2);
    expect(readSessions(host, paths).map(s => s.user.name)).toEqual(['alice']);
    expect([...w.volumes.keys()].filter(v => v.includes('/session/'))).toHaveLength(1);
  });

  it('is not blamed for what the second person does not hit', async () => {
    const w = await world();
    addCarol(w);
    await updateOf(w, 'two');
    w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "unknown"\ndemote_after = 2\n'); // no trial decides
    w.failing.add('perl');
    await expect(bob(w)).rejects.toMatchObject({ code: 'command' });
    w.failing.clear();
    const { host, paths } = w.machine();
    lose(w, 2);
    await expect(carol(w)).rejects.toMatchObject({ code: 'no-generation' });
    expect(stableNumber(host, paths)).toBe(2);
    expect((await bob(w))?.generation).toBe(1); // now both lack the volume
  });

  it('keeps its probation of an earlier version, whose failures name nobody', async () => {
    const w = await world();
    addCarol(w);
    await updateOf(w, 'two');
    const { host, paths } = w.machine();
    host.write(`${paths.state}/probation.json`, '{"number":2,"previous":1,"failures":7}\n', { mode: 0o600 });
    lose(w, 2);
    await expect(bob(w)).rejects.toThrow(/its volume is missing/);
    expect(probation(host, paths)).toMatchObject({ number: 2, previous: 1, failures: 8 });
    expect((await carol(w))?.generation).toBe(1);
  });

  it('is not demoted once a session of it has lasted', async () => {
    const w = await world();
    w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\ndemote_after = 1\n');
    await updateOf(w, 'two');
    await bob(w);
    const { host, paths } = w.machine();
    expect(probation(host, paths)).toMatchObject({ failures: 0 });
    await host.sleep(PROVEN_AFTER);
    lose(w, 2);
    for (let i = 0; i < 3; i++) await login(w.machine(), callOf(w, 'bob', `:${i}`)).catch(() => undefined);
    expect(stableNumber(host, paths)).toBe(2);
  });

  it('is not kept, and neither is one that was rolled back', async () => {
    const w = await world();
    await updateOf(w, 'two');
    const on = w.machine();
    expect(await rollback(on, undefined)).toEqual({ from: 2, to: 1 });
    await expect(rollback(on, undefined)).rejects.toThrow(/no usable generation before 1/);
    await expect(rollback(on, 7)).rejects.toThrow(/no generation 7/);
    // Alice pins the first, and the second was stable: the first is never removed.
    expect(await retire(on, 1, 'asked')).toBe(false);
    expect(await prune(on, pool)).toEqual([2]);
    expect(stableNumber(on.host, on.paths)).toBe(1);
  });
});

it('a login is refused with the reason while logins are blocked', async () => {
  const w = await world();
  const on = w.machine();
  blockLogins(on, 'this machine is about to be restarted');
  await expect(login(w.machine(), callOf(w, 'bob', ':1'))).rejects.toThrow(
    'this machine is about to be restarted',
  );
  expect(readSessions(w.host, on.paths).map(s => s.user.name)).toEqual(['alice']);
  const later = { ...on, host: { ...on.host, monotonic: () => on.host.monotonic() + 3_600_000 } };
  expect((await login(later, callOf(w, 'bob', ':1')))?.state).toBe('live'); // the reboot never happened
});

describe('the nightly update', () => {
  const at = (text: string): number => new Date(`2026-11-${text}`).getTime();
  it.each([
    ['is not due before its time', '21T01:00', '20T03:00', 0, false],
    ['is due at its time', '21T02:00', '20T03:00', 0, true],
    ['is not due again on the same day', '21T09:00', '21T02:10', 0, false],
    ['is not due after an attempt at its time', '21T09:00', '21T02:00', 0, false],
    ['is due after a missed night', '21T14:00', '19T03:00', 0, true],
    ['is not yet due on a machine with an offset', '21T02:30', '20T04:00', 90, false],
    ['is due later on a machine with an offset', '21T03:30', '20T04:00', 90, true],
    ['is due if there was none yet', '21T14:00', undefined, 0, true],
    ['is due if there was none yet, also before its time', '21T01:00', undefined, 0, true],
  ] as const)('%s', (_what, now, last, offset, due) => {
    expect(isDue(at(now), last === undefined ? undefined : at(last), offset)).toBe(due);
  });
  it.each([
    // The changes of the clocks in Europe: at 02:00 to 03:00, and at 03:00 to 02:00.
    ['when the clocks skip its time', '2026-03-29T08:00', '2026-03-28T03:00', 30, true],
    [
      'when the clocks have skipped its time, and it has run',
      '2026-03-29T08:00',
      '2026-03-29T03:31',
      30,
      false,
    ],
    ['the day after', '2026-03-30T02:31', '2026-03-29T03:31', 30, true],
    ['when its time comes twice', '2026-10-25T08:00', '2026-10-25T02:31', 30, false],
    ['the day after that', '2026-10-26T02:31', '2026-10-25T02:31', 30, true],
    [
      'if the last attempt is in the future, by a clock that was wrong',
      '2026-11-21T09:00',
      '2031-01-01T00:00',
      0,
      true,
    ],
    ['but not if the clock is a little behind', '2026-11-21T02:05', '2026-11-21T02:10', 0, false],
  ] as const)('is due once: %s', (_what, now, last, offset, due) => {
    const zone = process.env.TZ;
    process.env.TZ = 'Europe/Berlin';
    try {
      const time = (text: string): number => new Date(text).getTime();
      expect(isDue(time(now), time(last), offset)).toBe(due);
    } finally {
      if (zone === undefined) delete process.env.TZ;
      else process.env.TZ = zone;
    }
  });
  it.each([
    ['after a night that was slept through', '21T08:00', '20T03:00', true],
    ['on a machine that is on for two hours a day', '21T10:00', '20T10:05', true],
    ['after an attempt in the night', '21T08:00', '21T04:59', false],
    ['after an attempt by day', '21T17:00', '21T08:05', false],
    ['in the night, which is not over', '21T03:00', '20T03:00', false],
    ['in the night, after another that was missed', '21T03:00', '19T03:00', true],
    ['before midnight, after an attempt in the evening', '21T23:00', '21T22:00', false],
    ['if there was none yet', '21T08:00', undefined, true],
    ['if the last attempt is in the future', '21T08:00', '30T08:00', true],
  ] as const)('a night is missed: %s', (_what, now, last, missed) =>
    expect(isMissed(at(now), last === undefined ? undefined : at(last))).toBe(missed),
  );
  it.each([
    ['21T02:00', 0],
    ['21T05:10', 0],
    ['21T05:20', 14],
    ['21T08:00', 14],
    ['21T01:59', 14],
  ] as const)('at %s it waits for %i minutes before an update', (now, minutes) =>
    expect(spreadOf(at(now), 119)).toBe(minutes * 60_000),
  );
  it('waits for a quarter of an hour at most, on each machine for another time', () => {
    const all = Array.from({ length: 180 }, (_, offset) => spreadOf(at('21T08:00'), offset));
    expect(Math.max(...all)).toBe(14 * 60_000);
    expect(new Set(all).size).toBe(15);
  });
  it('counts from the stable generation if there was no update yet', () => {
    const on = preparedWorld().machine();
    expect(lastAttemptOf(on)).toBe(Date.parse('2026-01-01T00:00:00Z'));
    writeHistory(on.host, on.paths, { lastAttempt: 7, result: 'failed' });
    expect(lastAttemptOf(on)).toBe(7);
  });
  it('is spread over three hours, at the same time every night on one machine', () => {
    const ids = ['a', 'b', 'c', 'd', 'e', 'f'].map(c => c.repeat(32));
    const offsets = ids.map(offsetOf);
    expect(offsets).toEqual(ids.map(offsetOf));
    expect(new Set(offsets).size).toBeGreaterThan(3);
    for (const o of offsets) expect(o >= 0 && o < 180).toBe(true);
  });
});

describe('a reboot after a kernel update', () => {
  const wanted = async (): Promise<World> => {
    const w = preparedWorld();
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', '[host]\nreboot = "idle"\n');
    w.put('/run/reboot-required', '');
    w.put('/run/reboot-required.pkgs', 'linux-image-amd64\n');
    return w;
  };
  const restarts = (w: World) => w.ran.filter(c => c.startsWith('shutdown'));
  it('happens when nobody is logged in, and blocks logins', async () => {
    const w = await wanted();
    expect(await rebootIfRequired(w.machine())).toMatch(/linux-image-amd64/);
    expect(restarts(w)).toHaveLength(1);
    await expect(login(w.machine(), callOf(w, 'bob', ':1'))).rejects.toThrow(/about to reboot/);
  });
  it.each([
    ['none is required', (w: World) => w.host.unlink('/run/reboot-required')],
    ['it is not configured', (w: World) => w.put('/etc/mayfly/mayfly.toml', '')],
    ['a session exists', (w: World) => login(w.machine(), callOf(w, 'alice', ':0'))],
  ])('does not happen when %s', async (_what, prepare) => {
    const w = await wanted();
    await prepare(w);
    w.newProcess();
    expect(await rebootIfRequired(w.machine())).toBeUndefined();
    expect(restarts(w)).toEqual([]);
    expect((await login(w.machine(), callOf(w, 'bob', ':1')))?.state).toBe('live');
  });
  it.each([
    ['a user is logged in to the host', '{"type":"a(susso)","data":[[["3",1002,"bob","","/s/_33"]]]}'],
    ['logind does not answer', ''],
  ])('does not happen when %s', async (_what, list) => {
    const w = await wanted();
    w.makeDirs('/run/systemd/sessions');
    const session =
      '{"data":[{"User":{"data":[1002,"/u"]},"Class":{"data":"user"},"State":{"data":"active"}}]}';
    const on = w.machine();
    const run: Host['run'] = async c =>
      c.args.includes('busctl')
        ? { code: 0, stdout: c.args.includes('GetAll') ? session : list, stderr: '' }
        : on.host.run(c);
    expect(await rebootIfRequired({ ...on, host: { ...on.host, run } })).toBeUndefined();
    expect(restarts(w)).toEqual([]);
  });
  it('does not block logins if it could not be scheduled', async () => {
    const w = await wanted();
    w.failing.add('shutdown');
    await expect(rebootIfRequired(w.machine())).rejects.toThrow();
    w.newProcess();
    expect((await login(w.machine(), callOf(w, 'bob', ':1')))?.state).toBe('live');
  });
});
