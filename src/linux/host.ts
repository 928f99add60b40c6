/**
 * The one gate to commands, files, processes and time for whatever is done to the machine, so a dry run (`dry-run.ts`)
 * and a machine in memory that dies at call N (`test/world.ts`) are just other hosts. Past it go only what the program
 * says (`print`, `log.ts`), its own compiled code (`loader.ts`), what it asks of its own process (arguments,
 * environment, uid, signals, its terminal), and what wakes the service (`service/watch.ts`, which only says "look").
 *
 * File operations are synchronous: a hook does a few dozen of them and each takes microseconds.
 */
import type { Command, Output } from './command.ts';

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

/** Space of a file system, in bytes and inodes. Blocks that are reserved for root are neither used nor free. */
export interface Space {
  readonly total: number;
  readonly used: number;
  /** What anybody can still write. */
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
  /** Whether there is something; symlinks followed. */
  exists(path: string): boolean;
  /**
   * Whether there is something, and whether it is a directory; symlinks followed, undefined where it cannot be had.
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
}

/** Hidden and dotted, so that neither schroot nor we take a half-written file for a whole one. */
export function temporaryName(path: string, tag: string | number): string {
  const slash = path.lastIndexOf('/');
  return `${path.slice(0, slash + 1)}.${path.slice(slash + 1)}.${tag}.tmp`;
}
