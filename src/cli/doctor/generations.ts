/** The generations: what logins get, how old it is, and what became of the last update. */

import {
  corruptRecord,
  generationNumbers,
  probation,
  readableGeneration,
  stableNumber,
  whyDemoted,
} from '../../state/generations.ts';
import { loginBlockReason } from '../../state/login-block.ts';
import type { Machine } from '../../state/machine.ts';
import { readPool } from '../../state/pool.ts';
import { gatherHealth, type HealthIssue, healthIssues } from '../../update/health.ts';
import { isUsable } from '../../update/pool.ts';
import { masterOf } from '../../volume/backend.ts';
import { type CheckResult, check, fine, found, problem, type Subject, warning } from './check.ts';

const GROUP = 'generations';

/** What to type for what speaks against a machine; of `stable` and `pool`, others say more. */
const MENDS: Partial<Record<HealthIssue['topic'], string>> = {
  update: 'mayfly update',
  demoted: 'mayfly update --force',
  age: 'mayfly update',
};

/** The complaints of one kind that `/run/mayfly/health` has too. */
export function judgeTopic(
  all: readonly HealthIssue[],
  topic: HealthIssue['topic'],
  words: string,
  fix = MENDS[topic] ?? 'mayfly status',
): CheckResult {
  const own = all.filter(c => c.topic === topic);
  return found(
    own.map(c => (c.level === 'CRITICAL' ? problem(c.words, fix) : warning(c.words, fix))),
    words,
  );
}

/** What logins get, and what they could get instead. */
export interface Stable {
  readonly all: readonly HealthIssue[];
  readonly stable: number | undefined;
  /** Generations that are whole and were not demoted, ascending. */
  readonly good: readonly number[];
  readonly master: boolean;
}

export function judgeStable({ all, stable, good, master }: Stable): CheckResult {
  // Without master the pool itself is not there, which recovery brings back if anything does.
  const anew = stable === undefined ? 'mayfly init' : master ? undefined : 'mayfly recover';
  return judgeTopic(all, 'stable', `generation ${stable}`, instead(good, stable, anew));
}

/** What to type for another generation than the stable: the newest of the others that are good, or else `anew`. */
export function instead(
  good: readonly number[],
  stable: number | undefined,
  anew = 'mayfly update --force',
): string {
  const other = good.filter(n => n !== stable).at(-1);
  return other === undefined ? anew : `mayfly rollback ${other}`;
}

async function gatherStable(on: Subject): Promise<Stable> {
  const { host, paths } = on;
  const pool = readPool(host, paths);
  return {
    all: await complaintsOf(on),
    stable: stableNumber(host, paths),
    good: await goodGenerations(on),
    master: pool !== undefined && (await on.backend(pool.backend).identity(masterOf(pool))) !== undefined,
  };
}

/** Those that are whole and were not demoted, ascending. */
export async function goodGenerations(on: Machine): Promise<number[]> {
  const { host, paths } = on;
  const good: number[] = [];
  for (const n of generationNumbers(host, paths))
    if (whyDemoted(host, paths, n) === undefined && (await isUsable(on, readableGeneration(host, paths, n))))
      good.push(n);
  return good;
}

/** Records that are not whole, of those that logins do not get; of the stable one, its own check tells. */
export function judgeRecords(broken: readonly { number: number; path: string }[]): CheckResult {
  return found(
    broken.map(({ number, path }) => {
      const what = `nobody can go back to generation ${number}, which stays: "${path}" is not whole`;
      return warning(what, `rm ${path} && mayfly recover`);
    }),
    'their records are whole',
  );
}

function gatherRecords({ host, paths }: Subject): { number: number; path: string }[] {
  const stable = stableNumber(host, paths);
  return (['proven', 'retired'] as const).flatMap(standing =>
    generationNumbers(host, paths, standing).flatMap(number => {
      const path = number === stable ? undefined : corruptRecord(host, paths, number, standing);
      return path === undefined ? [] : [{ number, path }];
    }),
  );
}

async function complaintsOf(on: Subject): Promise<HealthIssue[]> {
  return healthIssues(await gatherHealth(on), on.host.now());
}

/** Whether people can log in just now, as far as generations go. */
export interface Door {
  readonly held: string | undefined;
  readonly hold: string;
  readonly stable: number | undefined;
  readonly probation: { readonly number: number; readonly failures: number } | undefined;
}

export function judgeDoor({ held, hold, stable, probation: p }: Door): CheckResult {
  const findings =
    held === undefined ? [] : [warning(`logins are held off: ${held}`, `shutdown -c; rm ${hold}`)];
  if (p && p.number === stable && p.failures > 0)
    findings.push(
      warning(`${p.failures} logins with the new generation ${p.number} failed`, 'mayfly rollback'),
    );
  return found(findings, p?.number === stable && p ? 'nobody has logged in to it yet' : 'logins are let in');
}

export const generationChecks = [
  check({
    group: GROUP,
    title: 'stable',
    gather: gatherStable,
    evaluate: judgeStable,
  }),
  check({ group: GROUP, title: 'earlier', gather: gatherRecords, evaluate: judgeRecords }),
  check({
    group: GROUP,
    title: 'age',
    gather: complaintsOf,
    evaluate: all => judgeTopic(all, 'age', 'updated in the last days'),
  }),
  check({
    group: GROUP,
    title: 'demoted',
    gather: complaintsOf,
    evaluate: all => judgeTopic(all, 'demoted', 'none that is newer than stable'),
  }),
  check({
    group: GROUP,
    title: 'logins',
    gather: (on): Door => ({
      held: loginBlockReason(on),
      hold: on.paths.loginBlock,
      stable: stableNumber(on.host, on.paths),
      probation: probation(on.host, on.paths),
    }),
    evaluate: judgeDoor,
  }),
  check({
    group: GROUP,
    title: 'last update',
    async gather(on) {
      const facts = await gatherHealth(on);
      return { all: healthIssues(facts, on.host.now()), last: facts.history };
    },
    evaluate: ({ all, last }) => {
      if (!last) return fine('none so far');
      const why = last.reason === undefined ? '' : `: ${last.reason}`;
      const { findings, ...verdict } = judgeTopic(all, 'update', last.result);
      return { ...verdict, findings: findings.map(f => ({ ...f, what: f.what + why })) };
    },
  }),
];
