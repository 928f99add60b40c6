/** Reads and checks the TOML files. Only loaded if a file has changed, because zod and the parser are slow to start. */

import { parse, stringify, TomlError } from 'smol-toml';
import type * as z from 'zod';
import { isErrno, MayflyError, reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { type Config, DEFAULT_CONFIG_FILE } from './config.ts';
import { schema } from './schema.ts';

type Table = Record<string, unknown>;

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Merges tables recursively; values of `from` replace those of `into`. */
function merge(into: Table, from: Table): Table {
  const out: Table = { ...into };
  for (const [key, value] of Object.entries(from)) {
    const old = out[key];
    out[key] = isTable(old) && isTable(value) ? merge(old, value) : value;
  }
  return out;
}

/** The line, from 1, of the key `keys` in `text`. If the key is not found: the line of its table, or 1. */
export function lineOf(text: string, keys: readonly string[]): number {
  const want = keys.map(String).join('.');
  const plain = (part: string) =>
    part
      .split('.')
      .map(p => p.trim().replace(/^["']|["']$/g, ''))
      .join('.');
  let table = '';
  let best = 1;
  for (const [index, line] of text.split('\n').entries()) {
    const header = /^\s*\[+\s*([^\]]+?)\s*\]+/.exec(line);
    if (header) table = plain(header[1] ?? '');
    const key = header ? undefined : /^\s*("[^"]*"|'[^']*'|[A-Za-z0-9_.-]+)\s*=/.exec(line)?.[1];
    const here = key === undefined ? table : [table, plain(key)].filter(Boolean).join('.');
    if (here === want) return index + 1;
    if (here !== '' && want.startsWith(`${here}.`)) best = index + 1;
  }
  return best;
}

/** The known name that is most similar to `name`, by edit distance; undefined if none is similar. */
function closest(name: string, known: readonly string[]): string | undefined {
  const distance = (a: string, b: string): number => {
    let row = Array.from({ length: b.length + 1 }, (_, i) => i);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        next[j] = Math.min(
          (next[j - 1] ?? 0) + 1,
          (row[j] ?? 0) + 1,
          (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
        );
      }
      row = next;
    }
    return row[b.length] ?? 0;
  };
  const near = known.map(k => ({ k, d: distance(name, k) })).sort((x, y) => x.d - y.d)[0];
  return near && near.d <= Math.max(1, name.length / 3) ? near.k : undefined;
}

/** The option names of the table at `keys`. */
function knownAt(keys: readonly PropertyKey[]): string[] {
  let at: unknown = schema.parse({});
  for (const key of keys) at = isTable(at) ? at[String(key)] : undefined;
  return isTable(at) ? Object.keys(at) : [];
}

function failIssue(file: string, text: string, issue: z.core.$ZodIssue): never {
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    const where = [...issue.path.map(String), key];
    const near = closest(key, knownAt(issue.path));
    const hint = near ? `did you mean "${near}"?` : `valid options: ${knownAt(issue.path).join(', ')}`;
    fail(file, lineOf(text, where), `unknown option "${where.join('.')}"`, hint);
  }
  const where = issue.path.filter(p => typeof p === 'string').map(String);
  fail(file, lineOf(text, where), `invalid "${where.join('.')}": ${issue.message}`, 'man mayfly.toml');
}

const KINDS: Readonly<Record<string, string>> = {
  object: 'expected a table: a line "[NAME]" followed by its options',
  array: 'expected a list in [ ]',
  string: 'expected a string in quotes',
  number: 'expected a number without quotes',
  int: 'expected an integer',
};

/** The message for an invalid value, if the schema has none; undefined leaves it to the library. */
function expected(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return KINDS[issue.expected];
    case 'invalid_value':
      return `expected one of ${issue.values.map(value => JSON.stringify(value)).join(', ')}`;
    case 'too_small':
      return `expected a number of at least ${issue.minimum}`;
    case 'too_big':
      return `expected a number of at most ${issue.maximum}`;
    default:
      return undefined;
  }
}

function fail(file: string, line: number, what: string, hint: string): never {
  throw new MayflyError('config', `${file}:${line}: ${what}`, { file, line, hint });
}

/** The text of a configuration file; undefined if there is none. Throws `config` if reading would fail or hang. */
function textOf(host: Host, source: string): string | undefined {
  let why: string;
  let hint = source.includes('/conf.d/') ? `mv ${source} ${source}.off` : `ls -l ${source}`;
  try {
    if (host.lstat(source) === undefined) return undefined;
    const kind = host.stat(source)?.kind;
    if (kind === 'file') return host.read(source);
    why = kind === 'dir' ? 'is a directory' : kind ? 'is not a file' : 'is a broken symlink';
  } catch (error) {
    why = `cannot be read: ${reasonOf(error)}`;
    if (isErrno(error, 'EACCES')) hint = `chmod o+r ${source}`;
  }
  throw new MayflyError('config', `"${source}" ${why}`, { file: source, hint });
}

/**
 * The last valid configuration, which another build may have cached: options that it did not know have their defaults.
 * Without `before`, all options have their defaults.
 */
export function withDefaults(file: string, before: Partial<Config> = {}): Config {
  const defaults = { ...schema.parse({}), files: [], directory: file.slice(0, file.lastIndexOf('/')) };
  return Object.freeze(merge(defaults, { ...before }) as unknown as Config);
}

/**
 * Reads and checks `file` and `conf.d/*.toml` beside it, in order of name. Only the default file may be missing: with
 * the defaults instead of another file, Mayfly would act on the wrong pool. Throws `config` with file, line and hint.
 */
export function readConfig(host: Host, file: string): Config {
  const directory = `${file.slice(0, file.lastIndexOf('/'))}/conf.d`;
  const parts = host.list(directory).filter(name => name.endsWith('.toml'));
  const files: string[] = [];
  let table: Table = {};
  for (const source of [file, ...parts.map(name => `${directory}/${name}`)]) {
    const text = textOf(host, source);
    if (text === undefined && source === file && file !== DEFAULT_CONFIG_FILE) {
      throw new MayflyError('config', `the configuration file "${file}" does not exist`, { file, line: 1 });
    }
    if (text === undefined) continue;
    files.push(source);
    table = merge(table, checkSource(source, text));
  }
  const config = schema.parse(table);
  const { state, run } = config.directories;
  if (config.directories.state === config.directories.run || state.startsWith(`${run}/`)) {
    fail(
      file,
      1,
      `"directories.state" (${state}) must not be in "directories.run" (${run}), which is emptied at boot`,
      'choose another directory',
    );
  }
  if (config.host.update === 'command' && config.host.command.length === 0) {
    fail(file, 1, '"host.update" is "command", but "host.command" is empty', 'set "host.command"');
  }
  return Object.freeze({ ...config, files, directory: file.slice(0, file.lastIndexOf('/')) });
}

/** Formats a configuration as a configuration file. */
export function toToml({ files, directory, ...options }: Config): string {
  return stringify(options);
}

/** Parses and checks a single file, so that errors name the right file. */
function checkSource(file: string, text: string): Table {
  let table: Table;
  try {
    table = parse(text) as Table;
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const what = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? '';
    fail(file, error.line, `invalid TOML: ${what}`, 'write strings in quotes and lists in [ ]');
  }
  const issue = schema.safeParse(table, { error: expected }).error?.issues[0];
  if (issue) failIssue(file, text, issue);
  return table;
}
