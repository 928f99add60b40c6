/**
 * The overlay backend: directory trees and overlayfs. It works on any file system and needs no partitioning.
 *
 * Master, work and generations are plain trees. A fork of them is a copy (with reflinks if the file system supports
 * them), which only updates need. A session is an upper layer over a generation, created in microseconds regardless
 * of the size of the tree. The lower layer must not change while it is in use (the kernel calls the result undefined:
 * Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems"); so generations are sealed.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Mount } from '../linux/mount-program.ts';
import { isMounted } from '../linux/mounts.ts';
import type { ForkOptions, Problem, Volume, VolumeBackend } from './backend.ts';
import {
  asidePath,
  dissolveLayout,
  listLayout,
  moveAside,
  mustBeAbsent,
  prepareLayout,
  runEraser,
  sealsInDirectory,
  volumePath,
} from './directory-layout.ts';
import type { EraseOptions } from './eraser.ts';
import { dropSeal } from './seal-files.ts';
import { usageOf } from './usage.ts';

/**
 * `index=on` makes the kernel refuse a second mount of an upper layer in use. `volatile` avoids the sync at unmount
 * and makes an accidental second mount after a crash impossible (Linux 5.10). `redirect_dir=on` allows directories of
 * the lower layer to be renamed. `xino=auto` gives files the session's st_dev too, if inode numbers have enough bits.
 */
export const OVERLAY_OPTIONS = 'index=on,volatile,redirect_dir=on,xino=auto';

function layers(v: Volume): string {
  if (!v.origin)
    throw new MayflyError('corrupt', `the session volume "${v.name}" does not name its generation`);
  const path = volumePath(v);
  return `lowerdir=${volumePath(v.origin)},upperdir=${path}/upper,workdir=${path}/work`;
}

export function overlayBackend(host: Host): VolumeBackend {
  const erase = (path: string, o?: EraseOptions) => runEraser(host, 'tree', path, o);

  /**
   * Asks the kernel by a trial mount: with `index=on` it refuses an upper layer that is in use in any mount namespace
   * with EBUSY. A free one fails with another error, because ours carry the mark of `volatile` (ovl_get_upper is
   * checked first). mount(8) reports EBUSY as "already mounted on PLACE" if PLACE has the same source, otherwise as
   * "already mounted or mount point busy"; so the trial mount has its own source.
   */
  async function busyReason(v: Volume): Promise<string | undefined> {
    const path = volumePath(v);
    if (
      host.lstat(`${path}/work/work/incompat`) === undefined &&
      host.lstat(`${path}/work/incompat`) === undefined
    ) {
      return undefined; // it was never mounted
    }
    const probe = `${path}/probe`;
    const lower = `${path}/lower`;
    const options = `lowerdir=${lower},upperdir=${path}/upper,workdir=${path}/work,${OVERLAY_OPTIONS}`;
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

  /** Makes the volume absent without erasing it. Returns where it is now, see {@link moveAside}; undefined if it was absent. */
  async function setAside(v: Volume): Promise<string | undefined> {
    const path = volumePath(v);
    const there = host.lstat(path);
    if (there === undefined) return undefined;
    if (there.kind !== 'dir')
      throw new MayflyError('unsafe', `"${path}" is not a volume created by Mayfly`, { path });
    if (v.role !== 'session') return moveAside(host, v);
    let busy = await busyReason(v);
    // On a busy machine the kernel was seen to report EBUSY for a moment after the last process was gone from /proc;
    // the reason is not known. A layer that is really in use stays busy.
    for (let wait = 10; busy !== undefined && wait < 500; wait *= 2) {
      await host.sleep(wait);
      busy = await busyReason(v);
    }
    if (busy) throw new MayflyError('stuck', `the volume "${path}" is in use: ${busy}`, { path });
    if (isMounted(host, path)) await host.run({ file: 'umount', args: ['--', path], effect: 'write' });
    return moveAside(host, v);
  }

  return {
    kind: 'overlay',

    async check(): Promise<readonly Problem[]> {
      const { missingModule } = await import('../linux/kernel-module.ts');
      const missing = await missingModule(host, 'overlay', true);
      return missing ? [missing] : [];
    },

    async prepare(pool) {
      prepareLayout(host, pool);
    },

    dissolve: async pool => dissolveLayout(host, pool),

    usage: pool => usageOf(host, pool),

    async create(to) {
      mustBeAbsent(host, to);
      host.mkdir(volumePath(to), 0o755);
    },

    async fork(from: Volume, to: Volume, options: Partial<ForkOptions> = {}) {
      mustBeAbsent(host, to);
      if (from.role === 'session') throw new MayflyError('unsafe', `session "${from.name}" cannot be forked`);
      if (host.lstat(volumePath(from))?.kind !== 'dir') {
        throw new MayflyError(
          'no-generation',
          `the ${from.role} volume "${volumePath(from)}" does not exist`,
          { path: volumePath(from) },
        );
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
        // "probe" and "lower" are created now, because the session can use up every inode later.
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
      // Only a generation must survive a power cut as it is. The sync also writes out what was written to its source.
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
        return {
          source: 'overlay',
          target: root,
          type: 'overlay',
          options: `${layers(v)},${OVERLAY_OPTIONS}`,
        };
      }
      return { source: volumePath(v), target: root, type: 'none', options: 'bind' };
    },

    async identity(v) {
      const s = host.lstat(volumePath(v));
      // Inode numbers are soon reused; together with the creation time they are unique.
      return s?.kind === 'dir' ? `inode ${s.ino} of ${s.birthtimeMs}` : undefined;
    },

    busyReason,

    async remove(v) {
      const old = asidePath(v, 'old');
      if (host.lstat(old)) await erase(old); // an earlier removal was interrupted
      const aside = await setAside(v);
      dropSeal(host, v);
      if (aside !== undefined) await erase(aside);
    },

    async discard(v) {
      const aside = await setAside(v);
      if (aside !== undefined) await erase(aside, { background: aside !== volumePath(v) });
    },

    list: async pool => listLayout(host, 'overlay', pool, path => host.lstat(path)?.kind === 'dir'),

    ...sealsInDirectory(host),

    sweep: (pool, name) => erase(`${pool}/${name}`),
  };
}
