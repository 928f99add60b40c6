/** How full a file system or a pool is, and whether a new session is admitted. */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { formatBytes } from '../size.ts';
import type { Usage } from './backend.ts';

/**
 * Space and inodes of the file system at `path`, in percent as df(1) tells it: of what is used and what can still be.
 * btrfs has no inode count: 0 means "not limited".
 */
export function usageOf(host: Pick<Host, 'space'>, path: string): Usage {
  const s = host.space(path);
  const space = s.used + s.free === 0 ? 100 : (100 * s.used) / (s.used + s.free);
  const inodes = s.inodes === 0 ? 0 : (100 * (s.inodes - s.freeInodes)) / s.inodes;
  return { total: s.total, free: s.free, percent: Math.max(space, inodes) };
}

/** How full it is, as in `the pool "/p" is 96 % full`; `name` is the pool's, where there may be others. */
export function fullness({ of, percent }: Pick<Usage, 'of' | 'percent'>, name?: string): string {
  const pool = name === undefined ? 'the pool' : `the pool "${name}"`;
  return `${of === undefined ? pool : `the ${of} of ${pool}`} is ${Math.floor(percent)} % full`;
}

/** Refuses a new session (`full`) where the pool has too little room left, so that the sessions in it keep theirs. */
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
      `${fullness(usage, pool)}; new logins stop at ${limits.max_used_percent} %`,
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
