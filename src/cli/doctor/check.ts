/**
 * Examining a machine: a table of checks, each of which gathers facts and judges them, the second without asking
 * anything more. Nothing is changed: the checks get a host that refuses every write.
 */
import { adviceOn, EXIT } from '../../advice.ts';
import { MayflyError, reasonOf } from '../../errors.ts';
import { dryRun } from '../../linux/dry-run.ts';
import type { Host } from '../../linux/host.ts';
import type { Machine } from '../../state/machine.ts';
import type { Problem } from '../../volume/backend.ts';

/** Something wrong, with the command that mends it. A `problem` keeps people out or undoes a promise; a `warning` may. */
export interface Finding extends Problem {
  readonly level: 'warning' | 'problem';
  /** The exit code, where it is not that of any problem. */
  readonly exit?: number;
}

/** What a check came to; `words` say what was seen, or why there was nothing to see. */
export interface CheckResult {
  readonly applies: boolean;
  readonly words: string;
  readonly findings: readonly Finding[];
}

/** What checks look at: a machine, and what is known of its configuration's file. */
export interface Subject extends Machine {
  readonly file: string;
  /** Why the file is not valid; `config` is then what was in force before, or the defaults. */
  readonly invalid: Error | undefined;
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

/** `words` are for where nothing is wrong. */
export const found = (findings: readonly Finding[], words: string): CheckResult => ({
  ...{ applies: true, words, findings },
});

export const fine = (words: string): CheckResult => found([], words);

export const notApplicable = (why: string): CheckResult => ({ applies: false, words: why, findings: [] });

/** The same check with its facts forgotten, for a table of different ones. */
export function check<F>(c: DoctorCheck<F>): DoctorCheck<unknown> {
  return { ...c, evaluate: facts => c.evaluate(facts as F) };
}

/** A host through which nothing can be changed. */
export function readOnly(host: Host): Host {
  return dryRun(host, line => {
    throw new MayflyError('internal', `a check tried to change something: ${line}`);
  });
}

/** One check after the other; one that can not be made is a problem itself, and keeps none from being made. */
export async function runChecks(
  on: Subject,
  checks: readonly DoctorCheck<unknown>[],
): Promise<Examination[]> {
  const done: Examination[] = [];
  const told = new Map<string, string>();
  for (const c of checks) done.push({ group: c.group, title: c.title, ...(await runCheck(on, c, told)) });
  return done;
}

/** `told`: by what kept a check from being made, the first one. A file that none can read is one problem, not ten. */
async function runCheck(
  on: Subject,
  c: DoctorCheck<unknown>,
  told: Map<string, string>,
): Promise<CheckResult> {
  try {
    return c.evaluate(await c.gather(on));
  } catch (error) {
    const first = told.get(reasonOf(error));
    if (first !== undefined) return notApplicable(`it can not be told, as with "${first}"`);
    told.set(reasonOf(error), c.title);
    return found([fromError(error)], '');
  }
}

/** What a refusal of another part of the program says, with its own advice. */
export function fromError(error: unknown): Finding {
  const { code, facts } = error instanceof MayflyError ? error : { code: 'internal' as const, facts: {} };
  return problem(reasonOf(error), adviceOn(code).hint?.(facts) ?? 'mayfly status');
}

/** For monitoring: whether all is well, and if problems are all of one kind, which. */
export function exitCode(all: readonly Pick<CheckResult, 'findings'>[]): number {
  const findings = all.flatMap(e => e.findings);
  const codes = new Set(findings.filter(f => f.level === 'problem').map(f => f.exit ?? EXIT.failed));
  if (codes.size === 0) return findings.length === 0 ? EXIT.ok : EXIT.warned;
  const [only = EXIT.failed] = codes;
  return codes.size === 1 ? only : EXIT.failed;
}
