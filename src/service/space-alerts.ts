/** Watching the pool's space: says once when it gets scarce, and once when there is room again. */
import type { limitsOf } from '../config/config.ts';
import type { LogLevel } from '../linux/log.ts';
import { formatBytes } from '../size.ts';
import { inOneLine, type Usage } from '../volume/backend.ts';
import { fullness } from '../volume/usage.ts';

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
