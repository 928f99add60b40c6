/** Runs apt in the working copy: with files that only this run has, and without hooks of apt that fail. */
import { MayflyError, reasonOf } from '../errors.ts';
import type { Machine } from '../state/machine.ts';
import { type ChrootOptions, runInChroot } from './chroot.ts';

/** Lines of a file that a command finds in its own /run. */
export type OwnFiles = Readonly<Record<string, readonly string[]>>;

/** Passes the lines as arguments to a constant shell script that writes them, so they are never parsed as code. */
export function withFiles(files: OwnFiles, argv: readonly string[]): string[] {
  const given = Object.entries(files).flatMap(([path, lines]) => [path, String(lines.length), ...lines]);
  if (given.length === 0) return [...argv];
  const program =
    'while [ "$1" != -- ]; do file=$1 n=$2; shift 2; mkdir -p "$(dirname "$file")"; ' +
    'while [ "$n" -gt 0 ]; do printf "%s\\n" "$1"; shift; n=$((n-1)); done >"$file"; done; shift; exec "$@"';
  return ['sh', '-c', program, 'sh', ...given, '--', ...argv];
}

/** A command that apt runs by itself, such as that of apt-listbugs, by the list of apt.conf(5) that has it. */
export interface AptHook {
  readonly list: string;
  readonly command: string;
}

/** The hook that has failed, by what apt wrote. Pure. */
export function failedHook(output: string): AptHook | undefined {
  const [, list, command] = /^E: Problem executing scripts ([\w:-]+) '(.*)'$/m.exec(output) ?? [];
  if (list !== undefined && command !== undefined) return { list, command };
  const [, script] = /^E: Failure running script (.*)$/m.exec(output) ?? [];
  return script === undefined ? undefined : { list: 'DPkg::Pre-Install-Pkgs', command: script };
}

/** The lists of commands in the output of {@link DUMP}. Pure. */
export function hooksIn(dump: string): AptHook[] {
  const rows = dump.split('\n').map(row => /^([\w-]+(?:::[\w-]+)+):: (.+)$/.exec(row));
  return rows.flatMap(m => (m?.[1] && m[2] ? [{ list: m[1], command: m[2] }] : []));
}

const DUMP = ['apt-config', 'dump', '--format', '%F %v%n'];

/** A file that empties lists of hooks, which options cannot do. */
const CLEARED = '/run/mayfly-apt.conf';

const isSame = (a: AptHook, b: AptHook): boolean =>
  a.list.toLowerCase() === b.list.toLowerCase() && a.command === b.command;

/** What leaves the hooks `without` out of a call of apt, and keeps those in `all` that are in the same lists. Pure. */
export function withoutHooks(
  all: readonly AptHook[],
  without: readonly AptHook[],
): { readonly files: OwnFiles; readonly options: readonly string[] } {
  if (without.length === 0) return { files: {}, options: [] };
  const lists = [...new Set(without.map(h => h.list))];
  const isIn = (h: AptHook): boolean => lists.some(list => list.toLowerCase() === h.list.toLowerCase());
  const kept = all.filter(h => isIn(h) && !without.some(w => isSame(w, h)));
  return {
    files: { [CLEARED]: lists.map(list => `#clear ${list};`) },
    options: ['-c', CLEARED, ...kept.flatMap(h => ['-o', `${h.list}::=${h.command}`])],
  };
}

/** Calls of apt-get(8) in one refresh. What is found out to be in the way is left out of all that follow. */
export interface AptRuns {
  /** Returns the output if it is read. Throws `command` with apt's reason. */
  run(args: readonly string[], read?: boolean): Promise<string>;
  /** Uses these files and options from now on instead of the sources of the copy. */
  useSources(files: OwnFiles, options: readonly string[]): void;
  /** The options of all calls, without those for sources and hooks. */
  readonly options: readonly string[];
}

/** `warn` gets a line for each hook that is left out. */
export function aptRuns(on: Machine, o: ChrootOptions, options: readonly string[]): AptRuns {
  let sources: { files: OwnFiles; options: readonly string[] } = { files: {}, options: [] };
  let hooks: readonly AptHook[] = [];
  const without: AptHook[] = [];
  const once = async (args: readonly string[], read: boolean): Promise<string> => {
    const less = withoutHooks(hooks, without);
    const argv = ['apt-get', ...less.options, ...options, ...sources.options, ...args];
    const out = await runInChroot(on, o, withFiles({ ...less.files, ...sources.files }, argv), {
      read,
      name: ['apt-get', ...args].join(' '), // without the options, which would hide the reason of a failure
    });
    return out.stdout;
  };
  return {
    options,
    useSources: (files, more) => {
      sources = { files, options: more };
    },
    async run(args, read = false) {
      for (;;) {
        try {
          return await once(args, read);
        } catch (error) {
          const hook = error instanceof MayflyError && failedHook(String(error.facts.stderr));
          if (!hook || without.some(h => isSame(h, hook))) throw error;
          // What it did not do is no reason to go without security fixes: the result is checked like every other.
          hooks = hooksIn((await runInChroot(on, o, DUMP, { read: true })).stdout);
          if (!hooks.some(h => isSame(h, hook))) throw error;
          without.push(hook);
          const file = await fileOf(on, o, hook.command);
          o.warn(`a hook of apt has failed and is left out: ${hook.list} "${hook.command}"${file}`);
        }
      }
    },
  };
}

/** The file that has the hook, as text for a message. */
async function fileOf(on: Machine, o: ChrootOptions, command: string): Promise<string> {
  const argv = ['grep', '-rlF', '-e', command, '--', '/etc/apt/apt.conf.d', '/etc/apt/apt.conf'];
  try {
    const { stdout } = await runInChroot(on, o, argv, { read: true, okCodes: [0, 1, 2] });
    const file = stdout.split('\n')[0] ?? '';
    return file === '' ? '' : ` in ${file}`;
  } catch (error) {
    o.onLine(reasonOf(error));
    return '';
  }
}
