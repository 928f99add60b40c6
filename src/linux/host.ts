/**
 * The one gate to commands, files, processes and time. Nothing else in `src/` touches the system, so a dry run
 * (`dry-run.ts`) and a machine in memory that dies at call N (`test/world.ts`) are just other hosts.
 *
 * File operations are synchronous: a hook does a few dozen of them and each takes microseconds.
 */
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
import { MayflyError } from '../errors.ts';
import { type Command, type Output, runCommand, runInteractive } from './command.ts';

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
  runInteractive(command: Pick<Command, 'file' | 'args'>, own: boolean): Promise<number>;

  /** The text of a file, symlinks followed; undefined where there is none. Below a session root, `lstat` first. */
  read(path: string): string | undefined;
  /** Names in a directory, sorted; none where there is no directory. */
  list(path: string): string[];
  lstat(path: string): Stat | undefined;
  /** Follows symlinks; the only way to ask about `/proc/PID/root`. Undefined where it cannot be had. */
  stat(path: string): Stat | undefined;
  /** Whether there is something; symlinks followed. Half the price of `kindOf` where nothing is the rule. */
  exists(path: string): boolean;
  /**
   * Whether there is something, and whether it is a directory; symlinks followed, undefined where it cannot be had.
   * A quarter of the price of `stat`, and a login asks dozens of times.
   */
  pathType(path: string): 'dir' | 'other' | undefined;
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
  /** Writes into an existing control file of the kernel (cgroup); false where the process or file is gone. */
  writeControlFile(path: string, text: string): boolean;
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
  /** 32 random bits in hex, for names: V8 is seeded by the kernel, but this is no secret. */
  random(): string;

  /** Only in a dry run: from here on, reading below `path` reads below `instead`. */
  readonly pretend?: (path: string, instead: string) => void;
}

function absentIs<T>(value: T, names: readonly string[], act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (error instanceof Error && 'code' in error && names.includes(String(error.code))) return value;
    throw error;
  }
}

function toStat(s: Stats): Stat {
  // By the bits: a login asks a hundred times, and the methods cost more than the question.
  const type = s.mode & constants.S_IFMT;
  const kind =
    type === constants.S_IFREG
      ? 'file'
      : type === constants.S_IFDIR
        ? 'dir'
        : type === constants.S_IFLNK
          ? 'link'
          : 'other';
  const { dev, ino, uid, gid, size, mtimeMs } = s;
  return { kind, dev, ino, uid, gid, mode: s.mode & 0o7777, size, mtimeMs };
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

/** The real machine. `deadline` (milliseconds since the epoch) bounds how long commands are waited for. */
export function realHost(deadline = Number.POSITIVE_INFINITY): Host {
  return {
    run: c => runCommand(c, deadline),
    runInteractive: runInteractive,
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
    exists: existsSync,
    // access(2) of a path with a slash behind it succeeds for directories only.
    pathType: path => (existsSync(`${path}/`) ? 'dir' : existsSync(path) ? 'other' : undefined),
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
    writeControlFile(path, text) {
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
    random: () =>
      Math.floor(Math.random() * 2 ** 32)
        .toString(16)
        .padStart(8, '0'),
  };
}
