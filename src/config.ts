/**
 * The configuration as one frozen value, and the quick way to it. Reading and checking TOML costs tens of
 * milliseconds, so the checked value is kept as JSON and used while no source file has changed.
 */
import type { Host } from './host.ts';
import { DIGITS, isMadeOf } from './ids.ts';
import type { BackendKind, FileSystem } from './volume/backend.ts';

declare const MAYFLY_VERSION: string;
declare const MAYFLY_BUILD: string;
export const VERSION = typeof MAYFLY_VERSION === 'undefined' ? '0.0.0-dev' : MAYFLY_VERSION;
/** Changes whenever the reading of the configuration does: a value cached by another build is not ours. */
const BUILD = typeof MAYFLY_BUILD === 'undefined' ? 'dev' : MAYFLY_BUILD;

export const DEFAULT_CONFIG_FILE = '/etc/mayfly/mayfly.toml';

/** Field names are those of the file: one name per thing. */
export interface Config {
  /** The file it was read from, and the files in `conf.d` beside it. */
  readonly files: readonly string[];
  /** Where the file is; `refresh.d` and `checks.d` are beside it. */
  readonly directory: string;
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly min_uid: number;
  readonly on_failure: 'refuse' | 'host';
  readonly root_users: readonly string[];
  readonly sudo: readonly string[];
  readonly ephemeral_home: readonly string[];
  readonly pool: {
    readonly backend: BackendKind;
    readonly path: string;
    readonly image_size: string;
  };
  readonly overlay: { readonly upper: 'disk' | 'tmpfs'; readonly size: string };
  readonly lvm: {
    readonly group: string;
    readonly name: string;
    readonly fs: FileSystem;
    readonly pool_size: string;
    readonly volume_size: string;
    readonly cow_size: string;
    readonly max_used_percent: number;
    readonly warn_percent: number;
  };
  readonly home: { readonly size: string };
  readonly admission: { readonly max_used_percent: number; readonly min_free: string };
  readonly hook: { readonly timeout: number };
  readonly logout: {
    readonly grace: number;
    readonly kill_timeout: number;
    readonly on_stuck: 'keep' | 'reboot';
  };
  readonly mounts: {
    readonly run_size: string;
    readonly rbind: readonly string[];
    readonly bind: readonly string[];
  };
  readonly identity: { readonly copy: readonly string[] };
  readonly init: { readonly suite: string; readonly packages: readonly string[] };
  readonly update: {
    readonly command: readonly string[];
    readonly upgrade: 'full' | 'safe';
    readonly packages: readonly string[];
    readonly protect: readonly string[];
    readonly conffiles: 'keep' | 'replace';
    readonly proxy: string;
    readonly sources: readonly string[];
    readonly timeout: number;
    readonly keep: number;
    readonly max_used_percent: number;
    readonly on_battery: 'skip' | 'run';
    readonly on_metered: 'skip' | 'run';
  };
  readonly check: {
    readonly user: string;
    readonly command: readonly string[];
    readonly timeout: number;
    readonly demote_after: number;
  };
  readonly greeter: { readonly host_sessions: 'staff' | 'hide' };
  readonly host: {
    readonly update: 'off' | 'unattended-upgrades' | 'command';
    readonly command: readonly string[];
    readonly reboot: 'never' | 'idle';
  };
  readonly directories: { readonly state: string; readonly run: string; readonly schroot: string };
}

interface Cache {
  readonly key: string;
  readonly config: Config;
}

/** What the cached value depends on: our build, and name, inode, size and time of every source file. */
export function cacheKey(host: Host, file: string): string {
  const directory = `${file.slice(0, file.lastIndexOf('/'))}/conf.d`;
  const parts = host.list(directory).filter(name => name.endsWith('.toml'));
  const rows = [file, ...parts.map(name => `${directory}/${name}`)].map(path => {
    const s = host.stat(path);
    return s ? [path, s.ino, s.size, s.mtimeMs] : [path];
  });
  return JSON.stringify([VERSION, BUILD, rows]);
}

/** Beside a file given with `--config`; in /run for the default, since /etc may be read-only. */
export function cachePath(file: string): string {
  return file === DEFAULT_CONFIG_FILE ? '/run/mayfly/config.json' : `${file}.cache`;
}

/**
 * The validated configuration; `file` has an absolute path. The default one need not exist: everything has a default.
 * Throws `config` with file, line and what is expected there, or where another file does not exist; with `lastGood` a
 * file that is wrong now is passed over for what was in force before, so that a slip of the pen loses no logout.
 */
export async function loadConfig(host: Host, file = DEFAULT_CONFIG_FILE, lastGood = false): Promise<Config> {
  const key = cacheKey(host, file);
  const before = readCache(host, file);
  if (before?.key === key) return before.config;
  const { withDefaults: completed, readConfig } = await import('./config-load.ts');
  let config: Config;
  try {
    config = readConfig(host, file);
  } catch (error) {
    if (lastGood && before) return completed(file, before.config);
    throw error;
  }
  if (process.getuid?.() === 0) {
    const text = JSON.stringify({ key, config } satisfies Cache);
    try {
      if (file === DEFAULT_CONFIG_FILE) host.mkdir('/run/mayfly', 0o755);
      host.write(cachePath(file), text, { mode: 0o600 });
    } catch {
      // A cache that cannot be written (read-only medium) costs time, nothing else.
    }
  }
  return config;
}

/** What is cached, for the files as they are or as they were before; undefined where nothing is that can be believed. */
export function readCache(host: Host, file: string): Cache | undefined {
  const path = cachePath(file);
  const there = host.lstat(path);
  // Only a file that nobody but we could have written is believed: it decides what root does.
  const own = there?.kind === 'file' && there.uid === (process.getuid?.() ?? 0) && (there.mode & 0o022) === 0;
  const text = own ? host.read(path) : undefined;
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Cache);
  } catch {
    return undefined; // cut short by a power cut: read the sources again
  }
}

/**
 * Percent of a pool above which people are warned, and above which nobody new is let in. A thin pool must never be
 * full, whoever fills it: that hurts all who are in it.
 */
export function limitsOf(
  config: Config,
  backend: BackendKind,
): { readonly warn: number; readonly full: number } {
  if (backend === 'lvm-thin') return { warn: config.lvm.warn_percent, full: config.lvm.max_used_percent };
  return { warn: config.update.max_used_percent, full: config.admission.max_used_percent };
}

/** Bytes of a size, or of a part of `whole` such as "20%". */
export function bytesOf(size: string, whole: number): number {
  return size.endsWith('%') ? Math.floor((whole * Number(size.slice(0, -1))) / 100) : parseSize(size);
}

/** Bytes of "512M", "10G", "1T", "4096". The configuration check has already refused anything else. */
export function parseSize(text: string): number {
  const power = 'KMGT'.indexOf(text.slice(-1)) + 1;
  const number = power > 0 ? text.slice(0, -1) : text;
  if (number === '' || !isMadeOf(number, `${DIGITS}.`)) return Number.NaN;
  return Math.floor(Number(number) * 1024 ** power);
}
