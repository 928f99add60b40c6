/**
 * btrfs subvolumes: a fork is a snapshot, whatever its size, and a generation is a read-only one.
 *
 * btrfs deletes a subvolume that is mounted or has open files without a word, so the proof that nobody is in it is
 * ours (`held`). Each subvolume has a device number of its own, which is how processes in it are found.
 *
 * Making and deleting a subvolume keep the directory it is in locked until the transaction is through, half a second
 * where an update is writing (measured), and nobody opens, finds or renames anything in it meanwhile; nor are other
 * subvolumes renamed (the kernel's `subvol_sem`). So a session's subvolume stands in a directory of its own, and it
 * is that directory which is renamed: logins that find one made ready wait for none of it.
 */
import { installHint } from '../advice.ts';
import { isErrno, MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Mount } from '../linux/mount-program.ts';
import { describeHolders, findHolders } from '../linux/processes.ts';
import type { ForkOptions, Problem, Volume, VolumeBackend } from './backend.ts';
import {
  asidePath,
  dissolveLayout,
  listLayout,
  mustBeAbsent,
  prepareLayout,
  sparePath,
  volumePath,
} from './directory-layout.ts';
import { usageOf } from './usage.ts';

/** Inode number of every subvolume's root directory (BTRFS_FIRST_FREE_OBJECTID). */
const SUBVOLUME_ROOT = 256;

/** The subvolume in a session's directory. */
const within = (directory: string): string => `${directory}/volume`;

const rootOf = (v: Volume): string => (v.role === 'session' ? within(volumePath(v)) : volumePath(v));

export function btrfsBackend(host: Host): VolumeBackend {
  const isSubvolume = (path: string): boolean => {
    const s = host.lstat(path);
    return s?.kind === 'dir' && s.ino === SUBVOLUME_ROOT;
  };

  async function erase(path: string): Promise<void> {
    if (!isSubvolume(path)) throw new MayflyError('unsafe', `"${path}" is not a subvolume of ours`, { path });
    const destroy = (p: string) =>
      host.run({ file: 'btrfs', args: ['subvolume', 'delete', '--', p], effect: 'write' });
    try {
      await destroy(path);
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
      // A session's root can make subvolumes of its own, read-only ones and immutable flags too. find(1) enters
      // each directory itself (-execdir), so neither depth nor odd names matter; deepest first, then this one.
      const nested = ['-type', 'd', '-inum', String(SUBVOLUME_ROOT)];
      const unlock = ['-execdir', 'chattr', '-f', '-i', '-a', '{}', ';'];
      const writable = ['-execdir', 'btrfs', 'property', 'set', '-f', '-ts', '{}', 'ro', 'false', ';'];
      const expect = [0, 1]; // 1: one of the commands failed; the deletion below tells whether that matters
      await host.run({ file: 'find', args: [path, ...nested, ...unlock], effect: 'write', okCodes: expect });
      await host.run({
        file: 'find',
        args: [path, ...nested, ...writable],
        effect: 'write',
        okCodes: expect,
      });
      const drop = ['-execdir', 'btrfs', 'subvolume', 'delete', '{}', ';'];
      await host.run({
        file: 'find',
        args: [path, '-mindepth', '1', '-depth', ...nested, ...drop],
        effect: 'write',
        okCodes: expect,
      });
      await destroy(path);
    }
  }

  /** A session's directory: the subvolume in it or, where a death came between, nothing. */
  const isDirectory = (path: string): boolean =>
    host.lstat(path)?.kind === 'dir' &&
    (isSubvolume(within(path)) || (!isSubvolume(path) && host.list(path).length === 0));

  /** Removes a session's directory, whatever its name is by now. */
  async function eraseDirectory(path: string): Promise<void> {
    if (isSubvolume(within(path))) await erase(within(path));
    host.rmdir(path);
  }

  /** Takes the spare of a generation, if there is one; of two who try, one gets it. */
  function claimSpare(from: Volume, to: Volume): boolean {
    const spare = sparePath(from);
    if (from.role !== 'generation' || !isSubvolume(within(spare))) return false;
    try {
      host.rename(spare, volumePath(to));
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false;
      throw error;
    }
    // Another login may have been quicker, and this be the directory of the next one, with nothing in it yet.
    return isSubvolume(rootOf(to));
  }

  async function held(v: Volume): Promise<string | undefined> {
    const s = host.lstat(rootOf(v));
    if (!s) return undefined;
    const holders = findHolders(host, new Set([s.dev]), rootOf(v));
    return holders.length > 0 ? describeHolders(holders) : undefined;
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
      if (!/\bbtrfs$/m.test(host.read('/proc/filesystems') ?? '')) {
        try {
          // Whether it could be: the kernel loads it by itself at the first mount.
          await host.run({ file: 'modprobe', args: ['--dry-run', 'btrfs'], effect: 'read' });
        } catch {
          problems.push({ what: 'this kernel has no btrfs', fix: 'modprobe btrfs' });
        }
      }
      return problems;
    },

    async prepare(pool) {
      const out = await host.run({ file: 'stat', args: ['-f', '-c', '%T', '--', pool], effect: 'read' });
      if (out.stdout.trim() !== 'btrfs') {
        throw new MayflyError('unsafe', `"${pool}" is on ${out.stdout.trim()}, not on btrfs`, { path: pool });
      }
      prepareLayout(host, pool);
    },

    dissolve: async pool => dissolveLayout(host, pool),

    usage: async pool => usageOf(host, pool),

    async create(to) {
      mustBeAbsent(host, to);
      await host.run({ file: 'btrfs', args: ['subvolume', 'create', '--', volumePath(to)], effect: 'write' });
    },

    async fork(from: Volume, to: Volume, options: Partial<ForkOptions> = {}) {
      mustBeAbsent(host, to);
      if (from.role === 'session')
        throw new MayflyError('unsafe', `the session "${from.name}" can not be forked`);
      if (!isSubvolume(volumePath(from))) {
        throw new MayflyError('no-generation', `the ${from.role} volume "${volumePath(from)}" is not there`, {
          path: volumePath(from),
        });
      }
      if (to.role === 'session' && claimSpare(from, to)) return;
      // Atomic in the kernel: killed at any moment, the whole snapshot is there or none of it.
      const snapshot = (place: string, flags: readonly string[] = []) => {
        const args = ['subvolume', 'snapshot', ...flags, '--', volumePath(from), place];
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
        await snapshot(within(aside));
        try {
          host.rename(aside, volumePath(to)); // also onto an empty one, see claimSpare
        } catch (error) {
          if (!isErrno(error, 'ENOTEMPTY', 'EEXIST') || !isSubvolume(rootOf(to))) throw error;
          await eraseDirectory(aside); // the spare came into being there meanwhile, and is as good
        }
        return;
      }
      await snapshot(volumePath(to), to.role === 'generation' ? ['-r'] : []);
      // Only a generation must outlive a power cut as it is; writing it out makes every login on the pool wait.
      if (to.role === 'generation')
        await host.run({ file: 'sync', args: ['-f', '--', volumePath(to)], effect: 'write' });
    },

    /** A snapshot waits for what others are writing, 4 ms to half a second (measured); a rename does not. */
    async spare(origin, fds, background) {
      const spare = sparePath(origin);
      if (!isSubvolume(volumePath(origin)) || host.lstat(within(spare))) return false;
      host.mkdir(spare, 0o700);
      await host.run({
        file: 'btrfs',
        args: ['subvolume', 'snapshot', '--', volumePath(origin), within(spare)],
        effect: 'write',
        inheritFds: fds,
        background,
      });
      return true;
    },

    forkCost: async () => 0, // shared until one of the two is written to

    async rename(from, to) {
      mustBeAbsent(host, to);
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

    async identity(v) {
      // The directory's own creation is not shown; the inode is the same for all. The transaction-stable fact is
      // that a subvolume stands there at all.
      return isSubvolume(rootOf(v)) ? 'subvolume' : undefined;
    },

    busyReason: held,

    async remove(v) {
      const path = volumePath(v);
      if (v.role === 'session')
        for (const as of ['new', 'old'] as const) {
          const aside = asidePath(v, as); // of one that died half-way
          if (host.lstat(aside)) await eraseDirectory(aside);
        }
      if (host.lstat(path) === undefined) return;
      const busy = await held(v);
      if (busy) throw new MayflyError('stuck', `the volume "${path}" is in use: ${busy}`, { path });
      if (v.role !== 'session') return erase(path);
      if (!isDirectory(path)) throw new MayflyError('unsafe', `"${path}" is not a volume of ours`, { path });
      host.rename(path, asidePath(v, 'old'));
      await eraseDirectory(asidePath(v, 'old'));
    },

    list: async pool =>
      listLayout(host, 'btrfs', pool, (path, role) =>
        role === 'session' ? isDirectory(path) : isSubvolume(path),
      ),

    sweep: (pool, name) => eraseDirectory(`${pool}/${name}`),
  };
}
