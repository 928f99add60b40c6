/** Which generations stay, and taking away the others. */
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

export interface RetentionDecision {
  readonly number: number;
  /** `spare` stays only while the pool has room. */
  readonly action: 'keep' | 'spare' | 'go';
  readonly why: string;
}

/** What is known about a generation when its fate is decided. */
export interface RetentionCandidate {
  readonly number: number;
  readonly sessions: number;
  readonly demoted: boolean;
  /** Its record is not whole: what it holds is for an administrator to give up. */
  readonly broken: boolean;
}

/**
 * The fate of each generation, oldest first. `keep` counts the stable one; a demoted generation is no good to go
 * back to and does not count. `fallback` is what a generation on probation falls back to.
 */
export function planRetention(
  generations: readonly RetentionCandidate[],
  o: { readonly stable: number | undefined; readonly fallback: number | undefined; readonly keep: number },
): RetentionDecision[] {
  const good = generations.filter(g => !g.demoted && !g.broken && g.number !== o.stable).map(g => g.number);
  const newest = new Set(good.sort((a, b) => b - a).slice(0, Math.max(0, o.keep - 1)));
  return generations.map(({ number, sessions, demoted, broken }) => {
    const is = (fate: RetentionDecision['action'], why: string): RetentionDecision => ({
      number,
      action: fate,
      why,
    });
    if (number === o.stable) return is('keep', 'it is stable');
    if (o.stable === undefined) return is('keep', 'no generation is stable');
    if (sessions > 0) return is('keep', `${sessions} session${sessions > 1 ? 's use' : ' uses'} it`);
    if (broken) return is('keep', `its record is not whole; see "${REMEDY.examine}"`);
    if (number === o.fallback) return is('keep', `nobody has logged in to generation ${o.stable} yet`);
    if (newest.has(number)) return is('spare', `the newest ${o.keep} are kept`);
    return is('go', demoted ? 'it was demoted' : `only the newest ${o.keep} are kept`);
  });
}

/** How many sessions name each generation; undefined where a record can not be read and might name any. */
export function pins({ host, paths }: Machine): Map<number, number> | undefined {
  const found = new Map<number, number>();
  for (const id of sessionIds(host, paths)) {
    const s = readSession(host, paths, id);
    if (!s && host.lstat(`${paths.sessions}/${id}.json`)) return undefined;
    if (s) found.set(s.generation, (found.get(s.generation) ?? 0) + 1);
  }
  return found;
}

/** The fates on this machine, as things stand. */
export function retentionPlan(on: Machine): RetentionDecision[] {
  const { host, paths } = on;
  const pinned = pins(on);
  const generations = generationNumbers(host, paths).map(number => ({
    number,
    sessions: pinned === undefined ? 1 : (pinned.get(number) ?? 0),
    demoted: whyDemoted(host, paths, number) !== undefined,
    broken: corruptRecord(host, paths, number) !== undefined,
  }));
  const trial = probation(host, paths);
  const stable = stableNumber(host, paths);
  const fallback = trial && trial.number === stable ? trial.previous : undefined;
  return planRetention(generations, { stable, fallback, keep: on.config.update.keep });
}

/** Whether the pool is fuller than generations may make it. */
async function isTight(on: Machine, pool: Pool): Promise<boolean> {
  const { percent } = await on.backend(pool.backend).usage(pool.path);
  return percent > limitsOf(on.config, pool.backend).warn;
}

/**
 * Removes what has to go, and of the rest the oldest for as long as the pool is too full. While there is `short`age
 * of room for an update as well, but then the newest stays to go back to. Returns what went.
 */
export async function prune(
  on: Machine,
  pool: Pool,
  short: () => Promise<boolean> = async () => false,
): Promise<number[]> {
  const plan = retentionPlan(on);
  const newest = plan.filter(f => f.action === 'spare').at(-1)?.number;
  const gone: number[] = [];
  for (const { number, action: fate, why } of plan) {
    const broken = corruptRecord(on.host, on.paths, number);
    if (broken !== undefined)
      on.log('warning', `generation ${number} is no use and stays: "${broken}" is not whole`);
    const tight = fate === 'spare' && ((await isTight(on, pool)) || (number !== newest && (await short())));
    if (fate === 'keep' || (fate === 'spare' && !tight)) continue;
    if (await retire(on, number, tight ? 'the pool is too full to keep it' : why)) gone.push(number);
  }
  return gone;
}

/**
 * Takes a generation away, unless somebody needs it after all: its file goes first, then pointer and records are
 * asked (state/generations.ts). Also finishes what a death left half-done. False where it stays.
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
