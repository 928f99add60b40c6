/** Watching the pool's space: says once when it gets scarce, and once when there is room again. */
import { bytesOf, type limitsOf } from './config.ts';
import { MayflyError, reasonOf } from './errors.ts';
import { stableNumber, wholeGeneration } from './generations.ts';
import type { Level } from './log.ts';
import type { Pool } from './state.ts';
import type { Machine } from './steps.ts';
import { fullness, inOneLine, type Usage } from './volume/backend.ts';

/** 0: enough; 1: above the limit of updates; 2: no new logins. */
export type Scarcity = 0 | 1 | 2;

/** Percent by which it must fall below a limit: one that is just at it would be told of again and again. */
const SLACK = 1;

type Limits = ReturnType<typeof limitsOf>;

function scarcityOf(percent: number, limits: Limits): Scarcity {
  if (percent > limits.full) return 2;
  return percent > limits.warn ? 1 : 0;
}

/** What to say, if anything, and how scarce it is now. */
export function weigh(
  before: Scarcity,
  usage: Usage,
  pool: string,
  limits: Limits,
): { readonly scarcity: Scarcity; readonly level?: Level; readonly words?: string } {
  const now = usage.problem ? 2 : scarcityOf(usage.percent, limits);
  const scarcity = now < before ? scarcityOf(usage.percent + SLACK, limits) : now;
  if (scarcity === before) return { scarcity };
  if (usage.problem) return { scarcity, level: 'warning', words: inOneLine(usage.problem) };
  const is = `${fullness(usage, pool)}, ${gibibytes(usage.free)} are left`;
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
export async function storeOf({ host, paths, config, backend }: Machine, pool: Pool): Promise<number> {
  const stable = pool.backend === 'lvm' ? stableNumber(host, paths) : undefined;
  const g = stable === undefined ? undefined : wholeGeneration(host, paths, stable);
  return g ? bytesOf(config.lvm.cow_size, await backend(pool.backend).forkCost(g.volume)) : 0;
}

/** Room in the pool; undefined where it is not there. One that can not be asked is a problem of its own. */
export async function roomOf(on: Machine, pool: Pool): Promise<Usage | undefined> {
  const backend = on.backend(pool.backend);
  if (!backend.open && on.host.kindOf(pool.path) !== 'dir') return undefined;
  try {
    const usage = await backend.usage(pool.path);
    const store = await storeOf(on, pool);
    if (usage.problem || usage.free >= store) return usage;
    const what = `a session's store takes ${gibibytes(store)}, and "${pool.path}" has ${gibibytes(usage.free)} left`;
    return { ...usage, problem: { what, mend: 'end sessions ("mayfly sessions"), or vgextend(8)' } };
  } catch (error) {
    const hint = error instanceof MayflyError ? error.facts.hint : undefined;
    const problem = { what: reasonOf(error), mend: String(hint ?? 'mayfly recover') };
    return { total: 0, free: 0, percent: 100, problem };
  }
}

/** Bytes in words. */
export function gibibytes(bytes: number): string {
  return bytes < 2 ** 30 ? `${Math.floor(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** What is left, for a line of a report. Of a group that others use too, how much is used says nothing. */
export function roomWords({ percent, of, free }: Usage): string {
  const used = percent > 0 ? `${Math.floor(percent)} % ${of === undefined ? '' : `of its ${of} `}used, ` : '';
  return `${used}${gibibytes(free)} free`;
}
