/**
 * What every backend must do, in the words of `src/volume/backend.ts`. One suite, run over memory, overlay (on disk
 * and on tmpfs), btrfs and, in user-mode Linux, LVM's two. Cases named after a fault carry its source. Every case says
 * what is listed after each of its steps.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isErrno, MayflyError } from '../../src/errors.ts';
import { isSameVolume, type Volume, type VolumeBackend } from '../../src/volume/backend.ts';

/** A backend with a fresh pool, and hands to look into its volumes with. */
export interface Bench {
  readonly backend: VolumeBackend;
  readonly pool: string;
  readonly upper?: 'disk' | 'tmpfs';
  /** Makes the tree of `v` visible and returns where; `leave` undoes it. */
  enter(v: Volume): Promise<string>;
  leave(v: Volume): Promise<void>;
  write(path: string, text: string): void;
  read(path: string): string | undefined;
  /** How many forks at once are asked for; 20 where nothing is said. Of a classic snapshot each costs more than the last. */
  readonly crowd?: number;
  /** Plants a directory that is not a volume of ours under a volume's name. */
  foreign(v: Volume): Promise<void>;
  unplant(v: Volume): Promise<void>;
  /** The same backend in a process that dies at its effect number `at`; `revive` has another process go on. */
  dying?(at: number): VolumeBackend;
  revive?(): void;
  /** Takes all the room that the pool has, and gives it back. */
  fill?(): void;
  empty?(): void;
  close(): Promise<void>;
}

/** Why a backend has nothing to try some cases with. */
export interface Lacks {
  readonly spares?: string;
  readonly deaths?: string;
  readonly room?: string;
}

/** A case that cannot be tried is skipped with the reason; scripts/summary.mjs counts it as not applicable. */
function caseUnless(reason: string | undefined, title: string, act: () => Promise<void>): void {
  it.skipIf(reason !== undefined)(reason === undefined ? title : `${title} [not applicable: ${reason}]`, act);
}

/** Something that is done to the usual volumes. */
interface Operation {
  readonly prepare?: () => Promise<unknown>;
  readonly act: (backend: VolumeBackend) => Promise<unknown>;
  /** What is there besides the usual, before and after it. */
  readonly before: () => readonly Volume[];
  readonly after: () => readonly Volume[];
  readonly undo?: () => Promise<unknown>;
}

export function contract(name: string, open: () => Promise<Bench>, lacks: Lacks = {}): void {
  describe(`backend ${name}`, () => {
    let b: Bench;
    const volume = (role: Volume['role'], n: string, origin?: Volume): Volume => ({
      backend: b.backend.kind,
      pool: b.pool,
      role,
      name: n,
      ...(origin ? { origin } : {}),
    });
    const work = (): Volume => volume('work', 'work');
    const generation = (n: number): Volume => volume('generation', String(n));
    const session = (n: number, of = 1): Volume =>
      volume('session', `u1001-${n.toString(16).padStart(8, '0')}`, generation(of));
    const master = (): Volume => volume('master', 'master');
    const forkBy = (backend: VolumeBackend, from: Volume, to: Volume) =>
      backend.fork(from, to, { upper: b.upper ?? 'disk', size: '16M', lockFds: [] });
    const fork = (from: Volume, to: Volume) => forkBy(b.backend, from, to);
    const nameOf = (v: Volume): string => `${v.role} ${v.name}`;
    const names = async () => (await b.backend.list(b.pool)).volumes.map(nameOf).sort();
    /** What is there besides the usual, as {@link names} has it. */
    const withUsual = (...more: readonly Volume[]): string[] =>
      [generation(1), work(), ...more].map(nameOf).sort();
    /** Exactly the usual and these are listed, and nothing that is half-made or to spare. */
    const holds = async (...more: readonly Volume[]): Promise<void> => {
      const { volumes, leftovers, spares } = await b.backend.list(b.pool);
      expect(volumes.map(nameOf).sort()).toEqual(withUsual(...more));
      for (const v of volumes) expect(v).toMatchObject({ backend: b.backend.kind, pool: b.pool });
      expect([leftovers, [...spares]]).toEqual([[], []]);
    };

    const put = async (v: Volume, file: string, text: string): Promise<void> => {
      const root = await b.enter(v);
      b.write(`${root}/${file}`, text);
      await b.leave(v);
    };
    const get = async (v: Volume, file: string): Promise<string | undefined> => {
      const root = await b.enter(v);
      const text = b.read(`${root}/${file}`);
      await b.leave(v);
      return text;
    };

    beforeAll(async () => {
      b = await open();
      await b.backend.create(work());
      await put(work(), 'file', 'one');
      await fork(work(), generation(1));
    });
    beforeEach(async () => {
      for (const v of (await b.backend.list(b.pool)).volumes)
        if (v.role === 'session') await b.backend.remove(v);
      await holds();
    });
    afterAll(async () => {
      for (const v of (await b.backend.list(b.pool)).volumes) await b.backend.remove(v);
      expect(await names()).toEqual([]);
      await b.close();
    });

    it('can be used on this machine', async () => expect(await b.backend.check()).toEqual([]));

    it('a fork sees its source', async () => {
      await fork(generation(1), session(1));
      await holds(session(1));
      expect(await get(session(1), 'file')).toBe('one');
      await holds(session(1));
    });

    it('what is written to a fork is seen neither in its source nor in a sibling', async () => {
      await fork(generation(1), session(1));
      await fork(generation(1), session(2));
      const root = await b.enter(session(1));
      b.write(`${root}/file`, 'changed');
      b.write(`${root}/new`, 'new');
      const sibling = await b.enter(session(2));
      expect(b.read(`${sibling}/file`)).toBe('one');
      expect(b.read(`${sibling}/new`)).toBeUndefined();
      await b.leave(session(2));
      expect(await get(generation(1), 'file')).toBe('one');
      await b.leave(session(1));
    });

    it('a change of the working copy is in the next generation only', async () => {
      await fork(generation(1), session(1));
      await put(work(), 'file', 'two');
      await fork(work(), generation(2));
      await holds(generation(2), session(1));
      expect(await get(generation(1), 'file')).toBe('one');
      expect(await get(generation(2), 'file')).toBe('two');
      expect(await get(session(1), 'file')).toBe('one');
      await fork(generation(2), session(3, 2));
      expect(await get(session(3, 2), 'file')).toBe('two');
      await holds(generation(2), session(1), session(3, 2));
      await b.backend.remove(session(3, 2));
      await holds(generation(2), session(1));
      await b.backend.remove(generation(2));
      await holds(session(1));
      await put(work(), 'file', 'one');
    });

    it('a fork onto an existing name fails and harms nothing', async () => {
      await fork(generation(1), session(1));
      await expect(fork(generation(1), session(1))).rejects.toMatchObject({ code: 'exists' });
      await expect(fork(work(), generation(1))).rejects.toMatchObject({ code: 'exists' });
      await holds(session(1));
      expect(await get(session(1), 'file')).toBe('one');
    });

    it('a fork of what is not there fails and leaves nothing', async () => {
      await expect(fork(generation(9), generation(8))).rejects.toMatchObject({ code: 'no-generation' });
      await expect(fork(generation(9), session(1, 9))).rejects.toMatchObject({ code: 'no-generation' });
      await holds();
    });

    it('a session can not be forked', async () => {
      await fork(generation(1), session(1));
      await expect(fork(session(1), generation(7))).rejects.toMatchObject({ code: 'unsafe' });
      await holds(session(1));
    });

    it('removing is repeatable, and absent is success', async () => {
      for (const s of [session(1), session(2)]) await fork(generation(1), s);
      await b.backend.remove(session(1));
      await holds(session(2));
      for (const s of [session(1), session(99)]) await b.backend.remove(s);
      await holds(session(2));
    });

    it('removing is refused while the volume is mounted and in use, and works afterwards', async () => {
      await fork(generation(1), session(1));
      await b.enter(session(1));
      await expect(b.backend.remove(session(1))).rejects.toMatchObject({ code: 'stuck' });
      expect(await b.backend.busyReason(session(1))).toBeDefined();
      await holds(session(1));
      await b.leave(session(1));
      expect(await b.backend.busyReason(session(1))).toBeUndefined();
      await b.backend.remove(session(1));
      await holds();
    });

    it('a foreign thing under our name is not listed and not removed', async () => {
      await b.foreign(session(5));
      try {
        await expect(b.backend.remove(session(5))).rejects.toMatchObject({ code: 'unsafe' });
        await holds();
      } finally {
        await b.unplant(session(5));
      }
    });

    it('a name that is not one of ours leads nowhere', async () => {
      for (const bad of ['../../etc', 'u1001-../../../x', '', 'a b', 'u1-0000000g']) {
        await expect(b.backend.remove(volume('session', bad, generation(1)))).rejects.toMatchObject({
          code: 'unsafe',
        });
        await expect(fork(generation(1), volume('session', bad, generation(1)))).rejects.toMatchObject({
          code: 'unsafe',
        });
      }
      await holds();
    });

    it('an identity stays, and goes with the volume', async () => {
      const identity = await b.backend.identity(generation(1));
      expect(identity).toBeDefined();
      await fork(generation(1), session(1));
      expect(await b.backend.identity(generation(1))).toBe(identity);
      expect(await b.backend.identity(generation(5))).toBeUndefined();
      await holds(session(1));
    });

    it('a replaced volume has another identity, also where it is made of the same source', async () => {
      const identities = [await b.backend.identity(generation(1))];
      for (let n = 0; n < 4; n++) {
        await fork(work(), generation(2));
        const identity = await b.backend.identity(generation(2));
        expect(isSameVolume(await b.backend.identity(generation(2)), identity ?? '')).toBe(true);
        for (const other of identities) expect(isSameVolume(identity, other ?? '')).toBe(false);
        identities.push(identity);
        await b.backend.remove(generation(2));
        expect(await b.backend.identity(generation(2))).toBeUndefined();
      }
      expect(await b.backend.identity(generation(1))).toBe(identities[0]);
      await holds();
    });

    it('renames a finished volume, never onto another', async () => {
      await fork(generation(1), master());
      await holds(master());
      await expect(b.backend.rename(work(), master())).rejects.toThrow(/exists/);
      await holds(master());
      await b.backend.remove(work());
      expect(await names()).toEqual([generation(1), master()].map(nameOf));
      await b.backend.rename(master(), work());
      await holds();
      expect(await get(work(), 'file')).toBe('one');
    });

    it('has all that it is not said to lack', () => {
      expect(b.backend.spare === undefined).toBe(lacks.spares !== undefined);
      expect(b.dying === undefined).toBe(lacks.deaths !== undefined);
      expect(b.fill === undefined).toBe(lacks.room !== undefined);
    });

    caseUnless(
      lacks.spares,
      'a spare is a session like any other, taken once, and in nobody’s way',
      async () => {
        const spares = async () => [...(await b.backend.list(b.pool)).spares];
        expect(await b.backend.spare?.(generation(1), [], false)).toBe(true);
        expect(await b.backend.spare?.(generation(1), [], false)).toBe(false);
        expect(await names()).toEqual(withUsual());
        const [[number, spare] = []] = await spares();
        expect(number).toBe(1);
        const all = [session(1), session(2), session(3)];
        await Promise.all(all.map(s => fork(generation(1), s)));
        await holds(...all);
        for (const s of all) expect(await get(s, 'file')).toBe('one');
        await b.backend.spare?.(generation(1), [], false);
        expect(await spares()).toEqual([[1, spare]]);
        await b.backend.sweep(b.pool, spare ?? '');
        await holds(...all);
      },
    );

    it('as many forks at once are as many volumes', async () => {
      const all = Array.from({ length: b.crowd ?? 20 }, (_, i) => session(i + 100));
      await Promise.all(all.map(s => fork(generation(1), s)));
      await holds(...all);
      await Promise.all(all.map(s => b.backend.remove(s)));
      await holds();
    });

    const forkedGeneration: Operation = {
      act: x => forkBy(x, work(), generation(2)),
      before: () => [],
      after: () => [generation(2)],
      undo: () => b.backend.remove(generation(2)),
    };
    const forkedSession: Operation = {
      act: x => forkBy(x, generation(1), session(1)),
      before: () => [],
      after: () => [session(1)],
      undo: () => b.backend.remove(session(1)),
    };
    const removedGeneration: Operation = {
      prepare: () => fork(work(), generation(2)),
      act: x => x.remove(generation(2)),
      before: () => [generation(2)],
      after: () => [],
    };
    const removedSession: Operation = {
      async prepare() {
        await fork(generation(1), session(1));
        await put(session(1), 'own', 'text');
      },
      act: x => x.remove(session(1)),
      before: () => [session(1)],
      after: () => [],
    };
    const renamed: Operation = {
      prepare: () => fork(work(), master()),
      act: x => x.rename(master(), generation(2)),
      before: () => [master()],
      after: () => [generation(2)],
      undo: () => b.backend.remove(generation(2)),
    };
    for (const [what, o] of [
      ['a generation is forked', forkedGeneration],
      ['a session is forked', forkedSession],
      ['a generation is removed', removedGeneration],
      ['a session is removed', removedSession],
      ['a volume is renamed', renamed],
    ] as const)
      caseUnless(
        lacks.deaths,
        `a death while ${what} leaves all or nothing of it, and leftovers that can be swept`,
        async () => {
          for (let at = 1; ; at++) {
            expect(at).toBeLessThan(50);
            const when = `died at effect ${at}`;
            await o.prepare?.();
            const died = await o.act(b.dying?.(at) ?? b.backend).then(
              () => false,
              () => true,
            );
            b.revive?.();
            await b.backend.open?.(b.pool);
            const { volumes, leftovers } = await b.backend.list(b.pool);
            const found = volumes.map(nameOf).sort();
            expect([withUsual(...o.before()), withUsual(...o.after())], when).toContainEqual(found);
            if (found.includes(nameOf(generation(2))))
              expect(await get(generation(2), 'file'), when).toBe('one');
            for (const leftover of leftovers) await b.backend.sweep(b.pool, leftover);
            await holds(...volumes.filter(v => !withUsual().includes(nameOf(v))));
            const isDone = withUsual(...o.after()).join() === found.join();
            expect(died || isDone, when).toBe(true);
            if (!isDone) await o.act(b.backend);
            await holds(...o.after());
            await o.undo?.();
            await holds();
            if (!died) return;
          }
        },
      );

    caseUnless(lacks.room, 'in a full pool a fork is whole or fails, and removing works', async () => {
      await fork(generation(1), session(9));
      await fork(work(), generation(3));
      b.fill?.();
      try {
        for (const [from, to] of [
          [work(), generation(2)],
          [generation(1), session(1)],
        ] as const) {
          const error: unknown = await fork(from, to).then(
            () => undefined,
            e => e,
          );
          if (error !== undefined)
            expect(error).toSatisfy(e => e instanceof MayflyError || isErrno(e, 'ENOSPC'));
          // Nobody mounts a session whose login has failed; a generation is found by who looks for one.
          if (to.role === 'generation') {
            expect((await names()).includes(nameOf(to))).toBe(error === undefined);
            if (error === undefined) expect(await get(to, 'file')).toBe('one');
          }
          await b.backend.remove(to);
        }
        await holds(session(9), generation(3));
        await b.backend.remove(session(9));
        await b.backend.remove(generation(3));
        await holds();
      } finally {
        b.empty?.();
      }
      await fork(generation(1), session(1));
      expect(await get(session(1), 'file')).toBe('one');
    });
  });
}
