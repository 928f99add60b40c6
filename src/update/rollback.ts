/** An administrator makes an earlier generation stable. */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import {
  clearDemoted,
  endProbation,
  generationNumbers,
  markDemoted,
  pointStableAt,
  readableGeneration,
  readGeneration,
  stableNumber,
  whyDemoted,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Paths } from '../state/paths.ts';

/**
 * Makes a kept generation stable at once: `number`, or the newest good one before the stable. It waits for no update
 * at work, which then leaves the pointer alone. Returns what is stable now, and what was.
 */
export function rollback(
  { host, paths, log }: Machine,
  number: number | undefined,
): { readonly from: number | undefined; readonly to: number } {
  const from = stableNumber(host, paths);
  const to = number ?? lastGoodBefore(host, paths, from);
  if (to === undefined) {
    throw new MayflyError(
      'no-generation',
      `there is no good generation before ${from ?? 'the first'} to go back to`,
    );
  }
  if (!readGeneration(host, paths, to)) {
    throw new MayflyError('no-generation', `there is no generation ${to}`, { generation: to });
  }
  if (from === to) return { from, to };
  pointStableAt(host, paths, to);
  // Whoever retires a generation looks at the pointer after taking its file; so we look at the file after pointing.
  if (!readGeneration(host, paths, to)) {
    if (from !== undefined) pointStableAt(host, paths, from);
    throw new MayflyError('no-generation', `generation ${to} is just being removed`, { generation: to });
  }
  clearDemoted(host, paths, to);
  if (from !== undefined && to < from) markDemoted(host, paths, from, `rolled back to generation ${to}`);
  endProbation(host, paths);
  log('notice', `generation ${to} is stable${from === undefined ? '' : `; it was ${from}`}`);
  return { from, to };
}

function lastGoodBefore(host: Host, paths: Paths, from: number | undefined): number | undefined {
  return generationNumbers(host, paths)
    .filter(n => (from === undefined || n < from) && whyDemoted(host, paths, n) === undefined)
    .filter(n => readableGeneration(host, paths, n) !== undefined)
    .at(-1);
}
