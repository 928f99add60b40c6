/**
 * The update: fork master (or a generation, if master is missing, was rolled back, or another one is asked for) → refresh
 * the copy → seal it → check it → promote it → make the copy master → retire old generations. Nothing is visible to users
 * before the promotion; a failure or crash before it leaves stable and master unchanged.
 */
import { isErrno, MayflyError, reasonOf } from '../errors.ts';
import type { Fields } from '../linux/log.ts';
import { stopwatch } from '../linux/stopwatch.ts';
import { prepareSpare } from '../session/spare-snapshot.ts';
import { stableNumber, takeNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import {
  describeOutcome,
  generationChanges,
  type History,
  type Phase,
  type Result,
  readHistory,
  writeHistory,
  writeRunning,
} from '../state/update-history.ts';
import { type Pool, workOf } from '../volume/backend.ts';
import { adopt, knownNumbers, readIntent, startingPoint } from './adopt.ts';
import { tagSessions } from './cache-tag.ts';
import { checkGeneration } from './check.ts';
import type { ChrootOptions } from './chroot.ts';
import { countDifferences } from './diff.ts';
import { dropWork, orLeaveToRecovery } from './failed-update.ts';
import { forgetHeldBack, noteHeldBack, rolledBackTo } from './held-back.ts';
import { finishInterruptedUpdate } from './interrupted-update.ts';
import { keptFiles } from './kept-files.ts';
import type { LossPolicy } from './losses.ts';
import { ensureSpace, mountPool, requireSpace } from './pool.ts';
import { promote } from './promote.ts';
import { alignNumbers } from './renumber.ts';
import { withResolver } from './resolver.ts';
import { prune } from './retention.ts';
import { seal } from './sealing.ts';
import { numbersIn } from './seals.ts';
import { requireWholeMaster } from './separate-trees.ts';
import { withUpdateLock } from './update-lock.ts';
import { withMountedVolume } from './volume-tree.ts';

export interface UpdateOptions {
  /** Name of the action, for status and messages. */
  readonly what: string;
  /** Where the generation comes from, as text for the administrator. */
  readonly origin: string;
  /** Changes the working copy; returns false to discard it, and "seal" to seal it whatever has changed. */
  change(inside: ChrootOptions): Promise<boolean | 'seal'>;
  /** Gets a line per phase when it ends and, with `detail`, the phase that begins and each line of output. */
  readonly say: (line: string, detail?: boolean, fields?: Fields) => void;
  /** Creates a generation even if nothing was changed. */
  readonly force?: boolean;
  /** Also what came with a generation that was demoted. */
  readonly allowDemoted?: boolean;
  /** Starts from this generation instead of master. */
  readonly from?: number | undefined;
  readonly losses?: LossPolicy;
}

export interface UpdateOutcome {
  readonly result: Result;
  readonly generation?: number;
  readonly reason?: string;
  readonly warnings?: readonly string[];
  readonly lost?: NonNullable<History['lost']>;
  readonly changes?: NonNullable<History['changes']>;
}

/**
 * Runs one update, from the lock to retirement, and records it in the history. Throws `no-pool`, `locked`, `held`,
 * and the code of whatever fails; the message then names the phase.
 */
export async function update(on: Machine, o: UpdateOptions): Promise<UpdateOutcome> {
  const { host, paths } = on;
  requirePool(on); // before the history is written: without a pool there is no failed update to report
  return withUpdateLock(on, o.what, async fd => {
    const started = host.now();
    const before = readHistory(host, paths);
    const { lastSuccess, lost, changes } = before ?? {};
    const kept: Partial<History> = {
      ...(lastSuccess === undefined ? {} : { lastSuccess }),
      ...(lost && { lost }),
      ...(changes && { changes }),
    };
    let phase: Phase = 'prepare';
    const write = (h: Partial<History> & Pick<History, 'result'>): void =>
      writeHistory(host, paths, { lastAttempt: started, ...kept, ...h });
    const watch = stopwatch(host);
    const leave = (how: string, next?: Phase): void => {
      const lap = watch.enter(next);
      if (lap) o.say(`${lap.step} ${how} ${lap.took} ms`, false, { step: lap.step });
    };
    const enter = (next: Phase): void => {
      leave('took', next);
      phase = next;
      o.say(next, true);
      writeRunning(host, paths, { what: o.what, since: started, phase });
      write({ result: 'running', phase });
    };
    try {
      const outcome = await runPhases(on, o, enter, fd);
      leave('took');
      const success = outcome.result === 'promoted' || outcome.result === 'unchanged';
      write({ ...outcome, ...(success ? { lastSuccess: host.now() } : {}) });
      if (outcome.changes) on.log('notice', generationChanges(outcome.changes));
      on.log('notice', describeOutcome(outcome));
      for (const warning of outcome.warnings ?? []) on.log('warning', warning);
      return outcome;
    } catch (error) {
      leave('failed after');
      write({ result: 'failed', phase, reason: reasonOf(error) });
      const code =
        error instanceof MayflyError ? error.code : isErrno(error, 'ENOSPC', 'EDQUOT') ? 'full' : 'internal';
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

function requirePool({ host, paths }: Machine): Pool {
  const pool = readPool(host, paths);
  if (!pool) throw new MayflyError('no-pool', 'there is no pool');
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
  tagSessions(host, pool.path);
  // A promotion that still waits, for logins or for room, keeps its working copy, which becomes master.
  const isPending = (): boolean => readIntent(host, paths) !== undefined;
  await finishInterruptedUpdate(on, pool, orLeaveToRecovery(on, isPending));
  const stable = stableNumber(host, paths);
  const backend = on.backend(pool.backend);
  const work = workOf(pool);
  await noteHeldBack(on);
  const back = o.from === undefined ? rolledBackTo(on) : undefined;
  const source = await startingPoint(on, pool, o.from, back);
  const isMaster = source.role === 'master';
  if (isMaster) await requireWholeMaster(on, source);
  await ensureSpace(on, pool, source);

  let accepted = false;
  const warnings: string[] = [];
  const warn = (line: string): void => {
    warnings.push(line);
    o.say(line, true);
  };
  try {
    enter('fork');
    await backend.fork(source, work, { lockFds: [fd] });
    enter('refresh');
    const options = {
      timeout: on.config.update.timeout,
      onLine: (l: string) => o.say(l, true),
      warn,
    };
    const copied = host.now();
    let isWanted = false;
    const known = await withMountedVolume(on, work, async tree => {
      const decision = await withResolver(host, tree, () =>
        o.change({ ...options, tree, began: host.monotonic() }),
      );
      if (decision === false) return undefined;
      isWanted = decision === 'seal';
      warnings.push(...(await keptFiles(host, tree, copied)));
      return alignNumbers(on, tree, knownNumbers(on, source), o.say); // before the comparison: it is a change like others
    });
    if (!known) {
      await backend.remove(work);
      return { result: 'discarded' };
    }
    enter('compare');
    if (isMaster || (back !== undefined && source.name === String(back))) {
      const changes = await countDifferences(on, source, work, copied);
      if (changes === 0 && !o.force && !isWanted) {
        await backend.remove(work);
        return { result: 'unchanged', ...(warnings.length > 0 ? { warnings } : {}) };
      }
      o.say(`${changes} files changed`, true);
    }
    await requireSpace(on, pool);
    enter('seal');
    const number = takeNumber(host, paths, await numbersIn(on, pool));
    const generation = await seal(on, pool, { number, origin: o.origin }, 'candidate', [fd], {
      known,
      say: o.say,
    });
    enter('check');
    await requireSpace(on, pool);
    const { warnings: doubts, lost, changes } = await checkGeneration(on, generation, o.say, o.losses);
    warnings.push(...doubts);
    await prepareSpare(on, 'finish', generation); // for the first login after the promotion
    enter('promote');
    const { isPending: mustWait, ...outcome } = await promote(on, pool, number, stable);
    accepted = true;
    const told = (): Partial<UpdateOutcome> => ({
      ...(warnings.length > 0 ? { warnings } : {}),
      ...(lost.length > 0 ? { lost: { generation: number, what: lost } } : {}),
      ...(changes && { changes: { ...changes, generation: number } }),
    });
    if (mustWait) return { ...outcome, ...told() };
    enter('adopt');
    await adopt(on, pool);
    if (o.allowDemoted) forgetHeldBack(on);
    await prepareSpare(on);
    enter('retire');
    warnings.push(...(await tryPrune(on, pool)));
    return { ...outcome, ...told() };
  } catch (error) {
    for (const warning of warnings) on.log('warning', warning); // it may be what has led to the failure
    if (!accepted) await dropWork(on, pool);
    throw error;
  }
}

/** Prunes old generations. A failure is returned as a warning: it must not fail an update that has succeeded. */
async function tryPrune(on: Machine, pool: Pool): Promise<string[]> {
  try {
    await prune(on, pool);
    return [];
  } catch (error) {
    return [reasonOf(error)];
  }
}
