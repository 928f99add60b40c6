/**
 * The health of this machine, in one line for monitoring in the format of a Nagios plugin. Ages are written as points
 * in time, so that the line stays correct until it is read.
 */
import { limitsOf } from '../config/config.ts';
import { printableLine } from '../linux/printable.ts';
import {
  type Generation,
  generationNumbers,
  probation,
  readableGeneration,
  stableNumber,
  whyDemoted,
} from '../state/generations.ts';
import { loginBlockReason } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import { type RefusedLogins, readRefusedLogins } from '../state/refused-logins.ts';
import { markOf } from '../state/seals.ts';
import { readSessions, type Session } from '../state/sessions.ts';
import { type History, readHistory } from '../state/update-history.ts';
import type { Usage } from '../volume/backend.ts';
import { isSameVolume } from '../volume/identity.ts';
import { fullness } from '../volume/usage.ts';
import { poolUsage } from './pool-usage.ts';

export type HealthLevel = 'OK' | 'WARNING' | 'CRITICAL';

export interface HealthFacts {
  readonly stable: number | undefined;
  /** Whether its volume exists and is the one that was sealed. */
  readonly usable: boolean;
  readonly history: History | undefined;
  /** When the stable generation was sealed, milliseconds since the epoch. */
  readonly sealed: number | undefined;
  readonly sessions: number;
  readonly stuck: number;
  readonly pool: Pick<Usage, 'percent' | 'of' | 'problem'> | undefined;
  readonly demoted: readonly number[];
  /** Failed logins to the stable generation, or to those before it that no session has proven either. */
  readonly failures?: number;
  /** Why the configuration is invalid, while the last valid one is used. */
  readonly invalid?: string | undefined;
  readonly refused?: RefusedLogins | undefined;
  /** Why logins are blocked. */
  readonly blocked?: string | undefined;
  readonly limits: { readonly warn: number; readonly full: number };
}

const DAY = 86_400_000;

/** Days without a successful update after which there is a warning or a critical issue. */
const OLD = { warn: 3, critical: 14 } as const;

const timestamp = (ms: number): string => new Date(ms).toISOString().slice(0, 16).concat('Z');

/** One thing that is wrong with the machine. */
export interface HealthIssue {
  readonly topic:
    | 'config'
    | 'refused'
    | 'blocked'
    | 'stable'
    | 'pool'
    | 'stuck'
    | 'update'
    | 'demoted'
    | 'lost'
    | 'logins'
    | 'age'
    | 'setup';
  readonly level: 'WARNING' | 'CRITICAL';
  readonly words: string;
}

/**
 * Milliseconds since the last successful update or, without one, since the stable generation was sealed; 0 if
 * unknown.
 */
export function ageOf(f: HealthFacts, now: number): number {
  const fresh = f.history?.lastSuccess ?? f.sealed;
  return fresh === undefined ? 0 : now - fresh;
}

/** How many logins were refused, and the codes of the reasons. Pure. */
export function describeRefused({ count, people }: RefusedLogins): string {
  const codes = [...new Set(Object.values(people))].sort().join(', ');
  const who = Object.keys(people).length;
  const logins =
    count === 1 ? 'a login was' : `${count} logins of ${who === 1 ? 'one user' : `${who} users`} were`;
  return `${logins} refused since the last one that succeeded: ${codes}`;
}

/** All that is wrong with the machine; `now` is in milliseconds since the epoch. Pure. */
export function healthIssues(f: HealthFacts, now: number): HealthIssue[] {
  const found: HealthIssue[] = [];
  const report = (topic: HealthIssue['topic'], level: HealthIssue['level'], words: string): number =>
    found.push({ topic, level, words });
  if (f.stable === undefined) report('stable', 'CRITICAL', 'no generation is stable');
  else if (!f.usable) report('stable', 'CRITICAL', `the stable generation ${f.stable} is not usable`);
  if (f.invalid !== undefined)
    report('config', 'WARNING', `the configuration is invalid, and the last valid one is used: ${f.invalid}`);
  if (f.refused) {
    const people = Object.values(f.refused.people);
    report('refused', people.length > 1 ? 'CRITICAL' : 'WARNING', describeRefused(f.refused));
  }
  if (f.blocked !== undefined) report('blocked', 'WARNING', `logins are blocked: ${f.blocked}`);
  // First, because the usage of a pool with a problem is not always known.
  if (f.pool?.problem) report('pool', 'CRITICAL', f.pool.problem.what);
  else if (f.pool && f.pool.percent > f.limits.full) report('pool', 'CRITICAL', fullness(f.pool));
  else if (f.pool && f.pool.percent > f.limits.warn) report('pool', 'WARNING', fullness(f.pool));
  if (f.stuck > 0) report('stuck', 'WARNING', `${f.stuck} stuck`);
  const h = f.history;
  if (h && (h.result === 'failed' || h.result === 'interrupted')) {
    const how = h.result === 'failed' ? 'failed' : 'was interrupted';
    report('update', 'WARNING', `the last update ${how}${h.phase ? ` in ${h.phase}` : ''}`);
  }
  const { lost } = h ?? {};
  if (lost && lost.generation === f.stable && Array.isArray(lost.what))
    report('lost', 'WARNING', `generation ${f.stable} has lost: ${lost.what.join(', ')}`);
  const { failures = 0 } = f;
  if (failures > 0) {
    const logins = failures === 1 ? 'a login' : `${failures} logins`;
    report('logins', 'WARNING', `${logins} to the new generation ${f.stable} failed, and none has lasted`);
  }
  if (f.demoted.length > 0) report('demoted', 'WARNING', `demoted: ${f.demoted.join(', ')}`);
  const age = ageOf(f, now);
  if (age > OLD.critical * DAY) report('age', 'CRITICAL', `no update for ${Math.floor(age / DAY)} days`);
  else if (age > OLD.warn * DAY) report('age', 'WARNING', `no update for ${Math.floor(age / DAY)} days`);
  return found;
}

/** The worst level, and the line for monitoring, which begins with it; `more` is what only the caller knows. Pure. */
export function healthLine(
  f: HealthFacts,
  now: number,
  more: readonly HealthIssue[] = [],
): { readonly level: HealthLevel; readonly line: string } {
  const issues = [...healthIssues(f, now), ...more];
  const h = f.history;
  const age = ageOf(f, now);
  const worst = (['CRITICAL', 'WARNING'] as const).find(level => issues.some(p => p.level === level)) ?? 'OK';
  const parts = [
    ...issues.map(p => p.words),
    ...(f.stable === undefined ? [] : [`generation ${f.stable}`]),
    ...(h ? [`last attempt ${timestamp(h.lastAttempt)} ${h.result}`] : []),
    ...(h?.lastSuccess === undefined ? [] : [`last success ${timestamp(h.lastSuccess)}`]),
  ];
  const data = [
    `age=${Math.floor(age / 1000)}s;${(OLD.warn * DAY) / 1000};${(OLD.critical * DAY) / 1000}`,
    `generation=${f.stable ?? 0}`,
    `sessions=${f.sessions}`,
    ...(f.pool === undefined
      ? []
      : [`pool=${Math.floor(f.pool.percent)}%;${f.limits.warn};${f.limits.full}`]),
  ];
  const line = `${worst} - ${parts.join(', ')} | ${data.join(' ')}`.replace(/[\r\n]+/g, ' ');
  return { level: worst, line };
}

/** Writes the health line to a file that all users can read. Never throws: a failure must not fail the caller. */
export async function writeHealth(on: Machine): Promise<void> {
  try {
    const { line } = healthLine(await gatherHealth(on), on.host.now());
    on.host.write(on.paths.health, `${printableLine(line)}\n`, { mode: 0o644 });
  } catch (error) {
    on.log('debug', `cannot write the health line: ${String(error)}`);
  }
}

/** Whether a generation's volume exists and is the one that was sealed; also by the mark in its tree, which may be emptied. */
export async function isUsable(on: Machine, g: Generation | undefined): Promise<boolean> {
  if (g === undefined) return false;
  const backend = on.backend(g.volume.backend);
  if (!isSameVolume(await backend.identity(g.volume), g.identity)) return false;
  return g.seal === undefined || !backend.readMark || backend.readMark(g.volume) === markOf(g.number, g.seal);
}

/** Collects the facts for {@link healthIssues} and {@link healthLine}. */
export async function gatherHealth(on: Machine): Promise<HealthFacts> {
  const { host, paths, config } = on;
  const stable = stableNumber(host, paths);
  const g = stable === undefined ? undefined : readableGeneration(host, paths, stable);
  const pool = readPool(host, paths);
  const sessions: Session[] = readSessions(host, paths);
  const trial = probation(host, paths);
  return {
    stable,
    usable: await isUsable(on, g),
    history: readHistory(host, paths),
    sealed: (g && Date.parse(g.created)) || undefined, // a damaged record may have no date
    sessions: sessions.length,
    stuck: sessions.filter(s => s.stuck !== undefined).length,
    pool: pool && (await poolUsage(on, pool)),
    demoted: generationNumbers(host, paths).filter(
      n => n > (stable ?? 0) && whyDemoted(host, paths, n) !== undefined,
    ),
    failures: trial?.number === stable ? (trial?.failures ?? 0) : 0,
    invalid: config.invalid,
    refused: readRefusedLogins(host, paths),
    blocked: loginBlockReason(on),
    limits: limitsOf(config, pool?.backend ?? 'overlay'),
  };
}
