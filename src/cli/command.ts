/** What a command of the command line is, and what it is given. */

import type { Options, PositionalOptions } from 'yargs';
import type { Machine } from '../state/machine.ts';

/** Flags that every verb has. */
export interface Flags {
  readonly json: boolean;
  /** An absolute path; undefined where none was named. */
  readonly config: string | undefined;
  readonly dryRun: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

/** What a verb gets. `show` shows a value: as JSON with `--json`, else the text. */
export interface Context {
  readonly flags: Flags;
  readonly machine: () => Promise<Machine>;
  readonly show: (value: unknown, text: string) => void;
  /** The same for what was done, which `--quiet` does not want to hear of; JSON says whether it was a dry run. */
  readonly report: (value: object, text: string) => void;
}

/** A verb of the command line; returns the exit code, 0 where it returns nothing. */
export interface CliCommand {
  readonly command: string;
  readonly describe: string;
  readonly options?: Readonly<Record<string, Options>>;
  readonly positionals?: Readonly<Record<string, PositionalOptions>>;
  /** Whether an ordinary user may call it. */
  readonly anyone?: boolean;
  /** Whether a command of one's own may stand behind "--". */
  readonly takesCommand?: boolean;
  run(args: Readonly<Record<string, unknown>>, context: Context): Promise<number | undefined>;
}
