/** Usage of a file system or a pool, and whether a new session is admitted. */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { formatBytes } from '../size.ts';
import type { Usage } from './backend.ts';

/**
 * Usage of the file system at `path`; bytes, and percent of space or inodes, as df(1) computes it: used / (used +
 * available). On btrfs, 0 inodes means "not limited".
 */
export function usageOf(host: Pick<Host, 'space'>, path: string): Usage {
  const s = host.space(path);
  const space = s.used + s.free === 0 ? 100 : (100 * s.used) / (s.used + s.free);
  const inodes = s.inodes === 0 ? 0 : (100 * (s.inodes - s.freeInodes)) / s.inodes;
  return { total: s.total, free: s.free, percent: Math.max(space, inodes) };
}

/** Usage as text, such as `the pool "/p" is 96 % full`; `name` is the path of the pool. */
export function fullness({ of, percent }: Pick<Usage, 'of' | 'percent'>, name?: string): string {
  const pool = name === undefined ? 'the pool' : `the pool "${name}"`;
  return `${of === undefined ? pool : `the ${of} of ${pool}`} is ${Math.floor(percent)} % full`;
}

/**
 * Throws `full` if the pool is fuller than `max_used_percent` or has less than `min_free` bytes left, so that the
 * sessions in it keep their space. Throws `refused` if the pool has a problem.
 */
export function admit(
  usage: Usage,
  pool: string,
  limits: { max_used_percent: number; min_free: number },
): void {
  if (usage.problem) {
    const { what, fix } = usage.problem;
    throw new MayflyError('refused', what, { pool, hint: fix });
  }
  const facts = { pool, percent: Math.floor(usage.percent), free: usage.free };
  if (usage.percent > limits.max_used_percent) {
    throw new MayflyError(
      'full',
      `${fullness(usage, pool)}; the limit for new logins is ${limits.max_used_percent} %`,
      facts,
    );
  }
  if (usage.free < limits.min_free) {
    throw new MayflyError(
      'full',
      `the pool "${pool}" has ${formatBytes(usage.free)} left; a new login needs ${formatBytes(limits.min_free)}`,
      facts,
    );
  }
}
