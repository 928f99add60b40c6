/** The type of a command of the command line, and of what a command receives. */

import type { Options, PositionalOptions } from 'yargs';
import type { Machine } from '../state/machine.ts';

/** The options that all commands have. */
export interface Flags {
  readonly json: boolean;
  /** An absolute path; undefined without `--config`. */
  readonly config: string | undefined;
  readonly dryRun: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

/** What a command receives. `show` prints a result: the value as JSON with `--json`, otherwise the text. */
export interface Context {
  readonly flags: Flags;
  readonly machine: () => Promise<Machine>;
  readonly show: (value: unknown, text: string) => void;
  /** Like `show`, for a change that was made: silent with `--quiet`, and the JSON states whether it was a dry run. */
  readonly report: (value: object, text: string) => void;
}

/** A command of the command line. `run` returns the exit code; undefined means 0. */
export interface CliCommand {
  readonly command: string;
  readonly describe: string;
  readonly options?: Readonly<Record<string, Options>>;
  readonly positionals?: Readonly<Record<string, PositionalOptions>>;
  /** Users other than root may run it. */
  readonly anyone?: boolean;
  /**
   * It goes on with the last valid configuration while that of the files is invalid: what runs by itself, what only shows,
   * and what an administrator needs meanwhile.
   */
  readonly lastGood?: (args: Readonly<Record<string, unknown>>) => boolean;
  /** It accepts a program and its arguments after "--". */
  readonly takesCommand?: boolean;
  run(args: Readonly<Record<string, unknown>>, context: Context): Promise<number | undefined>;
}
