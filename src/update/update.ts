/**
 * Fork master → refresh the copy → seal it → prove it → promote it → the copy becomes master → retire what is not
 * needed. Until the proof nobody sees any of it; a failure or death on the way leaves stable and master as they were.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import type { Fields } from '../linux/log.ts';
import { stopwatch } from '../linux/stopwatch.ts';
import { prepareSpare } from '../session/spare.ts';
import {
  generationNumbers,
  pointStableAt,
  stableNumber,
  takeNumber,
  writeProbation,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import {
  type History,
  type Phase,
  type Result,
  readHistory,
  writeHistory,
  writeRunning,
} from '../state/update-history.ts';
import { masterOf, type Pool, workOf } from '../volume/backend.ts';
import { checkGeneration } from './check.ts';
import type { ChrootOptions } from './chroot.ts';
import { countDifferences } from './diff.ts';
import {
  acceptCandidate,
  adopt,
  ensureSpace,
  finishInterruptedUpdate,
  mountPool,
  requireSpace,
  seal,
  type TryEach,
  writeIntent,
} from './pool.ts';
import { prune } from './retention.ts';
import { withUpdateLock } from './update-lock.ts';
import { withMountedVolume } from './volume-tree.ts';

export interface UpdateOptions {
  /** For people: what is at work, and where the generation comes from. */
  readonly what: string;
  readonly origin: string;
  /** Changes the working copy; false gives it up. */
  change(inside: ChrootOptions): Promise<boolean>;
  /** One line per phase when it has ended, and `detail` of what is going on. */
  readonly say: (line: string, detail?: boolean, fields?: Fields) => void;
  /** Makes a generation even where nothing was changed. */
  readonly force?: boolean;
}

export interface UpdateOutcome {
  readonly result: Result;
  readonly generation?: number;
  readonly reason?: string;
  readonly warnings?: readonly string[];
}

/** One update, from lock to retirement. Rejects where it failed; the reason is in the history as well. */
export async function update(on: Machine, o: UpdateOptions): Promise<UpdateOutcome> {
  const { host, paths } = on;
  requirePool(on); // before anything is written: a machine that was never set up is not one with a failed update
  return withUpdateLock(on, o.what, async fd => {
    const begun = host.now();
    const before = readHistory(host, paths);
    const lasting = before?.lastSuccess === undefined ? {} : { lastSuccess: before.lastSuccess };
    let phase: Phase = 'prepare';
    const write = (h: Partial<History> & Pick<History, 'result'>): void =>
      writeHistory(host, paths, { lastAttempt: begun, ...lasting, ...h });
    const watch = stopwatch(host);
    const leave = (how: string, next?: Phase): void => {
      const lap = watch.enter(next);
      if (lap) o.say(`${lap.step} ${how} ${lap.took} ms`, false, { step: lap.step });
    };
    const enter = (next: Phase): void => {
      leave('took', next);
      phase = next;
      o.say(next, true);
      writeRunning(host, paths, { what: o.what, since: begun, phase });
      write({ result: 'running', phase });
    };
    try {
      const outcome = await runPhases(on, o, enter, fd);
      leave('took');
      const success = outcome.result === 'promoted' || outcome.result === 'unchanged';
      write({ ...outcome, ...(success ? { lastSuccess: host.now() } : {}) });
      on.log('notice', describeOutcome(outcome));
      for (const warning of outcome.warnings ?? []) on.log('warning', warning);
      return outcome;
    } catch (error) {
      leave('failed after');
      write({ result: 'failed', phase, reason: reasonOf(error) });
      const code = error instanceof MayflyError ? error.code : 'internal';
      const facts = error instanceof MayflyError ? error.facts : {};
      throw new MayflyError(
        code,
        `${o.what} failed in "${phase}": ${reasonOf(error)}`,
        { ...facts, phase },
        { cause: error },
      );
    }
  });
}

function describeOutcome(o: UpdateOutcome): string {
  switch (o.result) {
    case 'promoted':
      return `generation ${o.generation} is stable`;
    case 'unchanged':
      return 'nothing has changed, so there is no new generation';
    case 'kept':
      return `generation ${o.generation} is proven, but was not promoted: ${o.reason}`;
    default:
      return `${o.result}${o.reason ? `: ${o.reason}` : ''}`;
  }
}

function requirePool({ host, paths }: Machine): Pool {
  const pool = readPool(host, paths);
  if (!pool) throw new MayflyError('no-pool', 'there is no pool yet');
  return pool;
}

async function runPhases(
  on: Machine,
  o: UpdateOptions,
  enter: (phase: Phase) => void,
  fd: number,
): Promise<UpdateOutcome> {
  const { host, paths } = on;
  enter('prepare');
  const pool = requirePool(on);
  await mountPool(on, pool);
  await finishInterruptedUpdate(on, pool, orLeaveToRecovery(on), []);
  const stable = stableNumber(host, paths);
  await ensureSpace(on, pool);

  const backend = on.backend(pool.backend);
  const [master, work] = [masterOf(pool), workOf(pool)];
  let accepted = false;
  try {
    enter('fork');
    await backend.fork(master, work, { lockFds: [fd] });
    enter('refresh');
    const inside = {
      timeout: on.config.update.timeout,
      onLine: (l: string) => o.say(l, true),
    };
    if (!(await withMountedVolume(on, work, tree => o.change({ ...inside, tree, began: host.now() })))) {
      await backend.remove(work);
      return { result: 'discarded' };
    }
    enter('compare');
    const changes = await countDifferences(on, master, work);
    if (changes === 0 && !o.force) {
      await backend.remove(work);
      return { result: 'unchanged' };
    }
    o.say(`${changes} files changed`, true);
    await requireSpace(on, pool);
    enter('seal');
    const number = takeNumber(host, paths, await numbersIn(on, pool));
    const generation = await seal(on, pool, { number, origin: o.origin }, 'candidate', [fd]);
    enter('check');
    await requireSpace(on, pool);
    const { warnings } = await checkGeneration(on, generation, o.say);
    await prepareSpare(on, 'finish', generation); // for whoever logs in right after the promotion
    enter('promote');
    const outcome = promote(on, number, stable);
    accepted = true;
    enter('adopt');
    await adopt(on, pool);
    await prepareSpare(on);
    enter('retire');
    const all = [...warnings, ...(await tryPrune(on, pool))];
    return { ...outcome, ...(all.length > 0 ? { warnings: all } : {}) };
  } catch (error) {
    if (!accepted) await dropWork(on, pool);
    throw error;
  }
}

/** Old generations go. One that can not does not make a good update a failed one. */
async function tryPrune(on: Machine, pool: Pool): Promise<string[]> {
  try {
    await prune(on, pool);
    return [];
  } catch (error) {
    return [reasonOf(error)];
  }
}

async function numbersIn(on: Machine, pool: Pool): Promise<number[]> {
  const { volumes: all } = await on.backend(pool.backend).list(pool.path);
  const volumes = all.filter(v => v.role === 'generation');
  return [...volumes.map(v => Number(v.name)), ...generationNumbers(on.host, on.paths)];
}

/**
 * From the renaming of the candidate on there is no way back, and `recover` finishes what a death leaves undone.
 * Logins are not locked out: each sees the old or the new generation, and both are there.
 */
function promote(on: Machine, number: number, before: number | undefined): UpdateOutcome {
  const { host, paths } = on;
  writeIntent(host, paths, number, before);
  acceptCandidate(on, number);
  const now = stableNumber(host, paths);
  if (now !== before) {
    const reason = `generation ${now} was made stable meanwhile`;
    return { result: 'kept', generation: number, reason };
  }
  if (before !== undefined) writeProbation(host, paths, { number, previous: before, failures: 0 });
  pointStableAt(host, paths, number);
  return { result: 'promoted', generation: number };
}

/**
 * Also the half-made copies of a full pool, which would keep people from logging in. What can not be removed now is
 * for `recover`; the reason of the failure is the one to tell.
 */
async function dropWork(on: Machine, pool: Pool): Promise<void> {
  const attempt = orLeaveToRecovery(on);
  await attempt('the working copy', () => finishInterruptedUpdate(on, pool, attempt, []));
}

/** One old thing that can not be removed keeps nobody from a new generation; what stands in the way says so itself. */
function orLeaveToRecovery({ log }: Machine): TryEach {
  return async (what, act) => {
    try {
      await act();
    } catch (error) {
      log('warning', `${what} is left for recovery: ${reasonOf(error)}`);
    }
  };
}
