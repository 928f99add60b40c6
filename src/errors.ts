/**
 * The errors that a user or administrator can see, each with a code and facts. The hints are in `advice.ts` and the
 * explanations in `cli/error-codes.ts`, in one table each; a code that is missing there does not compile. The codes are
 * public: people read them out and look them up, so a code is never renamed or given another meaning.
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
  | 'unknown-group'
  | 'unknown-session'
  | 'refused'
  | 'full'
  | 'exists'
  | 'locked'
  | 'saving'
  | 'timeout'
  | 'unsafe'
  | 'stuck'
  | 'missing-tool'
  | 'command'
  | 'corrupt'
  | 'update'
  | 'held'
  | 'internal';

/** The facts of an error, for `--json` and the journal: plain values only. */
export type ErrorFacts = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** An error with a code. `message` is one lower-case sentence that contains the facts, without a final period. */
export class MayflyError extends Error {
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;
  /** Compares the name, because each of the lazily loaded bundles has its own copy of this class. */
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

/** The public code, such as "MAYFLY-FULL", which users give their administrator; `mayfly doctor CODE` explains it. */
export function publicCodeOf(error: unknown): string {
  return `MAYFLY-${(error instanceof MayflyError ? error.code : 'internal').toUpperCase()}`;
}

/** The message of `error`. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether `error` is a system error with one of these errno names, such as "ENOENT". */
export function isErrno(error: unknown, ...names: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && names.includes(String(error.code));
}

/** Whether `error` is one of Mayfly's with one of these codes. */
export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is MayflyError {
  return error instanceof MayflyError && codes.includes(error.code);
}
