/** Decides which generations are kept, and removes the others. */
import { REMEDY } from '../advice.ts';
import { limitsOf } from '../config/config.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import {
  changeState,
  corruptRecord,
  forgetGeneration,
  generationNumbers,
  probation,
  readGeneration,
  stableNumber,
  whyDemoted,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readSession, sessionIds } from '../state/sessions.ts';
import type { Pool } from '../volume/backend.ts';
import { isSameVolume } from '../volume/identity.ts';

export interface RetentionDecision {
  readonly number: number;
  /** `keep-if-space` is kept only while the pool has space; `go` is removed. */
  readonly action: 'keep' | 'keep-if-space' | 'remove';
  readonly why: string;
}

/** What is known about a generation when the decision is made. */
export interface RetentionCandidate {
  readonly number: number;
  readonly sessions: number;
  readonly demoted: boolean;
  /** Its record is corrupt; only an administrator may remove it. */
  readonly corrupt: boolean;
  /** Its volume is gone from a pool that is there: it is nothing to go back to, and takes no place of one that is. */
  readonly gone?: boolean;
}

/**
 * The decision for each generation, oldest first. `keep` is the number of generations to keep, the stable one
 * included; demoted ones do not count, because a rollback does not choose them. `fallback` is the generation that
 * would become stable again if the one on probation fails. Pure.
 */
export function planRetention(
  generations: readonly RetentionCandidate[],
  o: { readonly stable: number | undefined; readonly fallback: number | undefined; readonly keep: number },
): RetentionDecision[] {
  const good = generations
    .filter(g => !g.demoted && !g.corrupt && !g.gone && g.number !== o.stable)
    .map(g => g.number);
  const newest = new Set(good.sort((a, b) => b - a).slice(0, Math.max(0, o.keep - 1)));
  return generations.map(({ number, sessions, demoted, corrupt, gone }) => {
    const is = (action: RetentionDecision['action'], why: string): RetentionDecision => ({
      number,
      action,
      why,
    });
    if (number === o.stable) return is('keep', 'it is stable');
    if (o.stable === undefined) return is('keep', 'no generation is stable');
    if (sessions > 0) return is('keep', `${sessions} session${sessions > 1 ? 's use' : ' uses'} it`);
    if (corrupt) return is('keep', `its record is corrupt; see "${REMEDY.examine}"`);
    if (gone) return is('remove', 'its volume is gone');
    if (number === o.fallback) return is('keep', `no session of generation ${o.stable} has lasted yet`);
    if (newest.has(number)) return is('keep-if-space', `the newest ${o.keep} are kept`);
    return is('remove', demoted ? 'it was demoted' : `only the newest ${o.keep} are kept`);
  });
}

/** Number of sessions that use each generation; undefined if a record is corrupt and could name any of them. */
export function pins({ host, paths }: Machine): Map<number, number> | undefined {
  const found = new Map<number, number>();
  for (const id of sessionIds(host, paths)) {
    const s = readSession(host, paths, id);
    if (!s && host.lstat(`${paths.sessions}/${id}.json`)) return undefined;
    if (s) found.set(s.generation, (found.get(s.generation) ?? 0) + 1);
  }
  return found;
}

/** The numbers of the generations on record whose volume is gone. None if the pool is not there: nothing is known then. */
export async function goneFrom(on: Machine, pool: Pool): Promise<ReadonlySet<number>> {
  const backend = on.backend(pool.backend);
  if (backend.isThere?.(pool.path, pool.id) === false) return new Set();
  const { volumes } = await backend.list(pool.path);
  const there = new Set(volumes.flatMap(v => (v.role === 'generation' ? Number(v.name) : [])));
  return new Set(generationNumbers(on.host, on.paths).filter(number => !there.has(number)));
}

/** The current decisions on this machine; `gone` is what {@link goneFrom} returns. */
export function retentionPlan(on: Machine, gone: ReadonlySet<number> = new Set()): RetentionDecision[] {
  const { host, paths } = on;
  const pinned = pins(on);
  const generations = generationNumbers(host, paths).map(number => ({
    number,
    sessions: pinned === undefined ? 1 : (pinned.get(number) ?? 0),
    demoted: whyDemoted(host, paths, number) !== undefined,
    corrupt: corruptRecord(host, paths, number) !== undefined,
    gone: gone.has(number),
  }));
  const trial = probation(host, paths);
  const stable = stableNumber(host, paths);
  const fallback = trial && trial.number === stable ? trial.previous : undefined;
  return planRetention(generations, { stable, fallback, keep: on.config.update.keep });
}

/** Whether the pool is above its warning limit. */
async function isAboveWarnLimit(on: Machine, pool: Pool): Promise<boolean> {
  const { percent } = await on.backend(pool.backend).usage(pool.path);
  return percent > limitsOf(on.config, pool.backend).warn;
}

/**
 * Removes the generations that are not kept, and then the oldest `keep-if-space` ones while the pool is above its warning
 * limit. With `isShort`, also while it returns true (an update lacks space), except the newest, to which a rollback
 * can go. Never removes `kept`, and nothing from another pool. Returns the numbers that were removed. Throws `stuck` if one
 * cannot be removed.
 */
export async function prune(
  on: Machine,
  pool: Pool,
  isShort: () => Promise<boolean> = async () => false,
  kept?: number,
): Promise<number[]> {
  if (on.backend(pool.backend).isThere?.(pool.path, pool.id) === false) return [];
  const plan = retentionPlan(on, await goneFrom(on, pool)).filter(d => d.number !== kept);
  const newest = plan.filter(f => f.action === 'keep-if-space').at(-1)?.number;
  const removed: number[] = [];
  let failure: unknown;
  for (const { number, action, why } of plan) {
    const corrupt = corruptRecord(on.host, on.paths, number);
    if (corrupt !== undefined)
      on.log('warning', `generation ${number} is unusable and is kept: "${corrupt}" is corrupt`);
    const tooFull =
      action === 'keep-if-space' &&
      ((await isAboveWarnLimit(on, pool)) || (number !== newest && (await isShort())));
    if (action === 'keep' || (action === 'keep-if-space' && !tooFull)) continue;
    try {
      if (await retire(on, number, tooFull ? 'the pool is too full to keep it' : why)) removed.push(number);
    } catch (error) {
      failure ??= error; // what can be removed is removed all the same
    }
  }
  if (failure !== undefined) throw failure;
  return removed;
}

/**
 * Removes a generation unless it is needed after all: its file is renamed first, then the pointer and the records are
 * checked (state/generations.ts). Also completes an interrupted removal. Returns whether it was removed. Throws
 * `stuck` if its volume cannot be removed.
 */
export async function retire(on: Machine, number: number, why: string): Promise<boolean> {
  const { host, paths } = on;
  const proven = readGeneration(host, paths, number);
  if (proven) changeState(host, paths, number, 'proven', 'retired');
  const g = proven ?? readGeneration(host, paths, number, 'retired');
  if (!g) return false;
  const pinned = pins(on);
  const needed = stableNumber(host, paths) === number || pinned === undefined || pinned.has(number);
  if (needed) {
    changeState(host, paths, number, 'retired', 'proven');
    return false;
  }
  on.log('info', `removing generation ${number}: ${why}`);
  const backend = on.backend(g.volume.backend);
  try {
    const identity = await backend.identity(g.volume);
    const isAway = proven !== undefined && identity === undefined; // it may come back, by its seal
    const isAnother = identity !== undefined && !isSameVolume(identity, g.identity);
    if (isAnother)
      on.log('warning', `what is in the place of generation ${number} is another tree, which is kept`);
    if (isAway || isAnother) {
      forgetGeneration(host, paths, number);
      return true;
    }
    const spare = (await backend.list(g.volume.pool)).spares.get(number);
    if (spare !== undefined) await backend.sweep(g.volume.pool, spare);
    await backend.remove(g.volume);
  } catch (error) {
    throw new MayflyError('stuck', `generation ${number} could not be removed: ${reasonOf(error)}`, {
      generation: number,
    });
  }
  forgetGeneration(host, paths, number);
  return true;
}
