/**
 * Loading the configuration through a cache. Parsing and checking TOML takes tens of milliseconds, so the checked value
 * is cached as JSON and used as long as no source file has changed.
 */

import { MayflyError, reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { type Config, DEFAULT_CONFIG_FILE, SYSTEM_RUN, SYSTEM_STATE, VERSION } from './config.ts';

declare const MAYFLY_BUILD: string;

/** Identifies the build: a value cached by another build is not used, because it may have read the files differently. */
const BUILD = typeof MAYFLY_BUILD === 'undefined' ? 'dev' : MAYFLY_BUILD;

interface Cache {
  readonly key: string;
  readonly config: Config;
}

/** What the cached value depends on: our build, and name, inode, size and modification time of every source file. */
export function cacheKey(host: Host, file: string): string {
  const directory = `${file.slice(0, file.lastIndexOf('/'))}/conf.d`;
  const parts = host.list(directory).filter(name => name.endsWith('.toml'));
  const rows = [file, ...parts.map(name => `${directory}/${name}`)].map(path => {
    const s = host.stat(path);
    return s ? [path, s.ino, s.size, s.mtimeMs] : [path];
  });
  return JSON.stringify([VERSION, BUILD, rows]);
}

/** The path of the cache: beside a file given with `--config`; in /run for the default, because /etc may be read-only. */
export function cachePath(file: string): string {
  return file === DEFAULT_CONFIG_FILE ? `${SYSTEM_RUN}/config.json` : `${file}.cache`;
}

/** A copy of the default file's cache that outlives a restart of the machine, for {@link loadConfig} with `lastGood`. */
export const LAST_GOOD = `${SYSTEM_STATE}/config.json`;

/** Who is in scope, for polkit's rule about lingering; unlike the configuration, everybody can read it. */
export const scopePath = `${SYSTEM_RUN}/scope.json`;

/**
 * Loads and checks the configuration; `file` is an absolute path. The default file need not exist, because every option
 * has a default. Throws `config` with file, line and what is expected there, and for another file that does not exist.
 * With `lastGood`, the last valid configuration replaces an invalid one, so that a typing mistake prevents no login and no
 * logout; its `invalid` says so.
 */
export async function loadConfig(host: Host, file = DEFAULT_CONFIG_FILE, lastGood = false): Promise<Config> {
  const key = cacheKey(host, file);
  const before = readCache(host, cachePath(file));
  if (before?.key === key) return before.config;
  const { withDefaults: completed, readConfig } = await import('./parse.ts');
  let config: Config;
  try {
    config = readConfig(host, file);
  } catch (error) {
    const good = lastGood ? lastValid(host, file) : undefined;
    if (!good) throw error;
    return Object.freeze({ ...completed(file, good), invalid: whyInvalid(error) });
  }
  if (process.getuid?.() === 0) {
    const text = JSON.stringify({ key, config } satisfies Cache);
    try {
      if (file === DEFAULT_CONFIG_FILE) {
        const { include, exclude, min_uid } = config;
        host.mkdir(SYSTEM_RUN, 0o755);
        host.write(scopePath, JSON.stringify({ include, exclude, min_uid }), { mode: 0o644, cache: true });
      }
      host.write(cachePath(file), text, { mode: 0o600 });
      // At each boot the cache is made anew, and this is as it was.
      if (file === DEFAULT_CONFIG_FILE && host.exists(SYSTEM_STATE) && host.read(LAST_GOOD) !== text)
        host.write(LAST_GOOD, text, { mode: 0o600, durable: true });
    } catch {
      // Without a cache (on a read-only medium) only time is lost.
    }
  }
  return config;
}

/** The reason and the hint of an error that {@link loadConfig} has thrown, in one line. */
export function whyInvalid(error: unknown): string {
  const hint = error instanceof MayflyError && error.facts.hint ? ` (${error.facts.hint})` : '';
  return reasonOf(error) + hint;
}

/** The last configuration that was valid, also before the machine was restarted; undefined if there is none. */
export function lastValid(host: Host, file: string): Config | undefined {
  const kept = file === DEFAULT_CONFIG_FILE ? readCache(host, LAST_GOOD) : undefined;
  return (readCache(host, cachePath(file)) ?? kept)?.config;
}

/** A cached configuration, which may be older than the files; undefined if there is none that can be trusted. */
export function readCache(host: Host, path: string): Cache | undefined {
  const there = host.lstat(path);
  // The cache decides what root does, so it is only trusted if no other user could have written it.
  const trusted =
    there?.kind === 'file' && there.uid === (process.getuid?.() ?? 0) && (there.mode & 0o022) === 0;
  const text = trusted ? host.read(path) : undefined;
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Cache);
  } catch {
    return undefined; // truncated, for example by a power cut: read the sources again
  }
}
