/**
 * Directory trees and overlayfs: works on any file system with room, and needs no partitioning.
 *
 * Master, work and generations are plain trees. A fork of those copies (with reflinks where the file system has
 * them); only the updater pays that. A session is an upper layer over a generation, made in microseconds whatever
 * the size of the tree. The lower layer must not change while it is in use (the kernel calls the result undefined:
 * Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems"), hence sealed generations.
 */
import { isErrno, MayflyError, reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Mount } from '../linux/mount-program.ts';
import { isMounted } from '../linux/mounts.ts';
import type { ForkOptions, Problem, Volume, VolumeBackend } from './backend.ts';
import {
  asidePath,
  dissolveLayout,
  listLayout,
  mustBeAbsent,
  prepareLayout,
  volumePath,
} from './directory-layout.ts';
import { usageOf } from './usage.ts';

/**
 * `index=on` makes the kernel refuse a second mount of a live upper layer. `volatile` spares the sync at unmount and
 * makes an accidental re-mount after a crash impossible (Linux 5.10). `redirect_dir=on` lets directories of the
 * lower layer be renamed. `xino=auto` keeps st_dev the session's own for files too, where inode numbers have room.
 */
const OPTIONS = 'index=on,volatile,redirect_dir=on,xino=auto';

function layers(v: Volume): string {
  if (!v.origin)
    throw new MayflyError('corrupt', `the session volume "${v.name}" does not name its generation`);
  const path = volumePath(v);
  return `lowerdir=${volumePath(v.origin)},upperdir=${path}/upper,workdir=${path}/work`;
}

export function overlayBackend(host: Host): VolumeBackend {
  /** Deletes a tree that nobody can reach any more. rm(1) walks by descriptors, follows no symlink, crosses no mount. */
  async function erase(path: string): Promise<void> {
    const rm = { file: 'rm', args: ['-rf', '--one-file-system', '--', path], effect: 'write' } as const;
    try {
      await host.run(rm);
    } catch (error) {
      // Root inside a session can set the immutable flag; then rm fails, and only then is chattr worth its time.
      if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
      await host.run({
        file: 'chattr',
        args: ['-R', '-f', '-i', '-a', '--', path],
        effect: 'write',
        okCodes: [0, 1],
      });
      await host.run(rm);
    }
  }

  /**
   * Asks the kernel: with `index=on` it refuses an upper layer that is in use anywhere, by whatever namespace, with
   * EBUSY; one that is free fails otherwise, as ours carry the mark of `volatile`. (ovl_get_upper comes first; mount(8) words EBUSY
   * as "already mounted on PLACE", if PLACE has the same
   * source, or "already mounted or mount point busy"; hence a source of its own.)
   */
  async function held(v: Volume): Promise<string | undefined> {
    const path = volumePath(v);
    if (
      host.lstat(`${path}/work/work/incompat`) === undefined &&
      host.lstat(`${path}/work/incompat`) === undefined
    ) {
      return undefined; // was never mounted
    }
    const probe = `${path}/probe`;
    const lower = `${path}/lower`;
    const options = `lowerdir=${lower},upperdir=${path}/upper,workdir=${path}/work,${OPTIONS}`;
    const out = await host.run({
      file: 'mount',
      args: ['-t', 'overlay', '-o', options, `probe-${v.name}`, probe],
      effect: 'write',
      okCodes: [0, 32],
    });
    if (out.code === 0) await host.run({ file: 'umount', args: ['--', probe], effect: 'write' });
    return out.code !== 0 && /already mounted|busy/i.test(out.stderr)
      ? 'the kernel still has its upper layer mounted'
      : undefined;
  }

  async function removeSession(v: Volume): Promise<void> {
    const path = volumePath(v);
    let busy = await held(v);
    // On a busy machine the kernel was seen to say so for a moment after the last process was gone from /proc; why, is
    // not known. One that is really held stays so.
    for (let wait = 10; busy !== undefined && wait < 500; wait *= 2) {
      await host.sleep(wait);
      busy = await held(v);
    }
    if (busy) throw new MayflyError('stuck', `the volume "${path}" is in use: ${busy}`, { path });
    if (isMounted(host, path)) await host.run({ file: 'umount', args: ['--', path], effect: 'write' });
    const old = asidePath(v, 'old');
    host.rename(path, old);
    await erase(old);
  }

  return {
    kind: 'overlay',

    async check(): Promise<readonly Problem[]> {
      const known = host.read('/proc/filesystems') ?? '';
      if (/\boverlay$/m.test(known)) return [];
      try {
        // Whether it could be: the kernel loads it by itself at the first mount.
        await host.run({ file: 'modprobe', args: ['--dry-run', 'overlay'], effect: 'read' });
        return [];
      } catch (error) {
        return [{ what: `this kernel has no overlayfs (${reasonOf(error)})`, fix: 'modprobe overlay' }];
      }
    },

    async prepare(pool) {
      prepareLayout(host, pool);
    },

    dissolve: async pool => dissolveLayout(host, pool),

    usage: async pool => usageOf(host, pool),

    async create(to) {
      mustBeAbsent(host, to);
      host.mkdir(volumePath(to), 0o755);
    },

    async fork(from: Volume, to: Volume, options: Partial<ForkOptions> = {}) {
      mustBeAbsent(host, to);
      if (from.role === 'session')
        throw new MayflyError('unsafe', `the session "${from.name}" can not be forked`);
      if (host.lstat(volumePath(from))?.kind !== 'dir') {
        throw new MayflyError('no-generation', `the ${from.role} volume "${volumePath(from)}" is not there`, {
          path: volumePath(from),
        });
      }
      const path = volumePath(to);
      if (to.role === 'session') {
        host.mkdir(path, 0o700);
        if (options.upper === 'tmpfs') {
          const size = `size=${options.size ?? '50%'},nr_inodes=1M,mode=0700,private`;
          await host.run({
            file: 'mount',
            args: ['-t', 'tmpfs', '-o', size, 'mayfly', path],
            effect: 'write',
          });
        }
        // The two for the probe are made while there is room: a person can use up every inode.
        for (const name of ['upper', 'work', 'probe', 'lower']) host.mkdir(`${path}/${name}`, 0o755);
        return;
      }
      const aside = asidePath(to, 'new');
      if (host.lstat(aside)) await erase(aside);
      const args = ['-a', '--reflink=auto', '--one-file-system', '-T', '--', volumePath(from), aside];
      await host.run({
        file: 'cp',
        args,
        effect: 'write',
        ...(options.lockFds ? { inheritFds: options.lockFds } : {}),
      });
      // Only a generation must outlive a power cut as it is. It takes what was written to its source along.
      if (to.role === 'generation')
        await host.run({ file: 'sync', args: ['-f', '--', aside], effect: 'write' });
      host.rename(aside, path);
      host.sync(path.slice(0, path.lastIndexOf('/')));
    },

    async forkCost(from) {
      const args = ['-s', '--one-file-system', '--block-size=1', '--', volumePath(from)];
      const { stdout } = await host.run({ file: 'du', args, effect: 'read' });
      return Number(stdout.split('\t')[0]) || 0;
    },

    async rename(from, to) {
      mustBeAbsent(host, to);
      host.rename(volumePath(from), volumePath(to));
      host.sync(to.pool);
    },

    path: volumePath,

    async mount(v, root): Promise<Mount> {
      if (v.role === 'session') {
        return { source: 'overlay', target: root, type: 'overlay', options: `${layers(v)},${OPTIONS}` };
      }
      return { source: volumePath(v), target: root, type: 'none', options: 'bind' };
    },

    async identity(v) {
      const s = host.lstat(volumePath(v));
      return s?.kind === 'dir' ? `inode ${s.ino}` : undefined;
    },

    busyReason: held,

    async remove(v) {
      const path = volumePath(v);
      const there = host.lstat(path);
      const old = asidePath(v, 'old');
      if (host.lstat(old)) await erase(old); // an earlier removal died half-way
      if (there === undefined) return;
      if (there.kind !== 'dir')
        throw new MayflyError('unsafe', `"${path}" is not a volume of ours`, { path });
      try {
        if (v.role === 'session') return await removeSession(v);
        host.rename(path, old);
        await erase(old);
      } catch (error) {
        // rename and rm say EBUSY where something is still mounted on or below the tree
        if (isErrno(error, 'EBUSY'))
          throw new MayflyError('stuck', `the volume "${path}" is in use`, { path }, { cause: error });
        throw error;
      }
    },

    list: async pool => listLayout(host, 'overlay', pool, path => host.lstat(path)?.kind === 'dir'),

    sweep: (pool, name) => erase(`${pool}/${name}`),
  };
}
