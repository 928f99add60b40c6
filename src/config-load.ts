/** Reads and checks the TOML sources. Loaded only when a source changed: zod and the parser are slow to start. */
import { parse, TomlError } from 'smol-toml';
import * as z from 'zod';
import type { Config } from './config.ts';
import { MayflyError } from './errors.ts';
import type { Host } from './host.ts';

const size = z.string().regex(/^\d+(\.\d+)?[KMGT]?$/, 'a size such as "512M" or "10G"');
const sizeOrPercent = z
  .string()
  .regex(/^(\d+(\.\d+)?[KMGT]?|\d{1,3}%)$/, 'a size such as "2G", or a part of the memory such as "50%"');
/** Kept plain so that no option string of mount(8), fstab line or schroot file ever needs quoting. */
const path = z
  .string()
  .regex(
    /^(\/[A-Za-z0-9_@+][A-Za-z0-9_.@+-]*)+$/,
    'an absolute path of letters, digits and "_ . @ + -", without ".."',
  );
const member = z.string().regex(/^(\*|@?[^@\s:,/-][^\s:,/]*)$/, 'a user name, "@group" or "*"');
const seconds = z.number().min(0).max(3600);
/** One argument of a command; no shell reads it. */
const word = z.string().regex(/^[^\0\n]+$/, 'a word of a command');
const packageName = z.string().regex(/^[a-z0-9][a-z0-9+.-]+$/, 'a Debian package name');

/** A recursive bind copies every mount below it, in every session; only where mounts come and go is that wanted. */
const DEFAULT_RBIND = ['/home', '/media', '/run/user'];
const DEFAULT_BIND = [
  '/proc',
  '/sys',
  '/sys/fs/cgroup',
  '/dev',
  '/dev/pts',
  '/dev/shm',
  '/dev/mqueue',
  '/tmp',
  '/var/tmp',
  '/run/dbus',
  '/run/systemd/journal',
  '/run/systemd/users',
  '/run/systemd/sessions',
  '/run/systemd/seats',
  '/run/systemd/notify',
  '/run/systemd/userdb',
  '/run/systemd/resolve',
  '/run/udev',
  '/run/cups',
  '/run/pcscd',
  '/run/avahi-daemon',
  '/run/nscd',
  '/run/nslcd',
  '/var/lib/sss/pipes',
];

/** The schema is the list of all options with their defaults; `config/mayfly.toml` says the same to people. */
const schema = z.strictObject({
  include: z.array(member).default(['*']),
  exclude: z.array(member).default(['root']),
  min_uid: z.int().min(0).max(4294967294).default(1000),
  on_failure: z.enum(['refuse', 'host']).default('refuse'),
  root_users: z.array(member).default([]),
  sudo: z.array(member).default([]),
  ephemeral_home: z.array(member).default([]),
  pool: z
    .strictObject({
      backend: z.enum(['overlay', 'btrfs']).default('overlay'),
      path: path.default('/var/lib/mayfly/pool'),
      image_size: size.default('16G'),
    })
    .prefault({}),
  overlay: z
    .strictObject({ upper: z.enum(['disk', 'tmpfs']).default('disk'), size: sizeOrPercent.default('50%') })
    .prefault({}),
  home: z.strictObject({ size: sizeOrPercent.default('25%') }).prefault({}),
  admission: z
    .strictObject({
      max_used_percent: z.number().min(1).max(100).default(95),
      min_free: size.default('512M'),
    })
    .prefault({}),
  hook: z.strictObject({ timeout: z.number().min(1).max(3600).default(30) }).prefault({}),
  logout: z
    .strictObject({
      grace: seconds.default(0.3),
      kill_timeout: seconds.default(10),
      on_stuck: z.enum(['keep', 'reboot']).default('keep'),
    })
    .prefault({}),
  mounts: z
    .strictObject({
      run_size: sizeOrPercent.default('20%'),
      rbind: z.array(path).default(DEFAULT_RBIND),
      bind: z.array(path).default(DEFAULT_BIND),
    })
    .prefault({}),
  identity: z
    .strictObject({ copy: z.array(path).default(['/etc/hosts', '/etc/hostname', '/etc/resolv.conf']) })
    .prefault({}),
  init: z
    .strictObject({
      suite: z
        .string()
        .regex(/^([a-z][a-z0-9.-]*)?$/, 'the name of a Debian release, or "" for the one this machine runs')
        .default(''),
      packages: z.array(packageName).default([]),
    })
    .prefault({}),
  update: z
    .strictObject({
      command: z.array(word).default([]),
      upgrade: z.enum(['full', 'safe']).default('full'),
      packages: z.array(packageName).default([]),
      protect: z.array(packageName).default(['apt', 'bash', 'dpkg', 'libpam-modules', 'login', 'passwd']),
      conffiles: z.enum(['keep', 'replace']).default('keep'),
      proxy: z
        .string()
        .regex(/^(https?:\/\/[^\s"';]+)?$/, 'the address of a proxy, such as "http://proxy:3128", or ""')
        .default(''),
      sources: z
        .array(
          z.string().regex(/^deb(-src)? [^\n]+$/, 'a line of sources.list(5), such as "deb URI SUITE main"'),
        )
        .default([]),
      timeout: z.number().min(1).max(86400).default(7200),
      keep: z.int().min(1).max(1000).default(3),
      max_used_percent: z.number().min(1).max(100).default(85),
      on_battery: z.enum(['skip', 'run']).default('skip'),
      on_metered: z.enum(['skip', 'run']).default('skip'),
    })
    .prefault({}),
  greeter: z.strictObject({ host_sessions: z.enum(['staff', 'hide']).default('staff') }).prefault({}),
  check: z
    .strictObject({
      user: z
        .string()
        .regex(/^[^@\s:,/-][^\s:,/]*$/, 'a user name')
        .default('nobody'),
      command: z.array(word).min(1, 'a command').default(['/bin/true']),
      timeout: z.number().min(1).max(86400).default(300),
      demote_after: z.int().min(0).max(1000).default(3),
    })
    .prefault({}),
  host: z
    .strictObject({
      update: z.enum(['off', 'unattended-upgrades', 'command']).default('off'),
      command: z.array(word).default([]),
      reboot: z.enum(['never', 'idle']).default('never'),
    })
    .prefault({}),
  directories: z
    .strictObject({
      state: path.default('/var/lib/mayfly'),
      run: path.default('/run/mayfly'),
      schroot: path.default('/etc/schroot/chroot.d'),
    })
    .prefault({}),
});

type Table = Record<string, unknown>;

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Later files win, table by table and key by key. */
function merge(into: Table, from: Table): Table {
  const out: Table = { ...into };
  for (const [key, value] of Object.entries(from)) {
    const old = out[key];
    out[key] = isTable(old) && isTable(value) ? merge(old, value) : value;
  }
  return out;
}

/** Line (from 1) on which the key at `keys` stands in `text`; the table's own line, or 1, where it cannot be told. */
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

function closest(word: string, known: readonly string[]): string | undefined {
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
  const near = known.map(k => ({ k, d: distance(word, k) })).sort((x, y) => x.d - y.d)[0];
  return near && near.d <= Math.max(2, word.length / 3) ? near.k : undefined;
}

/** The option names of the table at `keys`. */
function knownAt(keys: readonly PropertyKey[]): string[] {
  let at: unknown = schema.parse({});
  for (const key of keys) at = isTable(at) ? at[String(key)] : undefined;
  return isTable(at) ? Object.keys(at) : [];
}

function complain(file: string, text: string, issue: z.core.$ZodIssue): never {
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    const where = [...issue.path.map(String), key];
    const near = closest(key, knownAt(issue.path));
    const hint = near ? `did you mean "${near}"?` : `known here: ${knownAt(issue.path).join(', ')}`;
    fail(file, lineOf(text, where), `unknown option "${where.join('.')}"`, hint);
  }
  const where = issue.path.filter(p => typeof p === 'string').map(String);
  const message = issue.message.replace(/^Invalid (input|option): /, '');
  fail(
    file,
    lineOf(text, where),
    `"${where.join('.')}" is not valid: ${message}`,
    'the shipped file shows every option with its default',
  );
}

function fail(file: string, line: number, what: string, hint: string): never {
  throw new MayflyError('config', `${file}:${line}: ${what}`, { file, line, hint });
}

/** Reads `file` and `conf.d/*.toml` beside it, in order of name. A file that is not there is an empty one. */
export function readConfig(host: Host, file: string): Config {
  const directory = `${file.slice(0, file.lastIndexOf('/'))}/conf.d`;
  const parts = host.list(directory).filter(name => name.endsWith('.toml'));
  const files: string[] = [];
  let table: Table = {};
  for (const source of [file, ...parts.map(name => `${directory}/${name}`)]) {
    const text = host.read(source);
    if (text === undefined) continue;
    files.push(source);
    table = merge(table, check(source, text));
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
    fail(file, 1, '"host.update" is "command", but "host.command" is empty', 'name the command');
  }
  return Object.freeze({ ...config, files, directory: file.slice(0, file.lastIndexOf('/')) });
}

/** Checks one source on its own, so that an error names the file it is in. */
function check(file: string, text: string): Table {
  let table: Table;
  try {
    table = parse(text) as Table;
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const what = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? '';
    fail(file, error.line, `not valid TOML: ${what}`, 'strings stand in quotes, lists in [ ]');
  }
  const issue = schema.safeParse(table).error?.issues[0];
  if (issue) complain(file, text, issue);
  return table;
}
