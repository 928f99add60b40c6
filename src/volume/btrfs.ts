/**
 * The btrfs backend: a fork is a snapshot, regardless of its size, and a generation is a read-only snapshot.
 *
 * btrfs deletes a subvolume that is mounted or has open files without an error, so this file checks first that it is
 * not in use (`busyReason`). Each subvolume has its own device number, by which processes in it are found.
 *
 * Creating or deleting a subvolume keeps its parent directory locked until the transaction ends: half a second while
 * an update is writing (measured). Meanwhile nothing in it can be opened, found or renamed, and no other subvolume
 * can be renamed (the kernel's `subvol_sem`). So a session's subvolume has its own parent directory, and that
 * directory is renamed: logins that find a spare wait for none of this.
 */
import { installHint } from '../advice.ts';
import { isErrno, MayflyError } from '../errors.ts';
import { fileSystemType } from '../linux/file-system-type.ts';
import type { Host } from '../linux/host.ts';
import type { Mount } from '../linux/mount-program.ts';
import { describeHolders, findHolders } from '../linux/processes.ts';
import { type ForkOptions, type Problem, UNSEEN, type Volume, type VolumeBackend } from './backend.ts';
import { dropHollow, isHollow, isSubvolumeAt, requireFreeName } from './btrfs-inodes.ts';
import { subvolumeUuids } from './btrfs-uuids.ts';
import {
  asidePath,
  dissolveLayout,
  listLayout,
  moveAside,
  prepareLayout,
  runEraser,
  sealsInDirectory,
  sparePath,
  volumePath,
} from './directory-layout.ts';
import type { EraseOptions } from './eraser.ts';
import { ownersOf } from './identity.ts';
import { dropSeal } from './seal-files.ts';
import { usageOf } from './usage.ts';

/** The subvolume in a session's directory. */
const subvolumeIn = (directory: string): string => `${directory}/volume`;

const rootOf = (v: Volume): string => (v.role === 'session' ? subvolumeIn(volumePath(v)) : volumePath(v));

/** `memory` is the cache file for the UUIDs of generations. */
export function btrfsBackend(host: Host, memory?: string): VolumeBackend {
  const uuidOf = subvolumeUuids(host, memory);

  const isSubvolume = (path: string): boolean => isSubvolumeAt(host, path);

  async function erase(path: string): Promise<void> {
    if (!isSubvolume(path))
      throw new MayflyError('unsafe', `"${path}" is not a subvolume created by Mayfly`, { path });
    await runEraser(host, 'subvolume', path);
  }

  /** Whether this is a session's directory: it holds the subvolume or, after a crash in between, nothing. */
  const isDirectory = (path: string): boolean => {
    const is = isSubvolume(subvolumeIn(path)) || isHollow(host, subvolumeIn(path));
    return (is || (!isSubvolume(path) && host.list(path).length === 0)) && host.lstat(path)?.kind === 'dir';
  };

  /** Removes a session's directory that was put aside, or a spare. */
  const eraseDirectory = (path: string, o?: EraseOptions) => runEraser(host, 'session', path, o);

  /** Makes the volume of a session absent without erasing it. Returns where it is now, see {@link moveAside}; undefined if it was absent. */
  async function setAside(v: Volume): Promise<string | undefined> {
    const path = volumePath(v);
    const unfinished = asidePath(v, 'new'); // of a fork that was interrupted: nobody was in it
    if (host.lstat(unfinished)) await eraseDirectory(unfinished);
    if (host.lstat(path) === undefined) return undefined;
    await mustBeFree(v);
    if (!isDirectory(path))
      throw new MayflyError('unsafe', `"${path}" is not a volume created by Mayfly`, { path });
    return moveAside(host, v);
  }

  /** Takes the spare of a generation if there is one. Of two concurrent logins only one gets it. */
  function claimSpare(from: Volume, to: Volume): boolean {
    const spare = sparePath(from);
    if (from.role !== 'generation' || !isSubvolume(subvolumeIn(spare))) return false;
    try {
      host.rename(spare, volumePath(to));
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false;
      throw error;
    }
    // Another login may have been faster; this may be the directory of the next spare, which is still empty.
    return isSubvolume(rootOf(to));
  }

  async function busyReason(v: Volume): Promise<string | undefined> {
    const s = host.lstat(rootOf(v));
    if (!s) return undefined;
    return describeHolders(await findHolders(host, new Set([s.dev]), rootOf(v), ownersOf(v))) || undefined;
  }

  async function mustBeFree(v: Volume): Promise<void> {
    const path = volumePath(v);
    const busy = await busyReason(v);
    if (busy) throw new MayflyError('stuck', `the volume "${path}" is in use: ${busy}`, { path });
  }

  return {
    kind: 'btrfs',

    async check(): Promise<readonly Problem[]> {
      const problems: Problem[] = [];
      try {
        await host.run({ file: 'btrfs', args: ['--version'], effect: 'read' });
      } catch {
        problems.push({ what: 'the program "btrfs" is not installed', fix: installHint('btrfs') });
      }
      const { missingModule } = await import('../linux/kernel-module.ts');
      const missing = await missingModule(host, 'btrfs', true);
      if (missing) problems.push(missing);
      return problems;
    },

    async prepare(pool) {
      const type = await fileSystemType(host, pool);
      if (type !== 'btrfs')
        throw new MayflyError('unsafe', `"${pool}" is on ${type}, not on btrfs`, { path: pool });
      prepareLayout(host, pool);
    },

    async dissolve(pool) {
      const first = async () => (await this.list(pool)).discarded[0];
      // With the pool, the record of what is still in use would be gone.
      const deleted = await first();
      if (deleted) await eraseDirectory(`${pool}/${deleted.name}`, { untilFree: true });
      const held = await first();
      if (held)
        throw new MayflyError('stuck', `the space of ${held.session} is not free: ${UNSEEN}`, { pool });
      // A generation is read-only, and such a subvolume cannot be moved to another directory.
      dissolveLayout(host, pool, path => `btrfs property set -f -ts ${path} ro false; `);
    },

    usage: pool => usageOf(host, pool),

    async create(to) {
      requireFreeName(host, to);
      await host.run({ file: 'btrfs', args: ['subvolume', 'create', '--', volumePath(to)], effect: 'write' });
    },

    async fork(from: Volume, to: Volume, options: Partial<ForkOptions> = {}) {
      requireFreeName(host, to);
      if (from.role === 'session') throw new MayflyError('unsafe', `session "${from.name}" cannot be forked`);
      if (!isSubvolume(volumePath(from))) {
        throw new MayflyError(
          'no-generation',
          `the ${from.role} volume "${volumePath(from)}" does not exist`,
          { path: volumePath(from) },
        );
      }
      if (to.role === 'session' && claimSpare(from, to)) return;
      // Atomic in the kernel: if btrfs(8) is killed, the snapshot exists completely or not at all.
      const snapshot = (target: string, flags: readonly string[] = []) => {
        const args = ['subvolume', 'snapshot', ...flags, '--', volumePath(from), target];
        return host.run({
          file: 'btrfs',
          args,
          effect: 'write',
          ...(options.lockFds ? { inheritFds: options.lockFds } : {}),
        });
      };
      if (to.role === 'session') {
        const aside = asidePath(to, 'new');
        host.mkdir(aside, 0o700);
        await snapshot(subvolumeIn(aside));
        try {
          host.rename(aside, volumePath(to)); // also replaces an empty directory, see claimSpare
        } catch (error) {
          if (!isErrno(error, 'ENOTEMPTY', 'EEXIST') || !isSubvolume(rootOf(to))) throw error;
          await eraseDirectory(aside); // the spare appeared there meanwhile and is equivalent
        }
        return;
      }
      await snapshot(volumePath(to), to.role === 'generation' ? ['-r'] : []);
      // Only a generation must survive a power cut as it is; the sync makes every login on the pool wait.
      if (to.role === 'generation')
        await host.run({ file: 'sync', args: ['-f', '--', volumePath(to)], effect: 'write' });
    },

    /** A snapshot waits for data that others are writing, 4 ms to half a second (measured); a rename does not. */
    async spare(origin, fds, background) {
      const spare = sparePath(origin);
      dropHollow(host, subvolumeIn(spare));
      if (!isSubvolume(volumePath(origin)) || host.lstat(subvolumeIn(spare))) return false;
      host.mkdir(spare, 0o700);
      await host.run({
        file: 'btrfs',
        args: ['subvolume', 'snapshot', '--', volumePath(origin), subvolumeIn(spare)],
        effect: 'write',
        inheritFds: fds,
        background,
      });
      return true;
    },

    forkCost: async () => 0, // shared until one of the two is written to

    async rename(from, to) {
      requireFreeName(host, to);
      host.rename(volumePath(from), volumePath(to));
      host.sync(to.pool);
    },

    path: volumePath,

    mount: async (v, root): Promise<Mount> => ({
      source: rootOf(v),
      target: root,
      type: 'none',
      options: 'bind',
    }),

    identity: async v => (isSubvolume(rootOf(v)) ? `subvolume ${await uuidOf(v, rootOf(v))}` : undefined),

    busyReason,

    async remove(v) {
      const path = volumePath(v);
      if (v.role !== 'session') {
        dropHollow(host, path);
        if (host.lstat(path) !== undefined) {
          await mustBeFree(v);
          await erase(path);
        }
        return dropSeal(host, v);
      }
      const aside = await setAside(v);
      if (aside !== undefined) await eraseDirectory(aside);
    },

    async discard(v) {
      const aside = await setAside(v);
      if (aside !== undefined) await eraseDirectory(aside, { background: aside !== volumePath(v) });
    },

    list: async pool =>
      listLayout(
        ...([host, 'btrfs', pool] as const),
        (path, role) => (role === 'session' ? isDirectory(path) : isSubvolume(path)),
        path => isHollow(host, path),
      ),

    ...sealsInDirectory(host),

    sweep: (pool, name) => eraseDirectory(`${pool}/${name}`),
  };
}
