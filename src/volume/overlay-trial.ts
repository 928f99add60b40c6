/** A trial of overlayfs on the file system of a new pool. Only `init` needs it. */
import { MayflyError, reasonOf } from '../errors.ts';
import { fileSystemType } from '../linux/file-system-type.ts';
import type { Host } from '../linux/host.ts';
import { type MountOp, makeMountOps, mountCommand } from '../linux/mount-program.ts';
import { requireFileSystems } from '../linux/mounts.ts';
import type { ForkOptions } from './backend.ts';
import { OVERLAY_OPTIONS } from './overlay.ts';

/** Exits with 0 if a file that was deleted in the overlay is gone from its directory too. */
const SCRIPT = 'rm -- "$1/file" && test -z "$(ls -A -- "$1")"';

/** The hint where an overlay cannot have its changes on disk but in memory, such as on a live system. */
export const IN_MEMORY = 'set "upper" in [overlay] to "tmpfs": then the changes of sessions are in memory';

type Layers = Pick<ForkOptions, 'upper' | 'size'>;

/**
 * Mounts an overlay in the pool as sessions do, and deletes a file in it. Throws `refused` if the file system cannot hold
 * a session: overlayfs refuses it as the upper layer (NFS, vfat, another overlay), or its directories do not store the
 * types of files (XFS with ftype=0, ext4 without "filetype"), so that deleted files would stay visible. The mounts are
 * in a namespace of their own and end with the command.
 */
export async function tryOverlay(host: Host, pool: string, layers: Layers): Promise<void> {
  const error = await trial(host, pool, layers);
  if (!error) return;
  const type = await fileSystemType(host, pool);
  const why =
    error.facts.exitCode === 1
      ? 'deleted files stay visible: its directories do not store the types of files'
      : reasonOf(error);
  const what = `"${pool}" is on ${type}, which cannot hold the changes of a session: ${why}`;
  const elsewhere = 'set "pool.path" to a directory on ext4, on btrfs, or on XFS with ftype=1';
  const worksInMemory = layers.upper === 'disk' && !(await trial(host, pool, { ...layers, upper: 'tmpfs' }));
  const hint = worksInMemory ? `${elsewhere}; or ${IN_MEMORY}` : elsewhere;
  throw new MayflyError('refused', what, { path: pool, hint }, { cause: error });
}

/** Returns the failure of the mount or of what is tried in it. Throws all others. */
async function trial(host: Host, pool: string, { upper, size }: Layers): Promise<MayflyError | undefined> {
  const at = `${pool}/.trial`;
  const clean = async (): Promise<void> => {
    if (!host.lstat(at)) return;
    await host.run({ file: 'rm', args: ['-rf', '--one-file-system', '--', at], effect: 'write' });
  };
  await clean(); // of a trial that was interrupted
  for (const path of [at, `${at}/lower`, `${at}/layers`]) host.mkdir(path, 0o700);
  host.write(`${at}/lower/file`, '', { mode: 0o600 });
  const mountOpFor = makeMountOps();
  const dir = (name: string): MountOp => ({ op: 'dir', target: `${at}/layers/${name}` });
  const layers = `lowerdir=${at}/lower,upperdir=${at}/layers/upper,workdir=${at}/layers/work`;
  const calls: MountOp[] = [
    ...(upper === 'tmpfs'
      ? [mountOpFor({ source: 'mayfly', target: `${at}/layers`, type: 'tmpfs', options: `size=${size}` })]
      : [mountOpFor({ source: `${at}/layers`, target: `${at}/layers`, type: 'none', options: 'bind' })]),
    dir('upper'),
    dir('work'),
    dir('merged'),
    mountOpFor({
      ...{ source: 'overlay', target: `${at}/layers/merged`, type: 'overlay' },
      options: `${layers},${OVERLAY_OPTIONS}`,
    }),
    { op: 'enter', target: '', merge: true, argv: ['sh', '-c', SCRIPT, 'sh', `${at}/layers/merged`] },
  ];
  const perl = mountCommand(calls);
  const args = ['--mount', '--propagation', 'private', '--', perl.file, ...perl.args];
  try {
    await host.run({
      ...{ file: 'unshare', args, effect: 'write' },
      describe: () => [`try an overlay in ${pool}`],
    });
    return undefined;
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
    await requireFileSystems(host, calls, error);
    return error;
  } finally {
    await clean();
  }
}
