/**
 * The health checks: a table of checks, each of which gathers facts and then evaluates them without asking the system
 * again. Nothing is changed: the checks get a host that refuses every write.
 */
import { adviceOn, EXIT } from '../../advice.ts';
import { MayflyError, reasonOf } from '../../errors.ts';
import { dryRun } from '../../linux/dry-run.ts';
import type { Host } from '../../linux/host.ts';
import type { Machine } from '../../state/machine.ts';
import type { Problem } from '../../volume/backend.ts';

/**
 * Something wrong, with the command that fixes it. A `problem` keeps users out or breaks a guarantee; a `warning` may
 * do so later.
 */
export interface Finding extends Problem {
  readonly level: 'warning' | 'problem';
  /** The exit code, if not that of other problems. */
  readonly exit?: number;
}

/** The result of a check. `words`: what was found to be right, or why the check does not apply. */
export interface CheckResult {
  readonly applies: boolean;
  readonly words: string;
  readonly findings: readonly Finding[];
}

/** What the checks examine: a machine and its configuration file. */
export interface Subject extends Machine {
  readonly file: string;
  /** Why the file is invalid; `config` is then the last valid configuration, or the defaults. */
  readonly invalid: Error | undefined;
  /** The file is invalid and no valid one is known: `config` is then the defaults, and logins are refused. */
  readonly isGuess?: boolean;
}

export interface DoctorCheck<F> {
  readonly group: string;
  readonly title: string;
  gather(on: Subject): F | Promise<F>;
  evaluate(facts: F): CheckResult;
}

export interface Examination extends CheckResult {
  readonly group: string;
  readonly title: string;
}

export const problem = (what: string, fix: string, exit?: number): Finding => ({
  ...{ level: 'problem', what, fix },
  ...(exit === undefined ? {} : { exit }),
});

export const warning = (what: string, fix: string): Finding => ({ level: 'warning', what, fix });

/** The result of a check that applies; `words` are shown if there are no findings. */
export const found = (findings: readonly Finding[], words: string): CheckResult => ({
  ...{ applies: true, words, findings },
});

export const fine = (words: string): CheckResult => found([], words);

export const notApplicable = (why: string): CheckResult => ({ applies: false, words: why, findings: [] });

/** Hides the type of a check's facts, so that different checks fit in one table. */
export function check<F>(c: DoctorCheck<F>): DoctorCheck<unknown> {
  return { ...c, evaluate: facts => c.evaluate(facts as F) };
}

/** A host that throws `internal` on every attempt to change something. */
export function readOnly(host: Host): Host {
  return dryRun(host, line => {
    throw new MayflyError('internal', `a check tried to change something: ${line}`);
  });
}

/** Runs the checks one after the other. A check that fails to run is a problem itself; the others still run. */
export async function runChecks(
  on: Subject,
  checks: readonly DoctorCheck<unknown>[],
): Promise<Examination[]> {
  const done: Examination[] = [];
  const reported = new Map<string, string>();
  for (const c of checks) done.push({ group: c.group, title: c.title, ...(await runCheck(on, c, reported)) });
  return done;
}

/**
 * `reported` maps the reason of a failure to the first check that failed with it. A file that no check can read is one
 * problem, not ten.
 */
async function runCheck(
  on: Subject,
  c: DoctorCheck<unknown>,
  reported: Map<string, string>,
): Promise<CheckResult> {
  try {
    return c.evaluate(await c.gather(on));
  } catch (error) {
    const first = reported.get(reasonOf(error));
    if (first !== undefined) return notApplicable(`cannot be checked, see "${first}"`);
    reported.set(reasonOf(error), c.title);
    return found([fromError(error)], '');
  }
}

/** Turns an error of another part of the program into a problem, with the hint that belongs to its code. */
export function fromError(error: unknown): Finding {
  const { code, facts } = error instanceof MayflyError ? error : { code: 'internal' as const, facts: {} };
  return problem(reasonOf(error), adviceOn(code).hint?.(facts) ?? 'mayfly status');
}

/**
 * The exit code: `ok` without findings, `warned` with warnings only, the code of the problems if they all have the same
 * one, otherwise `failed`.
 */
export function exitCode(all: readonly Pick<CheckResult, 'findings'>[]): number {
  const findings = all.flatMap(e => e.findings);
  const codes = new Set(findings.filter(f => f.level === 'problem').map(f => f.exit ?? EXIT.failed));
  if (codes.size === 0) return findings.length === 0 ? EXIT.ok : EXIT.warned;
  const [only = EXIT.failed] = codes;
  return codes.size === 1 ? only : EXIT.failed;
}
