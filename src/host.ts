/**
 * The one gate to commands, files, processes and time. Nothing else in `src/` touches the system, so a dry run
 * (`dry-run.ts`) and a machine in memory that dies at call N (`test/world.ts`) are just other hosts.
 *
 * File operations are synchronous: a hook does a few dozen of them and each takes microseconds. Commands are
 * asynchronous, because one that hangs must not keep the hook from answering in time.
 */
import type { ChildProcess } from 'node:child_process';
// Named, one by one: a bundled "import *" copies every property of the module at each start.
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  type Stats,
  statfsSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { MayflyError } from './errors.ts';

/** A command as data. Arguments are an array: no shell ever reads them. */
export interface Command {
  /** Name of a program in {@link TOOL_PATH}. */
  readonly file: string;
  readonly args: readonly string[];
  /** A dry run performs `read` commands and only tells of `write` ones. */
  readonly effect: 'read' | 'write';
  /** Open file descriptors the child gets as 3, 4, …; it keeps a lock held for as long as it runs. */
  readonly fds?: readonly number[];
  /** A program whose output this one reads; if it fails, so does the whole. */
  readonly from?: Pick<Command, 'file' | 'args' | 'expect'>;
  /** Gets each line of stderr as it comes, for progress. */
  readonly onLine?: (line: string) => void;
  /** Resolves as soon as it runs; it goes on, with its descriptors, after we have ended. */
  readonly background?: boolean;
  /** What a dry run tells instead of the arguments, a line each, where those say nothing to people. */
  readonly says?: readonly string[];
  /** Exit codes that are an answer, not a failure. Default: 0 only. */
  readonly expect?: readonly number[];
}

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Stat {
  readonly kind: 'file' | 'dir' | 'link' | 'other';
  readonly dev: number;
  readonly ino: number;
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, as in 0o755. */
  readonly mode: number;
  readonly size: number;
  readonly mtimeMs: number;
}

/** Space of a file system, in bytes and inodes. */
export interface Space {
  readonly total: number;
  readonly free: number;
  readonly inodes: number;
  readonly freeInodes: number;
}

export interface WriteOptions {
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  /** fsync the file and its directory: for facts that must outlive a power cut. */
  readonly durable?: boolean;
}

export interface Host {
  /** Runs to the end, or rejects: `command` (exit code not expected), `missing-tool`, `timeout`. */
  run(command: Command): Promise<Output>;

  /**
   * Runs a program for the person at the terminal, with their terminal and environment, and returns its exit code.
   * `own` puts it into a process session of its own. Signals that ask us to stop are passed on to it.
   */
  interact(command: Pick<Command, 'file' | 'args'>, own: boolean): Promise<number>;

  /** The text of a file, symlinks followed; undefined where there is none. Below a session root, `lstat` first. */
  read(path: string): string | undefined;
  /** Names in a directory, sorted; none where there is no directory. */
  list(path: string): string[];
  lstat(path: string): Stat | undefined;
  /** Follows symlinks; the only way to ask about `/proc/PID/root`. Undefined where it cannot be had. */
  stat(path: string): Stat | undefined;
  /** Target of a symlink; undefined where there is none, or none may be read. */
  readlink(path: string): string | undefined;
  space(path: string): Space;
  /**
   * Temporary file, optional fsync, rename: readers see the old or the new text, never a part. A text that takes
   * work is given as a function; a dry run does not ask for it.
   */
  write(path: string, text: string | (() => string), options: WriteOptions): void;
  /** Replaces what stands at `path` by a symlink, by rename. */
  symlink(target: string, path: string, durable?: boolean): void;
  /** Makes a directory; one that is there already is success, anything else there is `unsafe`. */
  mkdir(path: string, mode: number): void;
  /** Makes an empty file to mount onto; one that is there already is success. */
  touch(path: string): void;
  /** Writes into an existing control file of the kernel (cgroup); false where the process or file is gone. */
  poke(path: string, text: string): boolean;
  rename(from: string, to: string): void;
  /** Absent is success. */
  unlink(path: string): void;
  /** Absent is success; not empty is an error. Never recursive: what is left below may be somebody's mount. */
  rmdir(path: string): void;
  /** fsync of a directory, so that what was renamed in it survives a power cut. */
  sync(path: string): void;

  /** Opens (and makes) a lock file and returns its descriptor. */
  openLock(path: string): number;
  close(fd: number): void;

  /** False where there is no such process. */
  kill(pid: number, signal: NodeJS.Signals): boolean;
  readonly pid: number;
  readonly ppid: number;
  sleep(ms: number): Promise<void>;
  /** Milliseconds since the epoch. */
  now(): number;
  /** `bytes` random bytes in hex. */
  random(bytes: number): string;

  /** Only in a dry run: from here on, reading below `path` reads below `instead`. */
  readonly pretend?: (path: string, instead: string) => void;
}

/** Where programs are looked for. The caller's PATH is never used: gdm's lacks sbin, a user's can be anything. */
export const TOOL_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/** The whole environment of every command. */
export const TOOL_ENV: NodeJS.ProcessEnv = { PATH: TOOL_PATH, LC_ALL: 'C.UTF-8', LANG: 'C.UTF-8' };

function absentIs<T>(value: T, names: readonly string[], act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof Error && 'code' in error && names.includes(String(error.code))) return value;
    throw error;
  }
}

function toStat(s: Stats): Stat {
  const kind = s.isFile() ? 'file' : s.isDirectory() ? 'dir' : s.isSymbolicLink() ? 'link' : 'other';
  const { dev, ino, uid, gid, size, mtimeMs } = s;
  return { kind, dev, ino, uid, gid, mode: s.mode & 0o7777, size, mtimeMs };
}

/**
 * Says a line on stdout (1) or stderr (2). Not by process.stdout: setting that up costs a hook a millisecond, and a
 * reader that went away would end a login or a teardown.
 */
export function say(fd: 1 | 2, text: string): void {
  absentIs(undefined, ['EPIPE', 'EAGAIN', 'EBADF', 'EIO'], () => writeFileSync(fd, text));
}

/** Hidden and dotted, so that neither schroot nor we take a half-written file for a whole one. */
export function temporaryName(path: string, tag: string | number): string {
  const slash = path.lastIndexOf('/');
  return `${path.slice(0, slash + 1)}.${path.slice(slash + 1)}.${tag}.tmp`;
}

function sync(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Asked first where absence is the rule: an error that is thrown costs many times what the question does. */
function absent(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) === undefined;
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** O_TMPFILE of open(2) on Linux: a file without a name, gone with its descriptor. Node does not name it. */
const O_TMPFILE = 0o20200000;

export function openUnnamed(): number {
  return openSync('/run', O_TMPFILE | constants.O_RDWR, 0o600);
}

/** What a failed command said on a descriptor of ours. */
function readBack(fd: number): string {
  const buffer = Buffer.alloc(16384);
  return buffer.toString('utf8', 0, readSync(fd, buffer, 0, buffer.length, 0));
}

function failure(c: Command, exit: number, signal: NodeJS.Signals | null, stderr: string): MayflyError {
  const how = signal ? `was killed by ${signal}` : `failed with exit code ${exit}`;
  const said = stderr.trim().split('\n').slice(0, 4).join('; ');
  const message = `"${c.file} ${c.args.join(' ')}" ${how}${said ? `: ${said}` : ''}`;
  return new MayflyError('command', message, { file: c.file, args: c.args, exitCode: exit, stderr });
}

/**
 * Waits for a child; past the deadline it is left to finish on its own, never killed (it may be in the middle of a
 * storage change). `errors` is a descriptor with what it says on stderr, where that is not a pipe.
 */
function finish(child: ChildProcess, c: Command, deadline: number, errors?: number): Promise<Output> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    const left = deadline - Date.now();
    const giveUp = (): void => {
      child.unref();
      for (const stream of child.stdio) stream?.destroy();
      const what = `"${c.file} ${c.args.join(' ')}" did not finish in time; it was left running`;
      reject(new MayflyError('timeout', what));
    };
    const timer = Number.isFinite(left) ? setTimeout(giveUp, Math.max(0, left)) : undefined;
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      stderr = (stderr + chunk).slice(-65536); // a long command talks a lot; its last words say why it failed
      if (c.onLine) for (const line of chunk.split(/[\r\n]+/)) if (line) c.onLine(line);
    });
    child.on('error', error => {
      clearTimeout(timer);
      const missing = 'code' in error && error.code === 'ENOENT';
      reject(
        missing
          ? new MayflyError('missing-tool', `the program "${c.file}" is not installed`, { tool: c.file })
          : error,
      );
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const exit = code ?? 255;
      const said = errors !== undefined && exit !== 0 ? readBack(errors) : stderr;
      if ((c.expect ?? [0]).includes(exit)) resolve({ code: exit, stdout, stderr: said });
      else reject(failure(c, exit, signal, said));
    });
  });
}

/** 128 + signal number, as shells report it. */
function exitCode(
  code: number | null,
  signal: NodeJS.Signals | null,
  signals: Record<string, number>,
): number {
  return code ?? 128 + (signal ? (signals[signal] ?? 0) : 0);
}

async function interact(c: Pick<Command, 'file' | 'args'>, own: boolean): Promise<number> {
  const { spawn } = await import('node:child_process');
  const { constants } = await import('node:os');
  return new Promise((resolve, reject) => {
    const env = { ...process.env, PATH: TOOL_PATH };
    const child = spawn(c.file, c.args, { env, stdio: 'inherit', detached: own });
    const pass = (signal: NodeJS.Signals): void => {
      child.kill(signal);
    };
    const signals: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
    for (const signal of signals) process.on(signal, pass);
    const done = (): void => {
      for (const signal of signals) process.off(signal, pass);
    };
    child.on('error', error => {
      done();
      reject(
        new MayflyError('missing-tool', `"${c.file}" could not be started: ${error.message}`, {
          tool: c.file,
        }),
      );
    });
    child.on('exit', (code, signal) => {
      done();
      resolve(exitCode(code, signal, constants.signals));
    });
  });
}

/** The real machine. `deadline` (milliseconds since the epoch) bounds how long commands are waited for. */
export function realHost(deadline = Number.POSITIVE_INFINITY): Host {
  return {
    async run(c) {
      if (Date.now() > deadline) throw new MayflyError('timeout', `no time left to run "${c.file}"`);
      const { spawn } = await import('node:child_process'); // takes milliseconds: only when something is run
      const options = { env: TOOL_ENV, cwd: '/' };
      const source =
        c.from && spawn(c.from.file, c.from.args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
      // A pipe costs a stream to set up and watch; what a quick command says matters only if it fails.
      const errors = c.effect === 'write' && !c.onLine ? openUnnamed() : undefined;
      try {
        const input = source?.stdout ?? 'ignore';
        const output = c.effect === 'read' ? 'pipe' : 'ignore';
        const child = spawn(c.file, c.args, {
          ...options,
          stdio: [input, output, errors ?? 'pipe', ...(c.fds ?? [])],
        });
        if (c.background) {
          child.unref();
          await new Promise((started, failed) => child.once('spawn', started).once('error', failed));
          return { code: 0, stdout: '', stderr: '' };
        }
        source?.stdout?.destroy(); // the child has its own copy of the pipe; ours would keep it open
        const end = finish(child, c, deadline, errors);
        if (!source || !c.from) return await end;
        const [out] = await Promise.all([end, finish(source, { ...c.from, effect: 'write' }, deadline)]);
        return out;
      } finally {
        if (errors !== undefined) closeSync(errors);
      }
    },
    interact,
    read: path =>
      absentIs<string | undefined>(undefined, ['ENOENT', 'ENOTDIR', 'ESRCH', 'EINVAL'], () =>
        readFileSync(path, 'utf8'),
      ),
    list: path =>
      absent(path)
        ? []
        : absentIs<string[]>([], ['ENOENT', 'ENOTDIR', 'ESRCH', 'EACCES'], () => readdirSync(path).sort()),
    lstat: path =>
      absentIs<Stat | undefined>(undefined, ['ESRCH'], () => {
        const s = lstatSync(path, { throwIfNoEntry: false });
        return s && toStat(s);
      }),
    stat(path) {
      try {
        const s = statSync(path, { throwIfNoEntry: false });
        return s && toStat(s);
      } catch {
        return undefined; // gone, not ours to see, or on a file system whose server is dead: it cannot be had
      }
    },
    readlink: path =>
      absentIs<string | undefined>(
        undefined,
        ['ENOENT', 'ENOTDIR', 'EINVAL', 'ESRCH', 'EACCES', 'EPERM'],
        () => readlinkSync(path),
      ),
    space(path) {
      const s = statfsSync(path);
      return { total: s.blocks * s.bsize, free: s.bavail * s.bsize, inodes: s.files, freeInodes: s.ffree };
    },
    write(path, text, o) {
      const temporary = temporaryName(path, process.pid);
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      if (!absent(temporary)) unlinkSync(temporary);
      const fd = openSync(temporary, flags, 0o600);
      try {
        writeFileSync(fd, typeof text === 'string' ? text : text()); // goes on after a short write, which a nearly full disk gives
        if (o.uid !== undefined || o.gid !== undefined) fchownSync(fd, o.uid ?? 0, o.gid ?? 0);
        fchmodSync(fd, o.mode);
        if (o.durable) fsyncSync(fd);
        renameSync(temporary, path);
      } catch (error) {
        unlinkSync(temporary);
        throw error;
      } finally {
        closeSync(fd);
      }
      if (o.durable) sync(parent(path));
    },
    symlink(target, path, durable) {
      const temporary = temporaryName(path, process.pid);
      if (!absent(temporary)) unlinkSync(temporary);
      symlinkSync(target, temporary);
      renameSync(temporary, path);
      if (durable) sync(parent(path));
    },
    mkdir(path, mode) {
      const there = lstatSync(path, { throwIfNoEntry: false });
      const made =
        there === undefined && absentIs(false, ['EEXIST'], () => mkdirSync(path, { mode }) === undefined);
      if (made)
        chmodSync(path, mode); // the umask of a hook is its caller's
      else if (!(there ?? lstatSync(path)).isDirectory()) {
        throw new MayflyError('unsafe', `"${path}" is not a directory`, { path });
      }
    },
    touch(path) {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
      if (!existsSync(path)) closeSync(openSync(path, flags, 0o644));
    },
    poke(path, text) {
      return absentIs(false, ['ENOENT', 'ESRCH', 'ENODEV', 'EINVAL', 'EOPNOTSUPP', 'EBUSY'], () => {
        const fd = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW);
        try {
          writeSync(fd, text);
        } finally {
          closeSync(fd);
        }
        return true;
      });
    },
    rename: (from, to) => renameSync(from, to),
    unlink: path => {
      if (!absent(path)) absentIs(undefined, ['ENOENT'], () => unlinkSync(path));
    },
    rmdir: path => {
      if (!absent(path)) absentIs(undefined, ['ENOENT'], () => rmdirSync(path));
    },
    sync,
    openLock: path => openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600),
    close: fd => closeSync(fd),
    kill: (pid, signal) => absentIs(false, ['ESRCH'], () => process.kill(pid, signal)),
    pid: process.pid,
    ppid: process.ppid,
    sleep: ms => new Promise(resolve => setTimeout(resolve, ms)),
    now: () => Date.now(),
    random: bytes =>
      readFileSync('/proc/sys/kernel/random/uuid', 'utf8')
        .replaceAll('-', '')
        .slice(0, bytes * 2),
  };
}
