/**
 * What node starts: runs the program proper, whose compiled code it keeps. Compiling takes a hook longer than most of
 * what it does, and V8 can take up its own result instead (vm.Script, `cachedData`), if it is the very same V8 and
 * source; otherwise it compiles as ever. The cache is root's, beside the program or in /var/cache/mayfly, named
 * after a digest of the source, and is believed like the program itself.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { Script } from 'node:vm';

declare const MAYFLY_DIGEST: string;

const program = `${__dirname}/hot.js`;

const action = process.argv[2] === 'hook' ? process.argv[4] : undefined;

const known = action === 'start' || action === 'stop';

/**
 * Start, stop and a dry run use different functions, and only what has run is in the cache: see keepCode. Without one
 * a dry run takes 18 % more CPU time, with a login's 1.5 %; a logout 16 % and 6 % (medians of 60 interleaved runs).
 */
const kind = process.argv.includes('--dry-run') ? `${action}-dry-run` : action;

const directory = __dirname.startsWith('/usr/') ? '/var/cache/mayfly' : __dirname;

const path = `${directory}/${MAYFLY_DIGEST}-${process.version}-${kind}.code`;

/** Only root can have written it: the directory is as much root's as the program beside it. */
function readCache(): Uint8Array | undefined {
  if (!known) return undefined;
  try {
    return readFileSync(path);
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

script.runInThisContext()(require, () => {
  if (wanted) process.on('exit', () => writeCache(script.createCachedData()));
});
