/**
 * Every failure a person can meet, as a code with facts. The words of advice live in `advice.ts`, the long ones in
 * `cli/error-codes.ts`, each in one table over these codes, so that a code without them does not compile. The codes are public:
 * people read them aloud and look them up, so none is ever renamed or given another meaning.
 */
export type ErrorCode =
  | 'usage'
  | 'config'
  | 'not-root'
  | 'no-stable'
  | 'no-pool'
  | 'no-generation'
  | 'bad-user'
  | 'unknown-user'
  | 'unknown-session'
  | 'refused'
  | 'full'
  | 'exists'
  | 'locked'
  | 'timeout'
  | 'unsafe'
  | 'stuck'
  | 'missing-tool'
  | 'command'
  | 'corrupt'
  | 'update'
  | 'held'
  | 'internal';

/** The facts an error carries for `--json` and the journal: plain values only. */
export type ErrorFacts = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** An error with a code. `message` is one lower-case sentence with the facts in it. */
export class MayflyError extends Error {
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;
  /** By name: the lazily loaded bundles have a copy of this class each. */
  static override [Symbol.hasInstance](value: unknown): value is MayflyError {
    return Error[Symbol.hasInstance](value) && (value as Error).name === 'MayflyError';
  }
  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = 'MayflyError';
    this.code = code;
    this.facts = facts;
  }
}

/** What a person reads aloud over the telephone; `mayfly doctor CODE` explains it, from the table in `cli/error-codes.ts`. */
export function publicCodeOf(error: unknown): string {
  return `MAYFLY-${(error instanceof MayflyError ? error.code : 'internal').toUpperCase()}`;
}

/** What `error` says, in one line. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether `error` is a system error with this errno name ("ENOENT"). */
export function isErrno(error: unknown, ...names: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && names.includes(String(error.code));
}
