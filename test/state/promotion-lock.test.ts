/** The lock between logins and promotions: on real files, and in the simulated world, where everything meets everywhere. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { dryRun } from '../../src/linux/dry-run.ts';
import { identify } from '../../src/linux/process-id.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { recover } from '../../src/service/recover.ts';
import { startRunSession } from '../../src/session/run-session.ts';
import { login } from '../../src/session/session.ts';
import { stableNumber, writeGeneration } from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { pathsOf } from '../../src/state/paths.ts';
import {
  describeForking,
  movePointer,
  readPromotion,
  restorePromotionLock,
  waitForPromotion,
} from '../../src/state/promotion-lock.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { forkStable } from '../../src/state/stable-fork.ts';
import { rollback } from '../../src/update/rollback.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const gate = (): { readonly promise: Promise<void>; open(): void } => {
  let open = (): void => undefined;
  const promise = new Promise<void>(resolve => {
    open = resolve;
  });
  return { promise, open };
};

describe('on real files', () => {
  const place = mkdtempSync(`${tmpdir()}/mayfly-promotion-`);
  afterAll(() => rmSync(place, { recursive: true }));
  const host = realHost();
  const paths = pathsOf({ state: `${place}/state`, run: `${place}/run`, schroot: place });
  const on = { host, paths, lockFds: [] as readonly number[] } as unknown as Machine;
  const move = (to: number, seconds = 60) =>
    movePointer(on, { what: `the move to ${to}`, seconds }, point => point(to));

  beforeEach(async () => {
    rmSync(paths.run, { recursive: true, force: true });
    for (const path of [paths.state, paths.run, paths.locks]) mkdirSync(path, { recursive: true });
    await move(1);
  });

  it('a promotion waits for a fork, and for a storage command that outlives its login', async () => {
    const order: string[] = [];
    const forking = gate();
    const child = gate();
    let moved: Promise<void> | undefined;
    await forkStable(on, 1, async fds => {
      moved = move(2).then(() => void order.push('moved'));
      const command = spawn('sleep', ['1000'], { stdio: ['ignore', 'ignore', 'ignore', ...fds] });
      await once(command, 'spawn');
      while (readPromotion(host, paths)?.state !== 'waiting') await host.sleep(5);
      expect(describeForking(host, paths)).toMatch(
        new RegExp(`process ${process.pid} .*, process ${command.pid} sleep|process ${command.pid} sleep, `),
      );
      order.push('forked');
      void (async () => {
        await forking.promise;
        while (describeForking(host, paths) !== `process ${command.pid} sleep`) await host.sleep(5);
        order.push('login over');
        command.kill('SIGKILL');
        child.open();
      })();
    });
    forking.open();
    await child.promise;
    await moved;
    expect(order).toEqual(['forked', 'login over', 'moved']);
    expect(existsSync(paths.promotion)).toBe(false);
    expect(readlinkSync(paths.stable)).toBe('generations/2.json');
  });

  it('a stream of overlapping logins starves no promotion, and promotions starve no login', async () => {
    let isOpen = true;
    let inside = 0;
    const forked: number[] = [];
    const problems: unknown[] = [];
    const someMore = async (): Promise<void> => {
      for (const end = forked.length + 6; forked.length < end && problems.length === 0; ) await host.sleep(5);
    };
    const moves: { to: number; before: number }[] = [];
    const people = Array.from({ length: 6 }, async (_, i) => {
      await host.sleep(i * 7);
      while (isOpen) {
        const number = stableNumber(host, paths) ?? 0;
        await forkStable(on, number, async () => {
          inside += 1;
          await host.sleep(40);
          expect(stableNumber(host, paths)).toBe(number);
          inside -= 1;
          forked.push(number);
        }).catch(error => {
          if (error?.facts?.moved !== true) problems.push(error);
        });
      }
    });
    for (let to = 2; to <= 4; to++) {
      await someMore();
      await movePointer(on, { what: 'it', seconds: 60 }, point => {
        expect(inside).toBe(0);
        moves.push({ to, before: forked.length });
        point(to);
      });
    }
    await someMore();
    isOpen = false;
    await Promise.all(people);
    expect(problems).toEqual([]);
    // What was forked before a move is of the generation before, what was forked after it of that after.
    expect(moves.map(m => m.to)).toEqual([2, 3, 4]);
    for (const { to, before } of moves) {
      expect(forked.slice(0, before).every(n => n < to)).toBe(true);
      expect(forked.slice(before).every(n => n >= to)).toBe(true);
    }
  }, 240_000);

  it('one promotion waits for another, and says for which', async () => {
    const first = gate();
    let second: Promise<void> | undefined;
    await forkStable(on, 1, async () => {
      second = move(2);
      while (!readPromotion(host, paths)) await host.sleep(5);
      const child = spawn('sleep', ['1000']);
      const holder = identify(host, child.pid ?? 0);
      const text = { holder, what: 'the other', state: 'waiting', until: host.monotonic() };
      writeFileSync(paths.promotion, JSON.stringify(text));
      await expect(move(3, 0)).rejects.toMatchObject({
        code: 'locked',
        message: `the move to 3 has waited 0 s for the other (process ${child.pid})`,
      });
      child.kill('SIGKILL');
      first.open();
    });
    await first.promise;
    await second;
    expect(stableNumber(host, paths)).toBe(2);
  });

  it.each([
    ['missing', () => rmSync(paths.forks)],
    ['a plain file', () => writeFileSync(paths.forks, '')],
    ['a symlink', () => symlinkSync('/dev/null', paths.forks)],
    ['a symlink to nothing', () => symlinkSync(`${place}/nothing`, paths.forks)],
    ['a directory', () => mkdirSync(paths.forks)],
  ])('a FIFO that is %s is made: by a login, a promotion and recovery', async (what, damage) => {
    for (const use of [
      () => forkStable(on, 1, async () => undefined),
      () => move(1),
      () => restorePromotionLock(on),
    ]) {
      if (what !== 'missing') rmSync(paths.forks);
      damage();
      await use();
      expect(lstatSync(paths.forks).isFIFO()).toBe(true);
      expect(lstatSync(paths.forks).mode & 0o777).toBe(0o600);
    }
    expect(existsSync(`${place}/nothing`)).toBe(false);
  });

  it('what is no FIFO and cannot be replaced refuses a login, with the reason, and says nothing against the generation', async () => {
    rmSync(paths.forks);
    mkdirSync(`${paths.forks}/in-use`, { recursive: true });
    await expect(forkStable(on, 1, async () => undefined)).rejects.toThrow(/ENOTEMPTY/);
    rmSync(paths.forks, { recursive: true });
    const server = createServer().listen(paths.forks);
    await once(server, 'listening');
    const refused = expect.stringMatching(/locks\/forks" is not a FIFO: mkfifo: .*File exists/);
    await expect(forkStable(on, 1, async () => undefined)).rejects.toMatchObject({
      code: 'refused',
      message: refused,
    });
    await expect(move(2)).rejects.toMatchObject({ code: 'refused', message: refused });
    expect(stableNumber(host, paths)).toBe(1);
    server.close();
  });

  it.each([
    ['removed', () => rmSync(paths.forks)],
    ['replaced', () => host.write(paths.forks, '', { mode: 0o600 })],
    [
      'replaced by one that is in use',
      () => {
        rmSync(paths.forks);
        execFileSync('mkfifo', [paths.forks]);
      },
    ],
  ])('a promotion waits for a login whose FIFO was %s meanwhile', async (_, damage) => {
    let moved: Promise<void> | undefined;
    let isForked = false;
    let isMoved = false;
    await forkStable(on, 1, async () => {
      damage();
      moved = move(2).then(() => {
        isMoved = true;
        expect(isForked).toBe(true);
      });
      while (!isMoved && readPromotion(host, paths)?.state !== 'waiting') await host.sleep(5);
      expect(describeForking(host, paths)).toMatch(`process ${process.pid} `);
      isForked = true;
    });
    await moved;
    expect(stableNumber(host, paths)).toBe(2);
  });

  it.each([
    ['empty', ''],
    ['torn', '{"holder":{"pid":1,"sta'],
    ['not an object', '7'],
    ['of another shape', '{"holder":{},"what":"it","state":"waiting","until":1}'],
    ['of a time that is none', '{"holder":{"pid":1,"start":"1"},"what":"it","state":"moving","until":-1}'],
    [
      'of a dead process',
      JSON.stringify({ holder: { pid: 1, start: '1' }, what: 'it', state: 'moving', until: 9e12 }),
    ],
  ])('an announcement that is %s keeps nobody out, and recovery removes it', async (_, text) => {
    for (const use of [
      async () => {
        const before = host.monotonic();
        const fd = await waitForPromotion(host, paths, undefined);
        host.close(fd);
        expect(host.monotonic() - before).toBeLessThan(10_000);
        await restorePromotionLock(on);
      },
      () => move(2),
    ]) {
      writeFileSync(paths.promotion, text);
      await use();
      expect(existsSync(paths.promotion)).toBe(false);
    }
    expect(stableNumber(host, paths)).toBe(2);
  });

  it('without room to announce it, a promotion is refused, and a removal goes on', async () => {
    const full = (code: string): Machine => ({
      ...on,
      host: {
        ...host,
        write: () => {
          throw Object.assign(new Error(`${code}: write`), { code });
        },
      },
    });
    for (const code of ['ENOSPC', 'EDQUOT']) {
      const o = { what: 'the move to 2', seconds: 60 };
      await expect(movePointer(full(code), o, point => point(2))).rejects.toMatchObject({
        code: 'full',
        message: `there is no room in "${paths.run}" to announce the move to 2`,
      });
      expect(stableNumber(host, paths)).toBe(1);
      let isDone = false;
      await movePointer(full(code), { ...o, isRemoval: true }, () => {
        isDone = true;
      });
      expect(isDone).toBe(true);
    }
    await expect(
      movePointer(full('EIO'), { what: 'it', seconds: 60, isRemoval: true }, () => undefined),
    ).rejects.toThrow('EIO');
    await move(2); // nothing of them is left
    expect(stableNumber(host, paths)).toBe(2);
  });

  it('a dry run takes nothing and waits for nobody', async () => {
    const lines: string[] = [];
    const dry = { ...on, host: dryRun(host, line => lines.push(line)) };
    await forkStable(on, 1, async () => {
      await movePointer(dry, { what: 'it', seconds: 60 }, point => point(2));
      expect(existsSync(paths.promotion)).toBe(false);
    });
    const p = { holder: identify(host, process.pid), what: 'it', state: 'moving', until: Number.MAX_VALUE };
    writeFileSync(paths.promotion, JSON.stringify(p));
    await forkStable(dry, 1, async () => expect(host.hasReader(paths.forks)).toBe(false));
    expect(lines).toEqual([`link ${paths.stable} to generations/2.json`]);
    rmSync(paths.promotion);
  });
});

/** A world with the generations 1 and 2, of which 2 is stable, and whose FIFO is made. */
async function world(): Promise<World> {
  const w = preparedWorld();
  const { host, paths, backend } = w.machine();
  const volumeOf = (name: string) =>
    ({ backend: 'overlay', pool: '/var/lib/mayfly/pool', role: 'generation', name }) as const;
  await w.backend().fork(volumeOf('1'), volumeOf('2'));
  const identity = (await backend('overlay').identity(volumeOf('2'))) ?? '';
  const rest = { created: '2026-01-01T00:00:00Z', origin: 'test', identity };
  writeGeneration(host, paths, { number: 2, volume: volumeOf('2'), ...rest }, 'proven');
  host.symlink('generations/2.json', paths.stable);
  await restorePromotionLock(w.machine());
  w.newProcess();
  return w;
}

/** Another process, which lives beside the first one. */
function other(w: World): Machine {
  const on = w.machine();
  const pid = 900;
  w.processes.set(pid, { start: '900', dev: w.rootDev, comm: 'mayfly', ignoresTerm: false, cgroup: '' });
  return { ...on, host: { ...on.host, pid } };
}

/** `on` with its effects counted; before the `n`-th, `act` is called. */
function interrupted(on: Machine, n: number, act: () => void): { on: Machine; count: () => number } {
  let calls = 0;
  const step = (): void => {
    calls += 1;
    if (calls === n) act();
  };
  const host = new Proxy(on.host, {
    get(target, name, receiver) {
      const value: unknown = Reflect.get(target, name, receiver);
      if (typeof value !== 'function' || name === 'monotonic' || name === 'now') return value;
      return (...args: unknown[]) => {
        step();
        return value.apply(target, args);
      };
    },
  });
  return { on: { ...on, host }, count: () => calls };
}

/** `on` with a record of which generation is forked, and when. */
function watched(on: Machine, log: string[]): Machine {
  return {
    ...on,
    backend: kind => {
      const backend = on.backend(kind);
      return {
        ...backend,
        async fork(from, to, o) {
          await on.host.sleep(50); // a storage command
          await backend.fork(from, to, o);
          log.push(`fork ${from.name}`);
        },
      };
    },
  };
}

const alice = (w: World) => callOf(w, 'alice', ':0');

describe('in the simulated world', () => {
  it.each([
    ['login', (on: Machine, w: World) => login(on, alice(w))],
    [
      '"mayfly run"',
      (on: Machine, w: World) => startRunSession(on, 'alice', { ...alice(w), adapter: 'run', since: 0 }),
    ],
  ] as const)(
    'a promotion at any call of a %s: no old generation is forked after it has returned',
    async (_, start) => {
      const seen = new Set<string>();
      for (let n = 1, count = n; n <= count; n++) {
        const w = await world();
        const log: string[] = [];
        let done: Promise<void> | undefined;
        const host = other(w);
        const promotion = async (): Promise<void> => {
          expect(await rollback(host, 1)).toEqual({ from: 2, to: 1 });
          log.push('returned');
        };
        const first = interrupted(watched(w.machine(), log), n, () => {
          done = promotion();
        });
        const s = await start(first.on, w);
        count = first.count();
        await done;
        const order = log.join(', ');
        seen.add(order);
        // Of the new one it may be forked before: the pointer is moved then.
        const allowed = s?.generation === 2 ? ['fork 2, returned'] : ['returned, fork 1', 'fork 1, returned'];
        expect(allowed, `at call ${n}`).toContain(order);
        expect(w.host.exists(w.machine().paths.promotion)).toBe(false);
        expect(readSessions(w.host, w.machine().paths)).toHaveLength(1);
      }
      expect([...seen]).toEqual(expect.arrayContaining(['fork 2, returned', 'returned, fork 1']));
    },
  );

  it('a fork that begins at any call of a promotion ends before the move, or is of the new generation', async () => {
    const seen = new Set<string>();
    for (let n = 1, count = n; n <= count; n++) {
      const w = await world();
      const on = w.machine();
      const log: string[] = [];
      let done: Promise<unknown> | undefined;
      const fork = async (): Promise<void> => {
        await on.host.sleep(50);
        expect(stableNumber(on.host, on.paths), `began at call ${n}`).toBe(2);
        log.push('fork 2');
      };
      const moved = (error: unknown): void => {
        expect(error).toMatchObject({ code: 'locked', facts: { moved: true } });
        log.push('moved');
      };
      const first = interrupted(other(w), n, () => {
        done = forkStable(on, 2, fork).catch(moved);
      });
      await rollback(first.on, 1);
      log.push('returned');
      count = first.count();
      await done;
      seen.add(log.join(', '));
    }
    expect([...seen].sort()).toEqual(['fork 2, returned', 'moved, returned', 'returned, moved']);
  });

  it('a login that dies at any call keeps no promotion waiting', async () => {
    const probe = await world();
    await login(probe.machine(), alice(probe));
    for (let n = 1; n <= probe.calls; n++) {
      const w = await world();
      w.dieAt = n;
      await login(w.machine(), alice(w)).catch(() => undefined);
      w.newProcess();
      const before = w.host.monotonic();
      await rollback(w.machine(), 1);
      expect(w.host.monotonic(), `died at ${n}`).toBe(before);
    }
  });

  it('a promotion that dies at any call keeps no login waiting, and nothing of it is left', async () => {
    const probe = await world();
    await rollback(probe.machine(), 1);
    const left = new Set<boolean>();
    for (let n = 1; n <= probe.calls; n++) {
      const w = await world();
      const { paths } = w.machine();
      w.dieAt = n;
      await rollback(w.machine(), 1).catch(() => undefined);
      w.newProcess();
      left.add(w.host.exists(paths.promotion));
      const before = w.host.monotonic();
      expect((await login(w.machine(), alice(w)))?.state, `died at ${n}`).toBe('live');
      expect(w.host.monotonic(), `died at ${n}`).toBe(before);
      expect((await recover(w.machine())).stuck).toEqual([]);
      expect(w.host.exists(paths.promotion)).toBe(false);
    }
    expect(left).toEqual(new Set([false, true]));
  });

  it.each([
    ['in the past', -5, 0],
    ['in eight seconds', 8000, 8000],
    ['after the next boot, by a clock of another machine', 9e12, 10_000],
  ])(
    'a promotion that is stopped while it waits until a time %s delays a login, for ten seconds at most',
    async (_, ahead, least) => {
      const w = await world();
      const { paths } = w.machine();
      const holder = identify(w.host, 50);
      const began = w.host.monotonic();
      const p = { holder, what: 'it', state: 'waiting', until: Math.max(0, began + ahead) };
      w.host.write(paths.promotion, JSON.stringify(p), { mode: 0o600 });
      await login(w.machine(), alice(w));
      const waited = w.host.monotonic() - began;
      expect(waited).toBeGreaterThanOrEqual(least);
      expect(waited).toBeLessThan(least + 100);
      expect(w.readers.size).toBe(0);
    },
  );

  it('a promotion that is stopped in its rename: a login is refused, and says why', async () => {
    const w = await world();
    const { paths } = w.machine();
    const p = { holder: identify(w.host, 50), what: 'the rollback', state: 'moving', until: 0 };
    w.host.write(paths.promotion, JSON.stringify(p), { mode: 0o600 });
    await expect(login(w.machine(), alice(w))).rejects.toMatchObject({
      code: 'locked',
      message: 'the rollback (process 50) has begun and does not end',
    });
    expect(readSessions(w.host, paths)).toEqual([]);
    expect(w.readers.size).toBe(0);
  });

  it('a login that does not end: a promotion lets others in, gives up in time, and says whose it is', async () => {
    const w = await world();
    const stuck = gate();
    const log: string[] = [];
    const on = watched(w.machine(), log);
    const backend = on.backend('overlay');
    const hanging = login(
      {
        ...on,
        backend: () => ({ ...backend, fork: (...a) => stuck.promise.then(() => backend.fork(...a)) }),
      },
      alice(w),
    );
    while (w.readers.size === 0) await w.host.sleep(0);
    const host = other(w);
    const promotion = rollback(host, 1).catch(error => error);
    while (!readPromotion(w.host, w.machine().paths)) await w.host.sleep(0);
    // The clock of this world runs whenever anybody waits; so what counts is what Bob himself has waited.
    let waited = 0;
    const bobs = watched(w.machine(), log);
    const sleep = (ms: number): Promise<void> => {
      waited += ms;
      return w.host.sleep(ms);
    };
    const bob = await login({ ...bobs, host: { ...bobs.host, sleep } }, callOf(w, 'bob', ':1'));
    expect(bob).toMatchObject({ generation: 2, state: 'live' });
    expect(waited).toBeLessThan(10_000);
    expect(await promotion).toMatchObject({
      code: 'locked',
      message: `the rollback to generation 1 has waited 30 s for the login of alice (process ${w.pid})`,
    });
    expect(w.host.exists(w.machine().paths.promotion)).toBe(false);
    stuck.open();
    expect(await hanging).toMatchObject({ generation: 2, state: 'live' });
    expect(stableNumber(w.host, w.machine().paths)).toBe(2);
  });
});
