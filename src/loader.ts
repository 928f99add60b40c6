/**
 * The file that node starts. It runs the program and caches its compiled code, because compiling takes longer than most
 * of what a hook does. V8 accepts the cache (vm.Script, `cachedData`) if its version and the source are the same, and
 * compiles as usual otherwise. The cache is beside the program or in /var/cache/mayfly, where only root can write, so it
 * is trusted like the program itself. Its name contains a digest of the source.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { Script } from 'node:vm';

declare const MAYFLY_DIGEST: string;

/**
 * Loads a built-in module; the program uses it, too. `require` can also load files, and node has to compile the code for
 * that first, which takes longer than the built-in modules themselves. Before Node 20.16 there is only `require`.
 */
const load = (id: string) => process.getBuiltinModule?.(id) ?? require(id);

const { closeSync, constants, fsyncSync, openSync, readFileSync, readvSync, renameSync, writeFileSync } =
  load('node:fs') as typeof import('node:fs');

const { Script } = load('node:vm') as typeof import('node:vm');

const program = `${__dirname}/hot.js`;

const action = process.argv[2] === 'hook' ? process.argv[4] : undefined;

const known = action === 'start' || action === 'stop';

// Start, stop and dry runs use different functions, and a cache has only the functions that have run: see keepCode.
const kind = process.argv.includes('--dry-run') ? `${action}-dry-run` : action;

const directory = __dirname.startsWith('/usr/') ? '/var/cache/mayfly' : __dirname;

/** In bytes: one and a half times the size of the program's code. A larger cache is not used. */
const LARGEST_CACHE = 160 * 1024;

const path = `${directory}/${MAYFLY_DIGEST}-${process.version}-${kind}.code`;

/** Reads the cache. Only root can have written it, because only root can write to its directory. */
function readCache(): Uint8Array | undefined {
  if (!known) return undefined;
  try {
    // A single read, with the fewest functions that node has to compile first: readFileSync also determines the size,
    // and readSync checks each argument.
    const buffer = new Uint8Array(LARGEST_CACHE);
    const fd = openSync(path, constants.O_RDONLY);
    const length = readvSync(fd, [buffer]);
    closeSync(fd);
    return length < LARGEST_CACHE ? buffer.subarray(0, length) : undefined;
  } catch {
    return undefined; // there is no cache yet
  }
}

/** Writes the cache atomically, because V8 might accept a truncated one. */
function writeCache(data: Buffer): void {
  try {
    const part = `${path}.${process.pid}.tmp`;
    const fd = openSync(part, 'wx', 0o600);
    try {
      writeFileSync(fd, data);
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

script.runInThisContext()(require, () => {
  if (wanted) process.on('exit', () => writeCache(script.createCachedData()));
});
