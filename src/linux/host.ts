/**
 * The only interface through which Mayfly changes the machine: commands, files, processes and time. So a dry run
 * (`dry-run.ts`) and a simulated machine that crashes at call N (`test/world.ts`) are just other hosts. Exceptions: the
 * program's own output and log (`print`, `log.ts`), its cache of compiled code (`loader.ts`), what it asks of its own
 * process (arguments, environment, uid, signals, terminal), and directory watches, which only trigger a scan
 * (`service/watch.ts`).
 *
 * File operations are synchronous: a hook does a few dozen of them, and each takes microseconds.
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
  /** Time of the last change of the content or the inode; no program can set it. */
  readonly ctimeMs: number;
  /** Creation time; 0 if the file system does not record it. */
  readonly birthtimeMs: number;
}

/** Space of a file system, in bytes and inodes. Blocks that are reserved for root are neither used nor free. */
export interface Space {
  readonly total: number;
  readonly used: number;
  /** What anybody can still write. */
  readonly free: number;
  readonly inodes: number;
  readonly freeInodes: number;
  /** The type of the file system, as statfs(2) names it. */
  readonly type: number;
}

export interface WriteOptions {
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  /** fsync the file and its directory, so that the text survives a power cut. */
  readonly durable?: boolean;
  /** The file only saves time: a dry run neither prints nor needs it. */
  readonly cache?: boolean;
}

export interface Host {
  /** Runs a command to its end. Throws `command` (exit code not in `okCodes`), `missing-tool` or `timeout`. */
  run(command: Command): Promise<Output>;

  /**
   * Runs a program on the caller's terminal, without the caller's environment, and returns its exit code. `own` starts it
   * in a new process session. SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to it. Throws `missing-tool`.
   */
  runInteractive(command: Pick<Command, 'file' | 'args'>, own: boolean): Promise<number>;

  /** The text of a file; follows symlinks; undefined if there is no file. Below a session's root, use `lstat` first. */
  read(path: string): string | undefined;
  /** The names in a directory, sorted; empty if there is no directory. */
  list(path: string): string[];
  lstat(path: string): Stat | undefined;
  /** Follows symlinks, as `/proc/PID/root` requires. Undefined on any error. */
  stat(path: string): Stat | undefined;
  /** Whether `path` exists; follows symlinks. */
  exists(path: string): boolean;
  /**
   * Whether `path` exists and is a directory; follows symlinks; undefined on any error.
   */
  pathType(path: string): 'dir' | 'other' | undefined;
  /** The target of a symlink; undefined if there is none or it cannot be read. */
  readlink(path: string): string | undefined;
  space(path: string): Space;
  /**
   * Writes a temporary file, optionally syncs it, and renames it: readers see the old or the new text, never a part. An
   * expensive text is passed as a function, which a dry run does not call.
   */
  write(path: string, text: string | (() => string), options: WriteOptions): void;
  /** Atomically replaces `path` by a symlink, with rename(2). */
  symlink(target: string, path: string): void;
  /** Creates a directory; an existing one is success. Throws `unsafe` if anything else exists there. */
  mkdir(path: string, mode: number): void;
  /**
   * Gives an existing directory to root, with this mode. Throws `unsafe` if it is not a directory (also a symlink to
   * one) or if its file system does not keep owner and mode.
   */
  own(path: string, mode: number): void;
  /** Writes to an existing control file of the kernel (cgroup); false if the process or file no longer exists. */
  writeControlFile(path: string, text: string): boolean;
  rename(from: string, to: string): void;
  /** Absent is success. */
  unlink(path: string): void;
  /** Absent is success; not empty is an error. Never recursive: below it may be a mount of another program. */
  rmdir(path: string): void;
  /** fsync of a directory, so that a rename in it survives a power cut. */
  sync(path: string): void;

  /** Opens a lock file, creating it if necessary, and returns its descriptor. */
  openLock(path: string): number;
  /**
   * Opens a FIFO for reading, without waiting for a writer, and returns its descriptor, which is negative in a dry run.
   * Undefined if there is no FIFO.
   */
  openFifo(path: string): number | undefined;
  /** Whether a process has a FIFO open for reading. */
  hasReader(path: string): boolean;
  close(fd: number): void;

  /** False if there is no such process. */
  kill(pid: number, signal: NodeJS.Signals): boolean;
  readonly pid: number;
  readonly ppid: number;
  sleep(ms: number): Promise<void>;
  /** Milliseconds since the epoch, for times that are shown or recorded: this clock may be set at any moment. */
  now(): number;
  /**
   * Milliseconds on a clock that is never set, for durations, deadlines and waits. It is CLOCK_MONOTONIC: the same in
   * every process, and logind's, until the next boot.
   */
  monotonic(): number;
  /** 32 random bits in hex, for names. The kernel seeds V8, but the bits are not suited for secrets. */
  random(): string;
}

/** The temporary name for writing `path`: hidden and with dots, so that schroot and Mayfly ignore an unfinished file. */
export function temporaryName(path: string, tag: string | number): string {
  const slash = path.lastIndexOf('/');
  return `${path.slice(0, slash + 1)}.${path.slice(slash + 1)}.${tag}.tmp`;
}
