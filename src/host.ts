/**
 * The one gate to commands, files, processes and time. Nothing else in `src/` touches the system, so a dry run
 * (`dry-run.ts`) and a machine in memory that dies at call N (`test/world.ts`) are just other hosts.
 *
 * File operations are synchronous: a hook does a few dozen of them and each takes microseconds. Commands are
 * asynchronous, because one that hangs must not keep the hook from answering in time.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
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
  /** Temporary file, optional fsync, rename: readers see the old or the new text, never a part. */
  write(path: string, text: string, options: WriteOptions): void;
  /** Replaces what stands at `path` by a symlink, by rename. */
  symlink(target: string, path: string, durable?: boolean): void;
  /** Makes a directory; one that is there already is success, anything else there is `unsafe`. */
  mkdir(path: string, mode: number, uid?: number, gid?: number): void;
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

function toStat(s: fs.Stats): Stat {
  const kind = s.isFile() ? 'file' : s.isDirectory() ? 'dir' : s.isSymbolicLink() ? 'link' : 'other';
  const { dev, ino, uid, gid, size, mtimeMs } = s;
  return { kind, dev, ino, uid, gid, mode: s.mode & 0o7777, size, mtimeMs };
}

/** Hidden and dotted, so that neither schroot nor we take a half-written file for a whole one. */
export function temporaryName(path: string, tag: string | number): string {
  const slash = path.lastIndexOf('/');
  return `${path.slice(0, slash + 1)}.${path.slice(slash + 1)}.${tag}.tmp`;
}

function sync(path: string): void {
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** Waits for a child; past the deadline it is left to finish on its own, never killed (it may be in the middle of a storage change). */
function finish(child: ChildProcess, c: Command, deadline: number): Promise<Output> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    const left = deadline - Date.now();
    const timer = Number.isFinite(left)
      ? setTimeout(
          () => {
            child.unref();
            for (const stream of child.stdio) stream?.destroy();
            reject(
              new MayflyError(
                'timeout',
                `"${c.file} ${c.args.join(' ')}" did not finish in time; it was left running`,
              ),
            );
          },
          Math.max(0, left),
        )
      : undefined;
    child.stdout?.setEncoding('utf8');
    child.stderr?.setEncoding('utf8');
    child.stdout?.on('data', chunk => {
      stdout += chunk;
    });
    child.stderr?.on('data', chunk => {
      const text: string = chunk;
      stderr = (stderr + text).slice(-65536); // a long command talks a lot; its last words say why it failed
      if (c.onLine) for (const line of text.split(/[\r\n]+/)) if (line) c.onLine(line);
    });
    child.on('error', error => {
      clearTimeout(timer);
      reject(
        'code' in error && error.code === 'ENOENT'
          ? new MayflyError('missing-tool', `the program "${c.file}" is not installed`, { tool: c.file })
          : error,
      );
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const exit = code ?? 255;
      if ((c.expect ?? [0]).includes(exit)) return resolve({ code: exit, stdout, stderr });
      const how = signal ? `was killed by ${signal}` : `failed with exit code ${exit}`;
      const said = stderr.trim().split('\n').slice(0, 4).join('; ');
      reject(
        new MayflyError('command', `"${c.file} ${c.args.join(' ')}" ${how}${said ? `: ${said}` : ''}`, {
          file: c.file,
          args: c.args,
          exitCode: exit,
          stderr,
        }),
      );
    });
  });
}

/** 128 + signal number, as shells report it. */
function exitCode(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal ? os.constants.signals[signal] : 0);
}

function interact(c: Pick<Command, 'file' | 'args'>, own: boolean): Promise<number> {
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
      resolve(exitCode(code, signal));
    });
  });
}

/** The real machine. `deadline` (milliseconds since the epoch) bounds how long commands are waited for. */
export function realHost(deadline = Number.POSITIVE_INFINITY): Host {
  return {
    run(c) {
      if (Date.now() > deadline) {
        return Promise.reject(new MayflyError('timeout', `no time left to run "${c.file}"`));
      }
      const options = { env: TOOL_ENV, cwd: '/' };
      const source =
        c.from && spawn(c.from.file, c.from.args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
      const child = spawn(c.file, c.args, {
        ...options,
        stdio: [
          source?.stdout ?? 'ignore',
          c.effect === 'read' ? 'pipe' : 'ignore',
          'pipe',
          ...(c.fds ?? []),
        ],
      });
      source?.stdout?.destroy(); // the child has its own copy of the pipe; ours would keep it open
      const end = finish(child, c, deadline);
      if (!source || !c.from) return end;
      return Promise.all([end, finish(source, { ...c.from, effect: 'write' }, deadline)]).then(
        ([out]) => out,
      );
    },
    interact,
    read: path =>
      absentIs<string | undefined>(undefined, ['ENOENT', 'ENOTDIR', 'ESRCH', 'EINVAL'], () =>
        fs.readFileSync(path, 'utf8'),
      ),
    list: path =>
      absentIs<string[]>([], ['ENOENT', 'ENOTDIR', 'ESRCH', 'EACCES'], () => fs.readdirSync(path).sort()),
    lstat: path =>
      absentIs<Stat | undefined>(undefined, ['ENOENT', 'ENOTDIR', 'ESRCH'], () => toStat(fs.lstatSync(path))),
    stat(path) {
      try {
        return toStat(fs.statSync(path));
      } catch {
        return undefined; // gone, not ours to see, or on a file system whose server is dead: it cannot be had
      }
    },
    readlink: path =>
      absentIs<string | undefined>(
        undefined,
        ['ENOENT', 'ENOTDIR', 'EINVAL', 'ESRCH', 'EACCES', 'EPERM'],
        () => fs.readlinkSync(path),
      ),
    space(path) {
      const s = fs.statfsSync(path);
      return { total: s.blocks * s.bsize, free: s.bavail * s.bsize, inodes: s.files, freeInodes: s.ffree };
    },
    write(path, text, o) {
      const temporary = temporaryName(path, process.pid);
      const flags =
        fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_NOFOLLOW;
      absentIs(undefined, ['ENOENT'], () => fs.unlinkSync(temporary));
      const fd = fs.openSync(temporary, flags, 0o600);
      try {
        fs.writeFileSync(fd, text); // goes on after a short write, which a nearly full disk gives
        if (o.uid !== undefined || o.gid !== undefined) fs.fchownSync(fd, o.uid ?? 0, o.gid ?? 0);
        fs.fchmodSync(fd, o.mode);
        if (o.durable) fs.fsyncSync(fd);
        fs.renameSync(temporary, path);
      } catch (error) {
        fs.unlinkSync(temporary);
        throw error;
      } finally {
        fs.closeSync(fd);
      }
      if (o.durable) sync(parent(path));
    },
    symlink(target, path, durable) {
      const temporary = temporaryName(path, process.pid);
      absentIs(undefined, ['ENOENT'], () => fs.unlinkSync(temporary));
      fs.symlinkSync(target, temporary);
      fs.renameSync(temporary, path);
      if (durable) sync(parent(path));
    },
    mkdir(path, mode, uid, gid) {
      try {
        fs.mkdirSync(path, { mode });
        fs.chmodSync(path, mode); // the umask of a hook is its caller's
        if (uid !== undefined) fs.chownSync(path, uid, gid ?? uid);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
        if (!fs.lstatSync(path).isDirectory()) {
          throw new MayflyError('unsafe', `"${path}" is not a directory`, { path });
        }
      }
    },
    touch(path) {
      const flags =
        fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK;
      if (!fs.existsSync(path)) fs.closeSync(fs.openSync(path, flags, 0o644));
    },
    poke(path, text) {
      return absentIs(false, ['ENOENT', 'ESRCH', 'ENODEV', 'EINVAL', 'EOPNOTSUPP', 'EBUSY'], () => {
        const fd = fs.openSync(path, fs.constants.O_WRONLY | fs.constants.O_NOFOLLOW);
        try {
          fs.writeSync(fd, text);
        } finally {
          fs.closeSync(fd);
        }
        return true;
      });
    },
    rename: (from, to) => fs.renameSync(from, to),
    unlink: path => absentIs(undefined, ['ENOENT'], () => fs.unlinkSync(path)),
    rmdir: path => absentIs(undefined, ['ENOENT'], () => fs.rmdirSync(path)),
    sync,
    openLock: path =>
      fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_NOFOLLOW, 0o600),
    close: fd => fs.closeSync(fd),
    kill: (pid, signal) => absentIs(false, ['ESRCH'], () => process.kill(pid, signal)),
    pid: process.pid,
    ppid: process.ppid,
    sleep: ms => new Promise(resolve => setTimeout(resolve, ms)),
    now: () => Date.now(),
    random: bytes =>
      fs
        .readFileSync('/proc/sys/kernel/random/uuid', 'utf8')
        .replaceAll('-', '')
        .slice(0, bytes * 2),
  };
}
