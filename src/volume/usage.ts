/** Usage of a file system or a pool, and whether a new session is admitted. */
import { MayflyError } from '../errors.ts';
import type { Host, Space } from '../linux/host.ts';
import { formatBytes } from '../size.ts';
import type { Usage } from './backend.ts';

/** The type of btrfs in statfs(2) (BTRFS_SUPER_MAGIC). */
const BTRFS = 0x9123683e;

function toUsage(s: Space): Usage {
  const space = s.used + s.free === 0 ? 100 : (100 * s.used) / (s.used + s.free);
  const inodes = s.inodes === 0 ? 0 : (100 * (s.inodes - s.freeInodes)) / s.inodes;
  const fuller = inodes > space ? ({ percent: inodes, of: 'inodes' } as const) : { percent: space };
  return { total: s.total, free: s.free, ...fuller };
}

/**
 * Usage of the file system at `path`; bytes, and percent of space or inodes, as df(1) computes it: used / (used +
 * available). On btrfs, 0 inodes means "not limited", and its metadata counts too.
 */
export async function usageOf(host: Host, path: string): Promise<Usage> {
  const s = host.space(path);
  if (s.type !== BTRFS) return toUsage(s);
  const { withMetadata } = await import('./btrfs-space.ts');
  return withMetadata(host, path, toUsage(s));
}

/** Usage as text, such as `the pool "/p" is 96 % full`; `name` is the path of the pool. */
export function fullness({ of, percent }: Pick<Usage, 'of' | 'percent'>, name?: string): string {
  const pool = name === undefined ? 'the pool' : `the pool "${name}"`;
  const full = `${Math.floor(percent)} %`;
  if (of === 'inodes') return `${pool} has used ${full} of its inodes`;
  return `${of === undefined ? pool : `the ${of} of ${pool}`} is ${full} full`;
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
