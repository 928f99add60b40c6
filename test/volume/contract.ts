/**
 * The contract of `src/volume/backend.ts` as one test suite. It runs on the memory backend, on overlay (on disk and on
 * tmpfs), on btrfs and, in user-mode Linux, on both LVM backends. Cases named after a fault carry its source.
 * Every case checks what is listed after each of its steps.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isErrno, MayflyError } from '../../src/errors.ts';
import type { Volume, VolumeBackend } from '../../src/volume/backend.ts';
import { isSameVolume } from '../../src/volume/identity.ts';

/** A backend with a new pool, and functions to access its volumes. */
export interface Bench {
  readonly backend: VolumeBackend;
  readonly pool: string;
  readonly upper?: 'disk' | 'tmpfs';
  /** Mounts the tree of `v` and returns its path; `leave` undoes it. */
  enter(v: Volume): Promise<string>;
  leave(v: Volume): Promise<void>;
  write(path: string, text: string): void;
  read(path: string): string | undefined;
  /** Number of concurrent forks; default 20. Each classic snapshot of an origin costs more than the previous one. */
  readonly crowd?: number;
  /** Creates a foreign directory under the name of a volume. */
  foreign(v: Volume): Promise<void>;
  unplant(v: Volume): Promise<void>;
  /** The same backend in a process that crashes at its effect number `at`; after `revive`, another one continues. */
  dying?(at: number): VolumeBackend;
  revive?(): void;
  /** Fills the pool to the last block, and frees it again. */
  fill?(): void;
  empty?(): void;
  close(): Promise<void>;
}

/** Why some cases do not apply to a backend. */
export interface Lacks {
  readonly spares?: string;
  /** Removal takes the same time whatever a volume holds. */
  readonly discards?: string;
  readonly deaths?: string;
  readonly room?: string;
}

/** Skips a case that does not apply to a backend; scripts/summary.mjs counts it as not applicable. */
function caseUnless(reason: string | undefined, title: string, act: () => Promise<void>): void {
  it.skipIf(reason !== undefined)(reason === undefined ? title : `${title} [not applicable: ${reason}]`, act);
}

/** An operation on the usual volumes. */
interface Operation {
  readonly prepare?: () => Promise<unknown>;
  readonly act: (backend: VolumeBackend) => Promise<unknown>;
  /** The volumes besides the usual ones, before and after it. */
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
    /** The names of the usual volumes and of `more`. */
    const withUsual = (...more: readonly Volume[]): string[] =>
      [generation(1), work(), ...more].map(nameOf).sort();
    /** Expects exactly the usual volumes and `more`, without leftovers or spares. */
    const holds = async (...more: readonly Volume[]): Promise<void> => {
      const { volumes, leftovers, discarded, spares } = await b.backend.list(b.pool);
      expect(volumes.map(nameOf).sort()).toEqual(withUsual(...more));
      for (const v of volumes) expect(v).toMatchObject({ backend: b.backend.kind, pool: b.pool });
      expect([leftovers, discarded.filter(d => !d.deleted), [...spares]]).toEqual([[], [], []]);
    };
    /** Completes what discards have left to do; also waits for the processes that do it. */
    const eraseAll = async (): Promise<void> => {
      for (const d of (await b.backend.list(b.pool)).discarded) await b.backend.sweep(b.pool, d.name);
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
      // Sessions first: a classic LVM volume is not removed before its snapshots.
      const all = [...(await b.backend.list(b.pool)).volumes];
      for (const v of all.sort((v, w) => Number(w.role === 'session') - Number(v.role === 'session')))
        await b.backend.remove(v);
      expect(await names()).toEqual([]);
      await b.close();
    });

    it('works on this machine', async () => expect(await b.backend.check()).toEqual([]));

    it('shows the content of the source in a fork', async () => {
      await fork(generation(1), session(1));
      await holds(session(1));
      expect(await get(session(1), 'file')).toBe('one');
      await holds(session(1));
    });

    it('keeps the seal of a generation until that is removed, whatever its length, and gives it to no fork', async () => {
      const g = generation(7);
      const text = `${JSON.stringify({ origin: 'é,"'.repeat(900) })}\n`;
      b.backend.writeMark?.(work(), '7 ab\n');
      await fork(work(), g);
      b.backend.writeMark?.(work(), undefined);
      expect((await b.backend.seals(b.pool)).size).toBe(0);
      for (const seal of [text, 'short', text]) {
        await b.backend.writeSeal(g, seal);
        expect([...(await b.backend.seals(b.pool))]).toEqual([[7, seal]]);
        await holds(g);
      }
      await fork(g, session(1, 7));
      await fork(g, generation(8));
      expect([...(await b.backend.seals(b.pool)).keys()]).toEqual([7]);
      if (b.backend.readMark) {
        expect([g, generation(8), work()].map(v => b.backend.readMark?.(v))).toEqual([
          '7 ab\n',
          '7 ab\n',
          undefined,
        ]);
        expect(b.backend.isThere?.(b.pool)).toBe(true);
      }
      for (const v of [session(1, 7), generation(8), g]) await b.backend.remove(v);
      expect((await b.backend.seals(b.pool)).size).toBe(0);
    });

    it('shows changes of a fork neither in its source nor in a sibling', async () => {
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

    it('shows a change of the working copy only in the next generation', async () => {
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

    it('refuses a fork to an existing name and changes nothing', async () => {
      await fork(generation(1), session(1));
      await expect(fork(generation(1), session(1))).rejects.toMatchObject({ code: 'exists' });
      await expect(fork(work(), generation(1))).rejects.toMatchObject({ code: 'exists' });
      await holds(session(1));
      expect(await get(session(1), 'file')).toBe('one');
    });

    it('refuses a fork of a missing source and leaves nothing', async () => {
      await expect(fork(generation(9), generation(8))).rejects.toMatchObject({ code: 'no-generation' });
      await expect(fork(generation(9), session(1, 9))).rejects.toMatchObject({ code: 'no-generation' });
      await holds();
    });

    it('refuses to fork a session', async () => {
      await fork(generation(1), session(1));
      await expect(fork(session(1), generation(7))).rejects.toMatchObject({ code: 'unsafe' });
      await holds(session(1));
    });

    it('removes a volume repeatedly, also one that does not exist', async () => {
      for (const s of [session(1), session(2)]) await fork(generation(1), s);
      await b.backend.remove(session(1));
      await holds(session(2));
      for (const s of [session(1), session(99)]) await b.backend.remove(s);
      await holds(session(2));
    });

    it('refuses to remove a volume while it is mounted and in use, and removes it afterwards', async () => {
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

    it('neither lists nor removes a foreign object under the name of a volume', async () => {
      await b.foreign(session(5));
      try {
        await expect(b.backend.remove(session(5))).rejects.toMatchObject({ code: 'unsafe' });
        await holds();
      } finally {
        await b.unplant(session(5));
      }
    });

    it('refuses an invalid name', async () => {
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

    it('returns the same identity as long as the volume exists', async () => {
      const identity = await b.backend.identity(generation(1));
      expect(identity).toBeDefined();
      await fork(generation(1), session(1));
      expect(await b.backend.identity(generation(1))).toBe(identity);
      expect(await b.backend.identity(generation(5))).toBeUndefined();
      await holds(session(1));
    });

    it('gives a replaced volume another identity, also one from the same source', async () => {
      const identities = [await b.backend.identity(generation(1))];
      for (let n = 0; n < 2; n++) {
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

    it('renames a complete volume, but never to an existing name', async () => {
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

    it('lacks only what its entry in this suite says', () => {
      expect(b.backend.spare === undefined).toBe(lacks.spares !== undefined);
      expect(b.backend.discard === undefined).toBe(lacks.discards !== undefined);
      expect(b.dying === undefined).toBe(lacks.deaths !== undefined);
      expect(b.fill === undefined).toBe(lacks.room !== undefined);
    });

    caseUnless(lacks.spares, 'uses a spare for one session and lists it apart', async () => {
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
    });

    caseUnless(lacks.discards, 'discards a volume, but none that is in use or foreign', async () => {
      await fork(generation(1), session(1));
      b.write(`${await b.enter(session(1))}/own`, 'text');
      await expect(b.backend.discard?.(session(1))).rejects.toMatchObject({ code: 'stuck' });
      await b.leave(session(1));
      await holds(session(1));
      await b.backend.discard?.(session(1));
      expect(await names()).toEqual(withUsual());
      await b.backend.discard?.(session(1));
      await eraseAll();
      await holds();
      await b.foreign(session(5));
      try {
        await expect(b.backend.discard?.(session(5))).rejects.toMatchObject({ code: 'unsafe' });
      } finally {
        await b.unplant(session(5));
      }
    });

    caseUnless(
      lacks.discards ?? lacks.deaths,
      'gives an ID again while volumes that had it are not erased',
      async () => {
        const waiting = async () => (await b.backend.list(b.pool)).discarded.filter(d => !d.deleted);
        // The process dies ever later, until it does so after the volume is gone and before anything is erased.
        let at = 1;
        for (let n = 1; n <= 3; at++) {
          await fork(generation(1), session(1));
          const root = await b.enter(session(1)); // once: that is all that an overlay allows
          expect(b.read(`${root}/own`)).toBeUndefined();
          b.write(`${root}/own`, 'text');
          await b.leave(session(1));
          await b
            .dying?.(at)
            .discard?.(session(1))
            .catch(() => undefined);
          b.revive?.();
          if ((await names()).includes(nameOf(session(1)))) await b.backend.remove(session(1));
          else {
            expect((await waiting()).map(d => d.session)).toEqual(Array(n).fill(session(1).name));
            n += 1;
            at -= 1;
          }
        }
        await eraseAll();
        await holds();
      },
    );

    it('creates one volume per concurrent fork', async () => {
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
    const discardedSession: Operation = {
      ...removedSession,
      act: async x => x.discard?.(session(1)),
    };
    const renamed: Operation = {
      prepare: () => fork(work(), master()),
      act: x => x.rename(master(), generation(2)),
      before: () => [master()],
      after: () => [generation(2)],
      undo: () => b.backend.remove(generation(2)),
    };
    for (const [what, o] of [
      ['forking a generation', forkedGeneration],
      ['forking a session', forkedSession],
      ['removing a generation', removedGeneration],
      ['removing a session', removedSession],
      ['discarding a session', discardedSession],
      ['renaming a volume', renamed],
    ] as const)
      caseUnless(
        lacks.deaths ?? (o === discardedSession ? lacks.discards : undefined),
        `leaves all or nothing, and leftovers that can be removed, after a crash while ${what}`,
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
            await eraseAll();
            await holds(...volumes.filter(v => !withUsual().includes(nameOf(v))));
            const isDone = withUsual(...o.after()).join() === found.join();
            expect(died || isDone, when).toBe(true);
            if (!isDone) await o.act(b.backend);
            await eraseAll();
            await holds(...o.after());
            await o.undo?.();
            await holds();
            if (!died) return;
          }
        },
      );

    caseUnless(
      lacks.room,
      'forks completely or not at all in a full pool, and still removes volumes',
      async () => {
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
            // A failed login never mounts its volume, so an incomplete one of a session does no harm.
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
      },
    );
  });
}
