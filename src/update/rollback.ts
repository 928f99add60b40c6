/** Makes an earlier generation stable, on request of the administrator. */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import {
  clearDemoted,
  endProbation,
  generationNumbers,
  markDemoted,
  readableGeneration,
  readGeneration,
  stableNumber,
  whyDemoted,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Paths } from '../state/paths.ts';
import { movePointer } from '../state/promotion-lock.ts';
import { isUsable } from './health.ts';
import { ALLOW_DEMOTED, forgetHeldBack } from './held-back.ts';
import { tryWriteSeal } from './sealing.ts';

/** Seconds that a rollback waits for logins. */
const ROLLBACK_WAIT = 30;

interface Rollback {
  readonly from: number | undefined;
  readonly to: number;
}

/**
 * Makes a generation stable: `number`, or the newest before the stable one that was not demoted. It does not wait for a
 * running update, which then leaves the pointer alone; only for logins that are forking. Returns the numbers of the
 * generation that was stable and of the one that is now. Throws `no-generation` if there is none or if it is being removed,
 * and `locked`.
 */
export async function rollback(on: Machine, number: number | undefined): Promise<Rollback> {
  const planned = planRollback(on, number); // refuses without waiting
  if (planned.from === planned.to) return planned;
  const o = { what: `the rollback to generation ${planned.to}`, seconds: ROLLBACK_WAIT };
  const { from, to } = await movePointer(on, o, point => moveBack(on, number, point));
  forgetHeldBack(on, to); // it is wanted again
  for (const changed of [from, to]) {
    const g = changed === undefined ? undefined : readableGeneration(on.host, on.paths, changed);
    if (g && (await isUsable(on, g))) await tryWriteSeal(on, g);
  }
  on.log('notice', `generation ${to} is stable${from === undefined ? '' : `; it was ${from}`}`);
  if (from !== undefined && to < from)
    on.log(
      'notice',
      `updates start from generation ${to} now, and leave out what came with generation ${from} ("${ALLOW_DEMOTED}" allows it)`,
    );
  return { from, to };
}

function planRollback({ host, paths }: Machine, number: number | undefined): Rollback {
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
  return { from, to };
}

function moveBack(on: Machine, number: number | undefined, point: (to: number) => void): Rollback {
  const { host, paths } = on;
  const { from, to } = planRollback(on, number);
  point(to);
  // Retirement checks the pointer after it renames the record; so the record is checked after the pointer was
  // changed.
  if (!readGeneration(host, paths, to)) {
    if (from !== undefined) point(from);
    throw new MayflyError('no-generation', `generation ${to} is being removed`, { generation: to });
  }
  clearDemoted(host, paths, to);
  if (from !== undefined && to < from) markDemoted(host, paths, from, `rolled back to generation ${to}`);
  endProbation(host, paths);
  return { from, to };
}

function lastGoodBefore(host: Host, paths: Paths, from: number | undefined): number | undefined {
  return generationNumbers(host, paths)
    .filter(n => (from === undefined || n < from) && whyDemoted(host, paths, n) === undefined)
    .filter(n => readableGeneration(host, paths, n) !== undefined)
    .at(-1);
}
