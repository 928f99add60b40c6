/** The generations: which one logins get, how old it is, and the result of the last update. */

import { REMEDY } from '../../advice.ts';
import {
  corruptRecord,
  generationNumbers,
  type Probation,
  probation,
  readableGeneration,
  stableNumber,
  whyDemoted,
} from '../../state/generations.ts';
import { loginBlockReason } from '../../state/login-block.ts';
import type { Machine } from '../../state/machine.ts';
import { readPool } from '../../state/pool.ts';
import { parseSeal } from '../../state/seals.ts';
import { describePromotions, pendingPromotion } from '../../update/adopt.ts';
import { gatherHealth, type HealthIssue, healthIssues, isUsable } from '../../update/health.ts';
import { compareWithSeal } from '../../update/unrecorded.ts';
import { generationOf, masterOf } from '../../volume/backend.ts';
import { type CheckResult, check, fine, found, problem, type Subject, warning } from './check.ts';

const GROUP = 'generations';

/** The command that fixes an issue of a topic. `stable` and `pool` have checks of their own with better hints. */
const FIXES: Partial<Record<HealthIssue['topic'], string>> = {
  update: 'mayfly update',
  demoted: 'mayfly update --force',
  lost: 'mayfly rollback',
  age: 'mayfly update',
};

/** The result for one topic of the health issues, which are those in `/run/mayfly/health`. */
export function judgeTopic(
  all: readonly HealthIssue[],
  topic: HealthIssue['topic'],
  words: string,
  fix = FIXES[topic] ?? 'mayfly status',
): CheckResult {
  const own = all.filter(c => c.topic === topic);
  return found(
    own.map(c => (c.level === 'CRITICAL' ? problem(c.words, fix) : warning(c.words, fix))),
    words,
  );
}

/** The generation that logins get, and those they could get instead. */
export interface Stable {
  readonly all: readonly HealthIssue[];
  readonly stable: number | undefined;
  /** The numbers of usable generations that were not demoted, ascending. */
  readonly good: readonly number[];
  readonly master: boolean;
}

export function judgeStable({ all, stable, good, master }: Stable): CheckResult {
  // Without master the pool itself is missing; "mayfly recover" can mount it again.
  const otherwise = stable === undefined ? 'mayfly init' : master ? undefined : 'mayfly recover';
  return judgeTopic(all, 'stable', `generation ${stable}`, replacementFor(good, stable, otherwise));
}

/** The command that replaces the stable generation: a rollback to the newest other good one, or else `otherwise`. */
export function replacementFor(
  good: readonly number[],
  stable: number | undefined,
  otherwise = 'mayfly update --force',
): string {
  const other = good.filter(n => n !== stable).at(-1);
  return other === undefined ? otherwise : `mayfly rollback ${other}`;
}

async function gatherStable(on: Subject): Promise<Stable> {
  const { host, paths } = on;
  const pool = readPool(host, paths);
  return {
    all: await issuesOf(on),
    stable: stableNumber(host, paths),
    good: await goodGenerations(on),
    master: pool !== undefined && (await on.backend(pool.backend).identity(masterOf(pool))) !== undefined,
  };
}

/** The numbers of the usable generations that were not demoted, ascending. */
export async function goodGenerations(on: Machine): Promise<number[]> {
  const { host, paths } = on;
  const good: number[] = [];
  for (const n of generationNumbers(host, paths))
    if (whyDemoted(host, paths, n) === undefined && (await isUsable(on, readableGeneration(host, paths, n))))
      good.push(n);
  return good;
}

/** Warnings for corrupt records of generations other than stable, which has a check of its own. */
export function judgeRecords(
  broken: readonly { number: number; path: string; isSealed?: boolean }[],
): CheckResult {
  return found(
    broken.map(({ number, path, isSealed }) => {
      const what = `generation ${number} is unusable and is kept: "${path}" is corrupt`;
      return warning(what, isSealed ? REMEDY.recover : `rm ${path} && ${REMEDY.recover}`);
    }),
    'intact',
  );
}

async function gatherRecords(on: Subject): Promise<{ number: number; path: string; isSealed: boolean }[]> {
  const { host, paths } = on;
  const stable = stableNumber(host, paths);
  const broken: { number: number; path: string; isSealed: boolean }[] = [];
  for (const standing of ['proven', 'retired'] as const)
    for (const number of generationNumbers(host, paths, standing)) {
      const path = number === stable ? undefined : corruptRecord(host, paths, number, standing);
      if (path === undefined) continue;
      broken.push({ number, path, isSealed: standing === 'proven' && (await isRestorable(on, number)) });
    }
  return broken;
}

/** Whether recovery would write the record of a generation again: it is sealed and proven, and its tree is whole. */
async function isRestorable(on: Subject, number: number): Promise<boolean> {
  const pool = readPool(on.host, on.paths);
  const text = pool && (await on.backend(pool.backend).seals(pool.path)).get(number);
  const seal = parseSeal(text, number);
  if (!pool || !seal?.proven) return false;
  const tree = await compareWithSeal(on, generationOf(pool, number), seal);
  return tree === 'sealed' || tree === 'moved';
}

async function issuesOf(on: Subject): Promise<HealthIssue[]> {
  return healthIssues(await gatherHealth(on), on.host.now());
}

/** Whether users can log in now, as far as generations are concerned. */
export interface LoginState {
  readonly held: string | undefined;
  readonly hold: string;
  readonly stable: number | undefined;
  readonly probation: Omit<Probation, 'people'> | undefined;
}

export function judgeLogins({ held, hold, stable, probation: p }: LoginState): CheckResult {
  const findings =
    held === undefined ? [] : [warning(`logins are blocked: ${held}`, `shutdown -c; rm ${hold}`)];
  if (p && p.number === stable && p.failures > 0)
    findings.push(
      warning(
        `${p.failures} logins to the new generation ${p.number} have failed`,
        `mayfly rollback ${p.previous}`,
      ),
    );
  return found(
    findings,
    p?.number === stable && p
      ? 'no session of the new generation has lasted for three minutes yet'
      : 'allowed',
  );
}

/** The promotion that is under way or waits to be completed, in words, and in the second case its generation. */
interface Promoting {
  readonly pending: number | undefined;
  readonly words: string | undefined;
}

export function judgePromotion({ pending, words }: Promoting): CheckResult {
  if (words === undefined) return fine('none is under way');
  return found([warning(words, pending === undefined ? 'mayfly sessions' : REMEDY.recover)], '');
}

export const generationChecks = [
  check({
    group: GROUP,
    title: 'stable',
    gather: gatherStable,
    evaluate: judgeStable,
  }),
  check({ group: GROUP, title: 'other records', gather: gatherRecords, evaluate: judgeRecords }),
  check({
    group: GROUP,
    title: 'age',
    gather: issuesOf,
    evaluate: all => judgeTopic(all, 'age', 'updated recently'),
  }),
  check({
    group: GROUP,
    title: 'demoted',
    gather: issuesOf,
    evaluate: all => judgeTopic(all, 'demoted', 'no generation newer than stable was demoted'),
  }),
  check({
    group: GROUP,
    title: 'lost',
    gather: issuesOf,
    evaluate: all => judgeTopic(all, 'lost', 'stable has what the one before it had'),
  }),
  check({
    group: GROUP,
    title: 'logins',
    gather: (on): LoginState => ({
      held: loginBlockReason(on),
      hold: on.paths.loginBlock,
      stable: stableNumber(on.host, on.paths),
      probation: probation(on.host, on.paths),
    }),
    evaluate: judgeLogins,
  }),
  check({
    group: GROUP,
    title: 'promotion',
    gather: ({ host, paths }): Promoting => ({
      pending: pendingPromotion(host, paths),
      words: describePromotions(host, paths),
    }),
    evaluate: judgePromotion,
  }),
  check({
    group: GROUP,
    title: 'last update',
    async gather(on) {
      const facts = await gatherHealth(on);
      return { all: healthIssues(facts, on.host.now()), last: facts.history };
    },
    evaluate: ({ all, last }) => {
      if (!last) return fine('none yet');
      const why = last.reason === undefined ? '' : `: ${last.reason}`;
      const { findings, ...result } = judgeTopic(all, 'update', last.result);
      return { ...result, findings: findings.map(f => ({ ...f, what: f.what + why })) };
    },
  }),
];
