/**
 * The file that node starts. It runs the program and caches its compiled code, because compiling takes longer than most
 * of what a hook does. V8 accepts the cache (vm.Script, `cachedData`) if its version and the source are the same, and
 * compiles as usual otherwise. The cache is beside the program or in /var/cache/mayfly, where only root can write, so it
 * is trusted like the program itself. Its name contains a digest of the source.
 *
 * V8 does not notice a damaged cache, for example one with a page of zeros, and crashes. So the file holds the code
 * twice, and is used only if both halves are the same: comparing them takes a tenth of a millisecond, a digest two.
 * If a hook crashes all the same, its script runs it again with `--no-cache` as the last argument (hooks/run).
 */
import type * as fs from 'node:fs';
import type * as vm from 'node:vm';

declare const MAYFLY_DIGEST: string;

/** A module, without what require() does for others: 0.05 ms less for one that Node has built in (not in Node 18). */
const load = (name: string): unknown => process.getBuiltinModule?.(name) ?? require(name);

const { closeSync, fsyncSync, openSync, readFileSync, readvSync, renameSync, unlinkSync, writeFileSync } =
  load('node:fs') as typeof fs;
const { Script } = load('node:vm') as typeof vm;

const program = `${__dirname}/hot.js`;

const action = process.argv[2] === 'hook' ? process.argv[4] : undefined;

/** It reads the cache that logins have written, and writes none. */
const isAgent = process.argv[2] === 'agent';

const known = action === 'start' || action === 'stop';

const crashed = known && process.argv.at(-1) === '--no-cache';

if (crashed) process.argv.pop();

/**
 * Start, stop and dry runs use different functions, and a cache has only the functions that have run: see keepCode.
 * Without a cache a dry run takes 18 % more CPU time, with that of a login 1.5 %; a logout 16 % and 6 % (medians of 60
 * interleaved runs).
 */
const kind = isAgent ? 'start' : process.argv.includes('--dry-run') ? `${action}-dry-run` : action;

const directory = __dirname.startsWith('/usr/') ? '/var/cache/mayfly' : __dirname;

const path = `${directory}/${MAYFLY_DIGEST}-${process.version}-${kind}.code`;

/** More than a cache has (300 KiB). The kernel gives memory only to what is read into it. */
const ROOM = 1 << 20;

/**
 * Reads the cache, and removes one that is damaged or made a hook crash. Only root can have written it, because only
 * root can write to its directory.
 */
function readCache(): Uint8Array | undefined {
  if (!known && !isAgent) return undefined;
  try {
    const fd = openSync(path, 'r');
    const room = new Uint8Array(ROOM); // quicker than a Buffer, whose code Node compiles on first use
    let size: number;
    try {
      size = readvSync(fd, [room]); // a quarter quicker than readSync, which Node compiles on first use
    } finally {
      closeSync(fd);
    }
    const data = room.subarray(0, size >> 1);
    if (!crashed && size > 0 && Buffer.compare(data, room.subarray(data.length, size)) === 0) return data;
    unlinkSync(path);
  } catch {
    // There is no cache yet, or we may not remove it.
  }
  return undefined;
}

/** Writes the cache atomically, because V8 might accept a truncated one. */
function writeCache(data: Buffer): void {
  try {
    const part = `${path}.${process.pid}.tmp`;
    const fd = openSync(part, 'wx', 0o600);
    try {
      writeFileSync(fd, Buffer.concat([data, data]));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(part, path);
  } catch {
    // A missing or read-only directory only costs milliseconds at each login.
  }
}

const cachedData = readCache();

const script = new Script(readFileSync(program, 'utf8'), {
  filename: program,
  ...(cachedData ? { cachedData } : {}),
});

const wanted = known && (cachedData === undefined || script.cachedDataRejected) && process.getuid?.() === 0;

script.runInThisContext()(load, () => {
  if (wanted) writeCache(script.createCachedData());
});
