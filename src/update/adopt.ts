/**
 * Where master comes from: the working copy of an update becomes master at its end, and a record of that makes sure that
 * a crash only delays it. An update starts from master, or from a generation.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import {
  type Generation,
  generationNumbers,
  lastNumber,
  probation,
  readableGeneration,
  readGeneration,
  stableNumber,
  whyDemoted,
  writeProbation,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { UnnamedNumbers } from '../state/owners.ts';
import type { Paths } from '../state/paths.ts';
import { describeForking, describePromotion, movePointer } from '../state/promotion-lock.ts';
import { readHistory, readRunning, writeHistory } from '../state/update-history.ts';
import { masterOf, type Pool, type Volume, workOf } from '../volume/backend.ts';
import { isUsable } from './health.ts';
import { finishRenumbering } from './renumber.ts';
import { withMountedVolume } from './volume-tree.ts';

/**
 * Records that an update is about to promote a generation and to make its working copy master; written before both.
 */
function intentPath(paths: Paths): string {
  return `${paths.state}/adopt`;
}

/**
 * Records, durably, the generation about to be promoted, the one that was stable `before`, and the identity of the working
 * copy that becomes master.
 */
export function writeIntent(
  host: Host,
  paths: Paths,
  number: number,
  before: number | undefined,
  work: string | undefined,
): void {
  host.write(intentPath(paths), `${number} ${before ?? 0}${work === undefined ? '' : ` ${work}`}\n`, {
    mode: 0o600,
    durable: true,
  });
}

export function dropIntent(host: Host, paths: Paths): void {
  host.unlink(intentPath(paths));
}

/** Seconds that the completion of a promotion waits for logins. It is tried again. */
const COMPLETION_WAIT = 10;

/** A promotion that was begun. `before` is undefined if the record is cut short, for example by a damaged disk. */
export interface Intent {
  readonly number: number;
  readonly before: number | undefined;
  /** The identity of the working copy; undefined if an earlier version wrote the record, or if it is cut short. */
  readonly work?: string;
}

export function readIntent(host: Host, paths: Paths): Intent | undefined {
  const text = host.read(intentPath(paths));
  if (text === undefined) return undefined;
  const [, number, before, work] = /^([1-9]\d*) (\d+)(?: (.+))?\n$/.exec(text) ?? [];
  // The working copy was sealed under the number that was assigned last: both happen under the same lock.
  if (number === undefined) return { number: lastNumber(host, paths) ?? 0, before: undefined };
  return { number: Number(number), before: Number(before), ...(work === undefined ? {} : { work }) };
}

/** The proven generation whose promotion was begun and not completed; undefined if there is none, or an update is running. */
export function pendingPromotion(host: Host, paths: Paths): number | undefined {
  const number = readIntent(host, paths)?.number;
  if (number === undefined || readRunning(host, paths)) return undefined;
  return generationNumbers(host, paths).includes(number) && stableNumber(host, paths) !== number
    ? number
    : undefined;
}

/** The promotion that is under way, or that waits to be completed, and for whom, in one line; undefined if there is none. */
export function describePromotions(host: Host, paths: Paths): string | undefined {
  const underWay = describePromotion(host, paths);
  const number = pendingPromotion(host, paths);
  if (underWay !== undefined || number === undefined) return underWay;
  const who = describeForking(host, paths);
  const why = who === undefined ? 'was interrupted, or logins did not let it through' : `waits for ${who}`;
  return `generation ${number} passed its checks, but is not stable yet: its promotion ${why}`;
}

/**
 * Completes a promotion if it was committed: the candidate is proven. The pointer is moved unless somebody else moved
 * it meanwhile. Returns whether it was committed. Throws `locked` if logins keep the pointer from being moved.
 */
export async function completePromotion(
  on: Machine,
  pool: Pool,
  { number, before }: Intent,
): Promise<boolean> {
  const { host, paths } = on;
  if (!generationNumbers(host, paths).includes(number)) {
    dropIntent(host, paths);
    return false;
  }
  if (stableNumber(host, paths) !== number) await completeMove(on, number, before);
  await adopt(on, pool);
  return true;
}

/**
 * Puts a generation on probation that is about to replace `before`. If that one is on probation itself, it has not shown
 * that it is any better: the new one falls back to the one before it, and failures go on counting. Otherwise a fault that
 * stays would begin anew every night, and nothing good would be left to fall back to.
 */
export function beginProbation(host: Host, paths: Paths, number: number, before: number): void {
  const last = probation(host, paths);
  // With its own number: this promotion was interrupted before the pointer was moved.
  const goesOn =
    (last?.number === before || last?.number === number) &&
    readableGeneration(host, paths, last.previous) !== undefined &&
    whyDemoted(host, paths, last.previous) === undefined;
  writeProbation(host, paths, goesOn ? { ...last, number } : { number, previous: before, failures: 0 });
}

/** Moves the pointer for {@link completePromotion}. */
async function completeMove(on: Machine, number: number, before: number | undefined): Promise<void> {
  const { host, paths } = on;
  if (!(await isUsable(on, readableGeneration(host, paths, number)))) return; // it is gone with the pool of that day
  const o = { what: `the promotion of generation ${number}`, seconds: COMPLETION_WAIT };
  const isMoved = await movePointer(on, o, point => {
    const now = stableNumber(host, paths) ?? 0;
    const untouched = before === undefined ? now < number : now === before;
    if (!untouched || whyDemoted(host, paths, number) !== undefined) return false;
    if (now > 0) beginProbation(host, paths, number, now);
    point(number);
    return true;
  });
  const history = isMoved ? readHistory(host, paths) : undefined;
  if (history?.result !== 'kept' || history.generation !== number) return;
  const { reason: _, ...rest } = history;
  writeHistory(host, paths, { ...rest, result: 'promoted', lastSuccess: rest.lastAttempt });
}

function masterPath(paths: Paths): string {
  return `${paths.state}/master`;
}

/** Gives the working copy the role of master, and records its identity: by that a copy of master is known later. */
export async function makeMaster(on: Machine, pool: Pool): Promise<void> {
  const backend = on.backend(pool.backend);
  const identity = await backend.identity(workOf(pool));
  on.host.write(masterPath(on.paths), `${identity ?? ''}\n`, { mode: 0o600, durable: true });
  await backend.rename(workOf(pool), masterOf(pool));
}

export function forgetMaster({ host, paths }: Machine): void {
  host.unlink(masterPath(paths));
}

/** Whether master is not the tree that an update left: it was put back or moved, and nobody knows whether it is complete. */
async function isMasterMoved(on: Machine, pool: Pool): Promise<boolean> {
  const recorded = on.host.read(masterPath(on.paths))?.trim();
  const now = await on.backend(pool.backend).identity(masterOf(pool));
  return recorded !== undefined && recorded !== '' && now !== undefined && now !== recorded;
}

/**
 * Makes the working copy master. After a crash it can be repeated, and continues where it was. Where the state is of
 * another day than the pool, the working copy is that of a later update and may be unfinished: it is left alone.
 */
export async function adopt(on: Machine, pool: Pool): Promise<void> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const work = workOf(pool);
  const identity = await backend.identity(work);
  const wanted = readIntent(host, paths)?.work ?? identity;
  if (identity !== undefined && identity === wanted) {
    await backend.remove(masterOf(pool));
    await makeMaster(on, pool);
  }
  dropIntent(host, paths);
}

/**
 * Makes the working copy master if nothing else is left from which the next update could start: there is no master, and
 * no generation is usable. Returns whether it did.
 */
export async function keepLastTree(on: Machine, pool: Pool): Promise<boolean> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const isProven = generationNumbers(host, paths).length > 0; // otherwise it is a leftover of `init`
  if (!isProven || (await backend.identity(masterOf(pool))) !== undefined) return false;
  if ((await usableGeneration(on)) !== undefined) return false;
  await withMountedVolume(on, workOf(pool), tree => finishRenumbering(on, tree));
  await makeMaster(on, pool);
  return true;
}

/** The stable generation if it is usable, else the newest that is. */
async function usableGeneration(on: Machine): Promise<Generation | undefined> {
  const { host, paths } = on;
  const stable = stableNumber(host, paths);
  const newest = generationNumbers(host, paths).reverse();
  for (const number of stable === undefined ? newest : [stable, ...newest]) {
    const g = readableGeneration(host, paths, number);
    if (await isUsable(on, g)) return g;
  }
  return undefined;
}

/**
 * The volume of which an update makes its working copy: generation `from` if it is given, else `back`, the stable one if
 * master is as one that was demoted, if it is usable; else master or, if master is missing, the stable generation. Throws
 * `no-generation`.
 */
export async function startingPoint(
  on: Machine,
  pool: Pool,
  from: number | undefined,
  back?: number,
): Promise<Volume> {
  const { host, paths } = on;
  const master = masterOf(pool);
  const good = back === undefined ? undefined : readableGeneration(host, paths, back);
  if (good && (await isUsable(on, good))) {
    on.log('notice', `starting from generation ${back}, because a newer one was demoted`);
    return good.volume;
  }
  const isMoved = from === undefined && (await isMasterMoved(on, pool));
  if (from === undefined && !isMoved && (await on.backend(pool.backend).identity(master)) !== undefined)
    return master;
  if (from !== undefined) {
    const wanted = readGeneration(host, paths, from);
    if (wanted && (await isUsable(on, wanted))) return wanted.volume;
    const what = wanted ? `generation ${from} is not usable` : `there is no generation ${from}`;
    throw new MayflyError('no-generation', what, { generation: from });
  }
  const g = await usableGeneration(on);
  if (!g) throw new MayflyError('no-generation', 'master is missing, and no generation is usable');
  const why = isMoved ? 'was moved or put back, and may not be complete' : 'is missing';
  on.log('warning', `master ${why}; it is made again from generation ${g.number}`);
  return g.volume;
}

/**
 * What is known of the numbers without a name in the volume of {@link startingPoint}: master follows the newest generation.
 * Undefined if an earlier version has sealed that.
 */
export function knownNumbers({ host, paths }: Machine, { role, name }: Volume): UnnamedNumbers | undefined {
  const number = role === 'generation' ? Number(name) : generationNumbers(host, paths).at(-1);
  const g = number === undefined ? undefined : readableGeneration(host, paths, number);
  return g?.unnamed;
}
