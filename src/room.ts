/** Watching the pool's space: says once when it gets scarce, and once when there is room again. */
import type { Config } from './config.ts';
import type { Level } from './log.ts';
import type { Usage } from './volume/backend.ts';

/** 0: enough; 1: above the limit of updates; 2: no new logins. */
export type Scarcity = 0 | 1 | 2;

/** Percent by which it must fall below a limit: one that is just at it would be told of again and again. */
const SLACK = 1;

function scarcityOf(percent: number, config: Config): Scarcity {
  if (percent > config.admission.max_used_percent) return 2;
  return percent > config.update.max_used_percent ? 1 : 0;
}

/** What to say, if anything, and how scarce it is now. */
export function weigh(
  before: Scarcity,
  usage: Usage,
  pool: string,
  config: Config,
): { readonly scarcity: Scarcity; readonly level?: Level; readonly words?: string } {
  const now = scarcityOf(usage.percent, config);
  const scarcity = now < before ? scarcityOf(usage.percent + SLACK, config) : now;
  if (scarcity === before) return { scarcity };
  const is = `the pool "${pool}" is ${Math.floor(usage.percent)} % full, ${gibibytes(usage.free)} are left`;
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
    words: `${is}: new logins are refused above ${config.admission.max_used_percent} %`,
  };
}

/** Bytes in words. */
export function gibibytes(bytes: number): string {
  return bytes < 2 ** 30 ? `${Math.floor(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
