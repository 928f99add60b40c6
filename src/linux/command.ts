/**
 * Starting programs. Only `host.ts` does: it is the gate, this is how it works. Commands are asynchronous, because
 * one that hangs must not keep a hook from answering in time.
 */

import type { ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { isErrno, MayflyError } from '../errors.ts';

/** A command as data. Arguments are an array: no shell ever reads them. */
export interface Command {
  /** Name of a program in {@link TOOL_PATH}. */
  readonly file: string;
  readonly args: readonly string[];
  /** A dry run performs `read` commands and only tells of `write` ones. */
  readonly effect: 'read' | 'write';
  /** Open file descriptors the child gets as 3, 4, …; it keeps a lock held for as long as it runs. */
  readonly inheritFds?: readonly number[];
  /** The program closes what it inherits, as LVM's do: another waits for it, and keeps the descriptors meanwhile. */
  readonly closesInheritedFds?: boolean;
  /** A program whose output this one reads; if it fails, so does the whole. */
  readonly pipeFrom?: Pick<Command, 'file' | 'args' | 'okCodes'>;
  /** Gets each line of stderr as it comes, for progress. */
  readonly onLine?: (line: string) => void;
  /** Resolves as soon as it runs; it goes on, with its descriptors, after we have ended. */
  readonly background?: boolean;
  /** What a dry run tells instead of the arguments, a line each, where those say nothing to people. */
  readonly describe?: () => readonly string[];
  /** What a dry run is to see from then on, as if it had been run. */
  readonly simulate?: (view: SimulatedView) => void;
  /** Exit codes that are an answer, not a failure. Default: 0 only. */
  readonly okCodes?: readonly number[];
}

/** The machine as a dry run sees it. */
export interface SimulatedView {
  /** What is at `instead` shows at `path`, as a file system of its own. */
  mount(path: string, instead: string): void;
  unmount(path: string): void;
  write(path: string, text: string): void;
}

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where programs are looked for. The caller's PATH is never used: gdm's lacks sbin, a user's can be anything. */
export const TOOL_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/** Else LVM complains on stderr of every descriptor it closes. */
const QUIET = { LVM_SUPPRESS_FD_WARNINGS: '1' };

/** The whole environment of every command. */
export const TOOL_ENV: NodeJS.ProcessEnv = { PATH: TOOL_PATH, LC_ALL: 'C.UTF-8', LANG: 'C.UTF-8', ...QUIET };

/**
 * Says a line on stdout (1) or stderr (2). Not by process.stdout: setting that up costs a hook a millisecond, and a
 * reader that went away would end a login or a teardown.
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
  // A program given as text would hide the reason behind pages of itself.
  const words = c.describe ? c.file : `${c.file} ${c.args.join(' ')}`;
  const message = `"${words}" ${how}${said ? `: ${said}` : ''}`;
  return new MayflyError('command', message, { file: c.file, args: c.args, exitCode: exit, stderr });
}

/**
 * Waits for a child; past the deadline it is left to finish on its own, never killed (it may be in the middle of a
 * storage change). `errors` is a descriptor with what it says on stderr, where that is not a pipe.
 */
function waitFor(child: ChildProcess, c: Command, deadline: number, errors?: number): Promise<Output> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    let begun = ''; // a line that is still to be finished
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
      if (!c.onLine) return;
      const lines = (begun + chunk).split(/[\r\n]+/);
      begun = lines.pop() ?? '';
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
      if (begun) c.onLine?.(begun);
      const exit = code ?? 255;
      const said = errors !== undefined && exit !== 0 ? readBack(errors) : stderr;
      if ((c.okCodes ?? [0]).includes(exit)) resolve({ code: exit, stdout, stderr: said });
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

/**
 * Runs a command and waits until `deadline` (milliseconds since the epoch); past it the command is left to finish on
 * its own. Rejects with `command`, `missing-tool` or `timeout`.
 */
export async function runCommand(c: Command, deadline: number): Promise<Output> {
  if (Date.now() > deadline) throw new MayflyError('timeout', `no time left to run "${c.file}"`);
  const { spawn } = await import('node:child_process'); // takes milliseconds: only when something is run
  const options = { env: TOOL_ENV, cwd: '/' };
  const source =
    c.pipeFrom && spawn(c.pipeFrom.file, c.pipeFrom.args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  // A pipe costs a stream to set up and watch; what a quick command says matters only if it fails.
  const errors = c.effect === 'write' && !c.onLine ? openUnnamed() : undefined;
  try {
    const input = source?.stdout ?? 'ignore';
    const output = c.effect === 'read' ? 'pipe' : 'ignore';
    const keeper = c.closesInheritedFds && c.inheritFds?.length ? ['timeout', '--foreground', '0'] : []; // 0: for as long as it takes
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
    source?.stdout?.destroy(); // the child has its own copy of the pipe; ours would keep it open
    const end = waitFor(child, c, deadline, errors);
    if (!source || !c.pipeFrom) return await end;
    const [out] = await Promise.all([end, waitFor(source, { ...c.pipeFrom, effect: 'write' }, deadline)]);
    return out;
  } finally {
    if (errors !== undefined) closeSync(errors);
  }
}
