/** Damage to the image file of a pool, found from outside; a file system in it only reports errors of its device. */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { missingModule } from '../linux/kernel-module.ts';
import { formatBytes } from '../size.ts';
import type { Problem } from '../volume/backend.ts';

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
