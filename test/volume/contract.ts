/**
 * The contract of `src/volume/backend.ts` as one test suite. It runs on the memory backend, on overlay (on disk and on
 * tmpfs), on btrfs and, in user-mode Linux, on both LVM backends. Cases named after a fault carry its source.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Volume, VolumeBackend } from '../../src/volume/backend.ts';

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
  close(): Promise<void>;
}

export function contract(name: string, open: () => Promise<Bench>): void {
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
    const fork = (from: Volume, to: Volume) =>
      b.backend.fork(from, to, { upper: b.upper ?? 'disk', size: '16M', lockFds: [] });
    const names = async () => (await b.backend.list(b.pool)).volumes.map(v => `${v.role} ${v.name}`).sort();

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
    });
    afterAll(async () => {
      for (const v of (await b.backend.list(b.pool)).volumes) await b.backend.remove(v);
      expect(await names()).toEqual([]);
      await b.close();
    });

    it('works on this machine', async () => expect(await b.backend.check()).toEqual([]));

    it('shows the content of the source in a fork', async () => {
      await fork(generation(1), session(1));
      expect(await get(session(1), 'file')).toBe('one');
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
      expect(await get(generation(1), 'file')).toBe('one');
      expect(await get(generation(2), 'file')).toBe('two');
      expect(await get(session(1), 'file')).toBe('one');
      await fork(generation(2), session(3, 2));
      expect(await get(session(3, 2), 'file')).toBe('two');
      await b.backend.remove(session(3, 2));
      await b.backend.remove(generation(2));
      await put(work(), 'file', 'one');
    });

    it('refuses a fork to an existing name and changes nothing', async () => {
      await fork(generation(1), session(1));
      await expect(fork(generation(1), session(1))).rejects.toMatchObject({ code: 'exists' });
      await expect(fork(work(), generation(1))).rejects.toMatchObject({ code: 'exists' });
      expect(await get(session(1), 'file')).toBe('one');
    });

    it('refuses a fork of a missing source and leaves nothing', async () => {
      const before = await names();
      await expect(fork(generation(9), generation(8))).rejects.toMatchObject({ code: 'no-generation' });
      expect(await names()).toEqual(before);
    });

    it('refuses to fork a session', async () => {
      await fork(generation(1), session(1));
      await expect(fork(session(1), generation(7))).rejects.toMatchObject({ code: 'unsafe' });
    });

    it('removes a volume repeatedly, also one that does not exist', async () => {
      await fork(generation(1), session(1));
      await b.backend.remove(session(1));
      await b.backend.remove(session(1));
      await b.backend.remove(session(99));
      expect(await names()).not.toContain(`session ${session(1).name}`);
    });

    it('refuses to remove a volume while it is mounted and in use, and removes it afterwards', async () => {
      await fork(generation(1), session(1));
      await b.enter(session(1));
      await expect(b.backend.remove(session(1))).rejects.toMatchObject({ code: 'stuck' });
      await b.leave(session(1));
      await b.backend.remove(session(1));
      expect(await names()).not.toContain(`session ${session(1).name}`);
    });

    it('neither lists nor removes a foreign object under the name of a volume', async () => {
      await b.foreign(session(5));
      try {
        await expect(b.backend.remove(session(5))).rejects.toMatchObject({ code: 'unsafe' });
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
    });

    it('lists exactly the existing volumes, with their roles', async () => {
      await fork(generation(1), session(1));
      await fork(generation(1), session(2));
      expect(await names()).toEqual([
        'generation 1',
        `session ${session(1).name}`,
        `session ${session(2).name}`,
        'work work',
      ]);
      expect((await b.backend.list(b.pool)).leftovers).toEqual([]);
    });

    it('returns the same identity as long as the volume exists', async () => {
      const identity = await b.backend.identity(generation(1));
      expect(identity).toBeDefined();
      await fork(generation(1), session(1));
      expect(await b.backend.identity(generation(1))).toBe(identity);
      expect(await b.backend.identity(generation(5))).toBeUndefined();
    });

    it('renames a complete volume, but never to an existing name', async () => {
      await b.backend.fork(generation(1), volume('master', 'master'), { lockFds: [] });
      await expect(b.backend.rename(work(), volume('master', 'master'))).rejects.toThrow(/exists/);
      await b.backend.remove(work());
      await b.backend.rename(volume('master', 'master'), work());
      expect(await get(work(), 'file')).toBe('one');
    });

    it('uses a spare for one session and lists it apart', async () => {
      const before = await names();
      const made = await b.backend.spare?.(generation(1), [], false);
      if (made === undefined) return; // this backend forks at once and has no spares
      expect(made).toBe(true);
      expect(await b.backend.spare?.(generation(1), [], false)).toBe(false);
      expect(await names()).toEqual(before);
      const [[number, name] = []] = [...(await b.backend.list(b.pool)).spares];
      expect(number).toBe(1);
      await Promise.all([session(1), session(2), session(3)].map(s => fork(generation(1), s)));
      expect((await b.backend.list(b.pool)).spares.size).toBe(0);
      for (const s of [session(1), session(2), session(3)]) expect(await get(s, 'file')).toBe('one');
      await b.backend.spare?.(generation(1), [], false);
      await b.backend.sweep(b.pool, name ?? '');
      expect((await b.backend.list(b.pool)).spares.size).toBe(0);
    });

    it('creates one volume per concurrent fork', async () => {
      const all = Array.from({ length: b.crowd ?? 20 }, (_, i) => session(i + 100));
      await Promise.all(all.map(s => fork(generation(1), s)));
      expect((await names()).filter(n => n.startsWith('session'))).toHaveLength(all.length);
      await Promise.all(all.map(s => b.backend.remove(s)));
      expect((await names()).filter(n => n.startsWith('session'))).toEqual([]);
    });
  });
}
