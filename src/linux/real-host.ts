/** The host that acts on the real machine. */

import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fstatSync,
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
import { isErrno, MayflyError, reasonOf } from '../errors.ts';
import { monotonic } from './clock.ts';
import { type Host, type Stat, temporaryName } from './host.ts';
import { leanRunner } from './lean-runner.ts';

/** What reading a file fails with that is gone: in /proc, or in /sys and control groups (ENODEV) while it is removed. */
const GONE = ['ENOENT', 'ENOTDIR', 'ESRCH', 'EINVAL', 'ENODEV'];

/** And with what is no file: container tools make a directory where one is missing. */
const NO_FILE = [...GONE, 'EISDIR', 'ELOOP'];

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
  const { dev, ino, uid, gid, size, mtimeMs, ctimeMs, birthtimeMs } = s;
  return { kind, dev, ino, uid, gid, mode: s.mode & 0o7777, size, mtimeMs, ctimeMs, birthtimeMs };
}

function stat(path: string): Stat | undefined {
  try {
    const s = statSync(path, { throwIfNoEntry: false });
    return s && toStat(s);
  } catch {
    return undefined; // it does not exist, we may not see it, or the server of its file system is dead
  }
}

function sync(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** Gives a directory to root, through a descriptor, so that it cannot be exchanged for a symlink meanwhile. */
function own(path: string, mode: number): void {
  const unsafe = (why: string, cause?: unknown): MayflyError =>
    new MayflyError('unsafe', `"${path}" ${why}`, { path }, { cause });
  if (!lstatSync(path).isDirectory()) throw unsafe('is not a directory');
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const isOurs = ({ uid, gid, mode: now }: Stats): boolean =>
      uid === 0 && gid === 0 && (now & 0o7777) === mode;
    if (isOurs(fstatSync(fd))) return;
    fchownSync(fd, 0, 0);
    fchmodSync(fd, mode);
    if (!isOurs(fstatSync(fd))) throw unsafe('does not keep its owner and mode');
  } catch (error) {
    if (isErrno(error, 'EPERM', 'EROFS', 'EOPNOTSUPP', 'EINVAL'))
      throw unsafe(`cannot be made accessible to root only (${reasonOf(error)})`, error);
    throw error;
  } finally {
    closeSync(fd);
  }
}

const noTerminal = (): Promise<never> =>
  Promise.reject(new MayflyError('internal', 'this process cannot run interactive programs'));

/** The real machine. Commands are waited for until `deadline`, which is a time of {@link monotonic}. */
export function realHost({ deadline = Number.POSITIVE_INFINITY, runner = leanRunner } = {}): Host {
  return {
    run: c => runner.run(c, deadline),
    runInteractive: runner.runInteractive ?? noTerminal,
    read: path => absentIs<string | undefined>(undefined, NO_FILE, () => readFileSync(path, 'utf8')),
    list: path =>
      absentIs<string[]>([], ['ENOENT', 'ENOTDIR', 'ESRCH', 'EACCES'], () => readdirSync(path).sort()),
    lstat: path =>
      absentIs<Stat | undefined>(undefined, ['ESRCH'], () => {
        const s = lstatSync(path, { throwIfNoEntry: false });
        return s && toStat(s);
      }),
    stat,
    exists: existsSync,
    pathType(path) {
      try {
        const s = statSync(path, { throwIfNoEntry: false });
        return s && (s.isDirectory() ? 'dir' : 'other');
      } catch {
        return undefined;
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
      const bytes = (blocks: number): number => blocks * s.bsize;
      return {
        ...{ total: bytes(s.blocks), used: bytes(s.blocks - s.bfree), free: bytes(s.bavail) },
        ...{ inodes: s.files, freeInodes: s.ffree, type: s.type },
      };
    },
    write(path, text, o) {
      const temporary = temporaryName(path, process.pid);
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      absentIs(undefined, ['ENOENT'], () => unlinkSync(temporary));
      const fd = openSync(temporary, flags, 0o600);
      try {
        writeFileSync(fd, typeof text === 'string' ? text : text()); // continues after a short write, which happens on a nearly full disk
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
    symlink(target, path) {
      const temporary = temporaryName(path, process.pid);
      absentIs(undefined, ['ENOENT'], () => unlinkSync(temporary));
      symlinkSync(target, temporary);
      renameSync(temporary, path);
    },
    mkdir(path, mode) {
      const there = lstatSync(path, { throwIfNoEntry: false });
      const made =
        there === undefined && absentIs(false, ['EEXIST'], () => mkdirSync(path, { mode }) === undefined);
      if (made)
        chmodSync(path, mode); // a hook has the umask of its caller
      else if (!(there ?? lstatSync(path)).isDirectory()) {
        throw new MayflyError('unsafe', `"${path}" is not a directory`, { path });
      }
    },
    own,
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
      absentIs(undefined, ['ENOENT'], () => unlinkSync(path));
    },
    rmdir: path => {
      absentIs(undefined, ['ENOENT'], () => rmdirSync(path));
    },
    sync,
    openLock: path => openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600),
    openFifo(path) {
      const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
      const fd = absentIs(undefined, ['ENOENT', 'ELOOP', 'ENXIO'], () => openSync(path, flags));
      if (fd === undefined || fstatSync(fd).isFIFO()) return fd;
      closeSync(fd);
      return undefined;
    },
    hasReader: path =>
      absentIs(false, ['ENXIO', 'ENOENT'], () => {
        closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW));
        return true;
      }),
    close: fd => closeSync(fd),
    kill: (pid, signal) => absentIs(false, ['ESRCH'], () => process.kill(pid, signal)),
    pid: process.pid,
    ppid: process.ppid,
    sleep: ms => new Promise(resolve => setTimeout(resolve, ms)),
    now: () => Date.now(),
    monotonic,
    random: () =>
      Math.floor(Math.random() * 2 ** 32)
        .toString(16)
        .padStart(8, '0'),
  };
}
