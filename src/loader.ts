/**
 * What node starts: runs the program proper, whose compiled code it keeps. Compiling takes a hook longer than most of
 * what it does, and V8 can take up its own result instead (vm.Script, `cachedData`), if it is the very same V8 and
 * source; otherwise it compiles as ever. The cache is root's, beside the program or in /var/cache/mayfly, named
 * after a digest of the source, and is believed like the program itself.
 */
declare const MAYFLY_DIGEST: string;

/**
 * For the program, too: `require` finds files as well, and node has to compile all that finding of them first, for
 * which it takes longer than for the modules of its own. (Older than Node 20.16: it is all there is.)
 */
const load = (id: string) => process.getBuiltinModule?.(id) ?? require(id);

const { closeSync, constants, fsyncSync, openSync, readFileSync, readvSync, renameSync, writeFileSync } =
  load('node:fs') as typeof import('node:fs');

const { Script } = load('node:vm') as typeof import('node:vm');

const program = `${__dirname}/hot.js`;

const action = process.argv[2] === 'hook' ? process.argv[4] : undefined;

const known = action === 'start' || action === 'stop';

// Start, stop and a dry run use different functions, and only what has run is in the cache: see keepCode.
const kind = process.argv.includes('--dry-run') ? `${action}-dry-run` : action;

const directory = __dirname.startsWith('/usr/') ? '/var/cache/mayfly' : __dirname;

/** Bytes; half as much again as the program's code takes. A larger one is not used. */
const LARGEST_CACHE = 160 * 1024;

const path = `${directory}/${MAYFLY_DIGEST}-${process.version}-${kind}.code`;

/** Only root can have written it: the directory is as much root's as the program beside it. */
function readCache(): Uint8Array | undefined {
  if (!known) return undefined;
  try {
    // In one gulp, with the fewest functions that node has to compile first: readFileSync asks for the size, readSync
    // looks closely at each argument.
    const buffer = new Uint8Array(LARGEST_CACHE);
    const fd = openSync(path, constants.O_RDONLY);
    const length = readvSync(fd, [buffer]);
    closeSync(fd);
    return length < LARGEST_CACHE ? buffer.subarray(0, length) : undefined;
  } catch {
    return undefined; // not there yet
  }
}

/** Whole or not at all: a cut cache is code, too. */
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
    // A directory that is missing or read-only costs milliseconds at each login, nothing else.
  }
}

const cachedData = readCache();

const script = new Script(readFileSync(program, 'utf8'), {
  filename: program,
  ...(cachedData ? { cachedData } : {}),
});

const wanted = known && (cachedData === undefined || script.cachedDataRejected) && process.getuid?.() === 0;

script.runInThisContext()(load, () => {
  if (wanted) process.on('exit', () => writeCache(script.createCachedData()));
});
