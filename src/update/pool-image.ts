/** The image file of a pool: making it, and damage found from outside; a file system in it only reports errors of its device. */
import type { Config } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { missingModule } from '../linux/kernel-module.ts';
import { formatBytes, parseSize } from '../size.ts';
import type { Problem } from '../volume/backend.ts';
import type { Progress } from './source.ts';

/**
 * Why the image cannot be used: it is shorter than the file system in it, has none, or the kernel lacks loop devices.
 * Undefined if neither is the case, or if btrfs(8) is not installed. `fix` is the advice for a damaged image.
 */
export async function imageProblem(host: Host, image: string, fix: string): Promise<Problem | undefined> {
  const size = host.lstat(image)?.size ?? 0;
  const damaged = (how: string): Problem => ({
    what: `the image "${image}" ${how}; restore it, or create the pool again`,
    fix,
  });
  const empty = 'holds no btrfs: it was overwritten or truncated';
  try {
    const args = ['inspect-internal', 'dump-super', '--', image];
    const { stdout } = await host.run({ file: 'btrfs', args, effect: 'read' });
    const total = Number(/^total_bytes\s+(\d+)$/m.exec(stdout)?.[1]);
    if (!(total > 0)) return damaged(empty);
    if (size < total)
      return damaged(
        `was truncated: it has ${formatBytes(size)}, and the file system in it has ${formatBytes(total)}`,
      );
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error;
    if (error.code === 'command') return damaged(empty);
  }
  return missingModule(host, 'loop', false);
}

/** Creates a sparse image file with a btrfs, for machines without one. It gets its name only when it is complete. */
export async function makeImage(host: Host, config: Config, image: string, say: Progress): Promise<void> {
  if (host.lstat(image)) return;
  const free = host.space(image.slice(0, image.lastIndexOf('/'))).free;
  const size = Math.min(parseSize(config.pool.image_size), Math.floor(free * 0.9));
  if (size < 512 * 2 ** 20) {
    throw new MayflyError('full', `not enough space for the pool's image "${image}"`, {
      path: image,
      free,
    });
  }
  say(`creating a btrfs of ${formatBytes(size)} in ${image}`);
  const aside = `${image}.new`;
  host.unlink(aside);
  await host.run({ file: 'truncate', args: ['-s', String(size), '--', aside], effect: 'write' });
  await host.run({ file: 'mkfs.btrfs', args: ['-q', '-L', 'mayfly', '--', aside], effect: 'write' });
  host.rename(aside, image);
}
