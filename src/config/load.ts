/**
 * The quick way to the configuration. Reading and checking TOML costs tens of milliseconds, so the checked value is
 * kept as JSON and used while no source file has changed.
 */

import type { Host } from '../linux/host.ts';
import { type Config, DEFAULT_CONFIG_FILE, SYSTEM_RUN, VERSION } from './config.ts';

declare const MAYFLY_BUILD: string;

/** Changes whenever the reading of the configuration does: a value cached by another build is not ours. */
const BUILD = typeof MAYFLY_BUILD === 'undefined' ? 'dev' : MAYFLY_BUILD;

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
  return file === DEFAULT_CONFIG_FILE ? `${SYSTEM_RUN}/config.json` : `${file}.cache`;
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
  const { withDefaults: completed, readConfig } = await import('./parse.ts');
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
      if (file === DEFAULT_CONFIG_FILE) host.mkdir(SYSTEM_RUN, 0o755);
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
