/**
 * Running programs, for `real-host.ts`; all other code uses the interface in `host.ts`. Commands are asynchronous, so
 * that one that hangs does not keep a hook from answering in time.
 */

import type { ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { isErrno, MayflyError } from '../errors.ts';

/** A command as data. Arguments are an array: no shell ever reads them. */
export interface Command {
  /** The name of a program in {@link TOOL_PATH}. */
  readonly file: string;
  readonly args: readonly string[];
  /** A dry run runs `read` commands and only prints `write` commands. */
  readonly effect: 'read' | 'write';
  /** Open file descriptors that the child inherits as 3, 4, …; a lock among them is held for as long as it runs. */
  readonly inheritFds?: readonly number[];
  /** The program closes inherited descriptors, as LVM's do: another one waits for it and keeps them open. */
  readonly closesInheritedFds?: boolean;
  /** A program whose output this one reads; if it fails, so does the command. */
  readonly pipeFrom?: Pick<Command, 'file' | 'args' | 'okCodes'>;
  /** Called with each line of stderr as it arrives, for progress. */
  readonly onLine?: (line: string) => void;
  /** Resolves as soon as the program has started; it keeps running, with its descriptors, after we have exited. */
  readonly background?: boolean;
  /** The lines that a dry run prints instead of arguments that explain nothing. */
  readonly describe?: () => readonly string[];
  /** What a dry run sees from then on, as if the command had been run. */
  readonly simulate?: (view: SimulatedView) => void;
  /** Exit codes that are not failures. Default: 0 only. */
  readonly okCodes?: readonly number[];
}

/** The machine as a dry run sees it. */
export interface SimulatedView {
  /** Reading below `path` reads below `instead`, which looks like a file system of its own. */
  mount(path: string, instead: string): void;
  unmount(path: string): void;
  write(path: string, text: string): void;
}

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The search path for programs. The caller's PATH is never used: gdm's lacks sbin, and a user's can be anything. */
export const TOOL_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/** Otherwise LVM prints a warning about every descriptor that it closes. */
const QUIET = { LVM_SUPPRESS_FD_WARNINGS: '1' };

/** The complete environment of every command. */
export const TOOL_ENV: NodeJS.ProcessEnv = { PATH: TOOL_PATH, LC_ALL: 'C.UTF-8', LANG: 'C.UTF-8', ...QUIET };

/**
 * Prints text on stdout (1) or stderr (2). process.stdout is not used: setting it up costs a hook a millisecond, and a
 * reader that has gone away would abort a login or a logout.
 */
export function print(fd: 1 | 2, text: string): void {
  try {
    const bytes = Buffer.from(text);
    const written = writeSync(fd, bytes);
    if (written < bytes.length) writeFileSync(fd, bytes.subarray(written)); // a pipe that was full
  } catch (error) {
    if (!isErrno(error, 'EPIPE', 'EAGAIN', 'EBADF', 'EIO')) throw error;
  }
}

/** O_TMPFILE of open(2) on Linux: an unnamed file, deleted when its descriptor is closed. Node has no constant for it. */
const O_TMPFILE = 0o20200000;

/** Opens an unnamed temporary file and returns its descriptor. */
export function openUnnamed(): number {
  return openSync('/run', O_TMPFILE | constants.O_RDWR, 0o600);
}

/** The first 16 KiB that a failed command wrote to our descriptor. */
function readBack(fd: number): string {
  const buffer = Buffer.alloc(16384);
  return buffer.toString('utf8', 0, readSync(fd, buffer, 0, buffer.length, 0));
}

function failure(c: Command, exit: number, signal: NodeJS.Signals | null, stderr: string): MayflyError {
  const how = signal ? `was killed by ${signal}` : `failed with exit code ${exit}`;
  const reason = stderr.trim().split('\n').slice(0, 4).join('; ');
  // Arguments that contain a whole program would hide the reason.
  const shown = c.describe ? c.file : `${c.file} ${c.args.join(' ')}`;
  const message = `"${shown}" ${how}${reason ? `: ${reason}` : ''}`;
  return new MayflyError('command', message, { file: c.file, args: c.args, exitCode: exit, stderr });
}

/**
 * Waits for a child. After the deadline it is left to finish by itself and never killed, because it may be in the middle
 * of a storage operation. `errors`: the descriptor with its stderr, if that is not a pipe.
 */
function waitFor(child: ChildProcess, c: Command, deadline: number, errors?: number): Promise<Output> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    let partial = ''; // the unfinished last line
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
      stderr = (stderr + chunk).slice(-65536); // a long command prints a lot; the end has the reason of a failure
      if (!c.onLine) return;
      const lines = (partial + chunk).split(/[\r\n]+/);
      partial = lines.pop() ?? '';
      for (const line of lines) if (line) c.onLine(line);
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
      if (partial) c.onLine?.(partial);
      const exit = code ?? 255;
      const errorText = errors !== undefined && exit !== 0 ? readBack(errors) : stderr;
      if ((c.okCodes ?? [0]).includes(exit)) resolve({ code: exit, stdout, stderr: errorText });
      else reject(failure(c, exit, signal, errorText));
    });
  });
}

/** The exit code of a process; 128 + the signal number for one that was killed, as shells report it. */
function exitCode(
  code: number | null,
  signal: NodeJS.Signals | null,
  signals: Record<string, number>,
): number {
  return code ?? 128 + (signal ? (signals[signal] ?? 0) : 0);
}

/** See {@link Host.runInteractive}. */
export async function runInteractive(c: Pick<Command, 'file' | 'args'>, own: boolean): Promise<number> {
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
        new MayflyError('missing-tool', `cannot start "${c.file}": ${error.message}`, {
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

/**
 * Runs a command and waits for it until `deadline` (milliseconds since the epoch); after that, the command is left to
 * finish by itself. Throws `command`, `missing-tool` or `timeout`.
 */
export async function runCommand(c: Command, deadline: number): Promise<Output> {
  if (Date.now() > deadline) throw new MayflyError('timeout', `no time left to run "${c.file}"`);
  const { spawn } = await import('node:child_process'); // costs milliseconds, so only if a command is run
  const options = { env: TOOL_ENV, cwd: '/' };
  const source =
    c.pipeFrom && spawn(c.pipeFrom.file, c.pipeFrom.args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  // Cheaper than a pipe, which needs a stream: the stderr of a short command only matters if it fails.
  const errors = c.effect === 'write' && !c.onLine ? openUnnamed() : undefined;
  try {
    const input = source?.stdout ?? 'ignore';
    const output = c.effect === 'read' ? 'pipe' : 'ignore';
    const keeper = c.closesInheritedFds && c.inheritFds?.length ? ['timeout', '--foreground', '0'] : []; // 0: no time limit
    const [file = c.file, ...args] = [...keeper, c.file, ...c.args];
    const child = spawn(file, args, {
      ...options,
      stdio: [input, output, errors ?? 'pipe', ...(c.inheritFds ?? [])],
    });
    if (c.background) {
      child.unref();
      await new Promise((started, failed) => child.once('spawn', started).once('error', failed));
      return { code: 0, stdout: '', stderr: '' };
    }
    source?.stdout?.destroy(); // the child has its own copy of the pipe, and ours would keep it open
    const end = waitFor(child, c, deadline, errors);
    if (!source || !c.pipeFrom) return await end;
    const [out] = await Promise.all([end, waitFor(source, { ...c.pipeFrom, effect: 'write' }, deadline)]);
    return out;
  } finally {
    if (errors !== undefined) closeSync(errors);
  }
}
