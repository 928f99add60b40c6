/** Alerts about the pool's space: one when it becomes scarce, and one when there is enough again. */
import type { limitsOf } from '../config/config.ts';
import type { LogLevel } from '../linux/log.ts';
import { formatBytes } from '../size.ts';
import { inOneLine, type Usage } from '../volume/backend.ts';
import { fullness } from '../volume/usage.ts';

/** 0: enough; 1: above the limit of updates; 2: no new logins. */
export type SpaceLevel = 0 | 1 | 2;

/** By how many percent the usage must fall below a limit, so that a pool just at the limit causes no series of alerts. */
const SLACK = 1;

type Limits = ReturnType<typeof limitsOf>;

function spaceLevel(percent: number, limits: Limits): SpaceLevel {
  if (percent > limits.full) return 2;
  return percent > limits.warn ? 1 : 0;
}

/** The new space level as `scarcity`, and the message to log, if any. `pool` is its path, for the message. */
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
  const state = `${fullness(usage, pool)}, ${formatBytes(usage.free)} free`;
  if (scarcity === 2) return { scarcity, level: 'warning', words: `${state}: new logins are refused` };
  if (scarcity < before) {
    return {
      scarcity,
      level: 'notice',
      words: scarcity === 0 ? `${state}: there is enough space again` : `${state}: logins are allowed again`,
    };
  }
  return {
    scarcity,
    level: 'warning',
    words: `${state}: new logins are refused above ${limits.full} %`,
  };
}
