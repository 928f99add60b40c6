/** Watching the pool's space: says once when it gets scarce, and once when there is room again. */
import { bytesOf, type limitsOf } from './config.ts';
import { MayflyError, reasonOf } from './errors.ts';
import { readableGeneration, stableNumber } from './generations.ts';
import type { LogLevel } from './log.ts';
import type { Pool } from './state.ts';
import type { Machine } from './steps.ts';
import { fullness, inOneLine, type Usage } from './volume/backend.ts';

/** 0: enough; 1: above the limit of updates; 2: no new logins. */
export type SpaceLevel = 0 | 1 | 2;

/** Percent by which it must fall below a limit: one that is just at it would be told of again and again. */
const SLACK = 1;

type Limits = ReturnType<typeof limitsOf>;

function spaceLevel(percent: number, limits: Limits): SpaceLevel {
  if (percent > limits.full) return 2;
  return percent > limits.warn ? 1 : 0;
}

/** What to say, if anything, and how scarce it is now. */
export function spaceAlert(
  before: SpaceLevel,
  usage: Usage,
  pool: string,
  limits: Limits,
): { readonly scarcity: SpaceLevel; readonly level?: LogLevel; readonly words?: string } {
  const now = usage.problem ? 2 : spaceLevel(usage.percent, limits);
  const scarcity = now < before ? spaceLevel(usage.percent + SLACK, limits) : now;
  if (scarcity === before) return { scarcity };
  if (usage.problem) return { scarcity, level: 'warning', words: inOneLine(usage.problem) };
  const is = `${fullness(usage, pool)}, ${formatBytes(usage.free)} are left`;
  if (scarcity === 2) return { scarcity, level: 'warning', words: `${is}: new logins are refused` };
  if (scarcity < before) {
    return {
      scarcity,
      level: 'notice',
      words: scarcity === 0 ? `${is} again` : `${is}: logins are let in again`,
    };
  }
  return {
    scarcity,
    level: 'warning',
    words: `${is}: new logins are refused above ${limits.full} %`,
  };
}

/** Bytes that the next session on classic LVM takes at once; 0 elsewhere, and where there is none to fork from. */
export async function cowReserve({ host, paths, config, backend }: Machine, pool: Pool): Promise<number> {
  const stable = pool.backend === 'lvm' ? stableNumber(host, paths) : undefined;
  const g = stable === undefined ? undefined : readableGeneration(host, paths, stable);
  return g ? bytesOf(config.lvm.cow_size, await backend(pool.backend).forkCost(g.volume)) : 0;
}

/** Room in the pool; undefined where it is not there. One that can not be asked is a problem of its own. */
export async function poolUsage(on: Machine, pool: Pool): Promise<Usage | undefined> {
  const backend = on.backend(pool.backend);
  if (!backend.open && on.host.pathType(pool.path) !== 'dir') return undefined;
  try {
    const usage = await backend.usage(pool.path);
    const store = await cowReserve(on, pool);
    if (usage.problem || usage.free >= store) return usage;
    const what = `a session's store takes ${formatBytes(store)}, and "${pool.path}" has ${formatBytes(usage.free)} left`;
    return { ...usage, problem: { what, fix: 'end sessions ("mayfly sessions"), or vgextend(8)' } };
  } catch (error) {
    const hint = error instanceof MayflyError ? error.facts.hint : undefined;
    const problem = { what: reasonOf(error), fix: String(hint ?? 'mayfly recover') };
    return { total: 0, free: 0, percent: 100, problem };
  }
}

/** Bytes in words. */
export function formatBytes(bytes: number): string {
  return bytes < 2 ** 30 ? `${Math.floor(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** What is left, for a line of a report. Of a group that others use too, how much is used says nothing. */
export function describeUsage({ percent, of, free }: Usage): string {
  const used = percent > 0 ? `${Math.floor(percent)} % ${of === undefined ? '' : `of its ${of} `}used, ` : '';
  return `${used}${formatBytes(free)} free`;
}
