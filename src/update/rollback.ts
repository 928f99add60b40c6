/** Makes an earlier generation stable, on request of the administrator. */
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
 * Makes a generation stable at once: `number`, or the newest before the stable one that was not demoted. It does not
 * wait for a running update, which then leaves the pointer alone. Returns the numbers of the generation that was
 * stable and of the one that is now. Throws `no-generation` if there is none or if it is being removed.
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
      `there is no usable generation before ${from ?? 'the first'} to roll back to`,
    );
  }
  if (!readGeneration(host, paths, to)) {
    throw new MayflyError('no-generation', `there is no generation ${to}`, { generation: to });
  }
  if (from === to) return { from, to };
  pointStableAt(host, paths, to);
  // Retirement checks the pointer after it renames the record; so the record is checked after the pointer was
  // changed.
  if (!readGeneration(host, paths, to)) {
    if (from !== undefined) pointStableAt(host, paths, from);
    throw new MayflyError('no-generation', `generation ${to} is being removed`, { generation: to });
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
