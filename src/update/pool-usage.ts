/** Usage of the pool, and the space that the next session needs. */
import { REMEDY } from '../advice.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { bytesOf, formatBytes } from '../size.ts';
import { readableGeneration, stableNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Pool, Usage } from '../volume/backend.ts';
import { readOnlyProblem } from './read-only.ts';

/**
 * Bytes that the next session on classic LVM occupies at once; 0 on other backends and without a stable generation.
 */
export async function cowReserve({ host, paths, config, backend }: Machine, pool: Pool): Promise<number> {
  const stable = pool.backend === 'lvm' ? stableNumber(host, paths) : undefined;
  const g = stable === undefined ? undefined : readableGeneration(host, paths, stable);
  return g ? bytesOf(config.lvm.cow_size, await backend(pool.backend).forkCost(g.volume)) : 0;
}

/** Usage of the pool; undefined if it does not exist. Never throws: an error is returned as the usage's `problem`. */
export async function poolUsage(on: Machine, pool: Pool): Promise<Usage | undefined> {
  const backend = on.backend(pool.backend);
  if (!backend.open && on.host.pathType(pool.path) !== 'dir') return undefined;
  try {
    const usage = await backend.usage(pool.path);
    const broken = backend.open ? undefined : readOnlyProblem(on.host, pool);
    if (broken) return { ...usage, problem: broken };
    const store = await cowReserve(on, pool);
    if (usage.problem || usage.free >= store) return usage;
    const what = `a session's snapshot needs ${formatBytes(store)}, and "${pool.path}" has ${formatBytes(usage.free)} left`;
    return { ...usage, problem: { what, fix: `${REMEDY.endSessions}, or vgextend(8)` } };
  } catch (error) {
    const hint = error instanceof MayflyError ? error.facts.hint : undefined;
    const problem = { what: reasonOf(error), fix: String(hint ?? REMEDY.recover) };
    return { total: 0, free: 0, percent: 100, problem };
  }
}

/**
 * Usage as text, such as `96 % used, 1.2 GiB free`. Without a percentage (a shared volume group) only the free space.
 */
export function describeUsage({ percent, of, free }: Usage): string {
  const used = percent > 0 ? `${Math.floor(percent)} % ${of === undefined ? '' : `of its ${of} `}used, ` : '';
  return `${used}${formatBytes(free)} free`;
}
