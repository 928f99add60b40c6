/**
 * Running programs, for `real-host.ts`; all other code uses the interface in `host.ts`. Commands are asynchronous, so
 * that one that hangs does not keep a hook from answering in time.
 *
 * There are two runners with the same contract (test/linux/runner.contract.ts): `lean-runner.ts` for hooks, which loads
 * only Node's built-in modules, and `execa-runner.ts` for the command line and the service. Here is what they share.
 */

import { constants, openSync, readSync, writeFileSync, writevSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { isErrno, MayflyError } from '../errors.ts';
import { monotonic } from './clock.ts';
import { printable } from './printable.ts';
import type { SimulatedView } from './simulated-view.ts';

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
  /**
   * Milliseconds after which a command that only reads is killed and not waited for: it may hang where no signal reaches
   * it. What it has written so far is its output, and {@link OUT_OF_TIME} its exit code.
   */
  readonly limit?: number;
}

/** The exit code of a command whose {@link Command.limit} is over. */
export const OUT_OF_TIME = 124;

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts programs. */
export interface Runner {
  /**
   * Runs a command and waits for it until `deadline`, which is a time of {@link monotonic}. After that the command is
   * left running and never killed, because it may be changing storage. Throws `command`, `missing-tool` or `timeout`.
   */
  run(c: Command, deadline: number): Promise<Output>;
  /** See {@link Host.runInteractive}. The runner of hooks lacks it: they have no terminal. */
  readonly runInteractive?: (c: Pick<Command, 'file' | 'args'>, own: boolean) => Promise<number>;
}

/** The search path for programs. The caller's PATH is never used: gdm's lacks sbin, and a user's can be anything. */
export const TOOL_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/** Otherwise LVM prints a warning about every descriptor that it closes. */
const QUIET = { LVM_SUPPRESS_FD_WARNINGS: '1' };

/** The complete environment of every command. */
export const TOOL_ENV: NodeJS.ProcessEnv = { PATH: TOOL_PATH, LC_ALL: 'C.UTF-8', LANG: 'C.UTF-8', ...QUIET };

type Printer = (fd: 1 | 2, text: Uint8Array) => boolean;

/** On the global object, because each bundle that is loaded on use has a copy of this module. */
const elsewhere = globalThis as { mayflyOutput?: Printer };

/** From now on, what is printed goes to `to`, if that returns true. */
export function redirectOutput(to: Printer): void {
  elsewhere.mayflyOutput = to;
}

/**
 * Prints text on stdout (1) or stderr (2), with control characters escaped; only `sequence`, which comes first, is meant
 * for the terminal. process.stdout is not used: setting it up costs a hook a millisecond, and a
 * reader that has gone away would abort a login or a logout.
 */
export function print(fd: 1 | 2, text: string, sequence = ''): void {
  try {
    const bytes = Buffer.from(sequence + printable(text));
    if (elsewhere.mayflyOutput?.(fd, bytes)) return;
    const written = writevSync(fd, [bytes]); // Node compiles it on first use, and writeSync is longer
    if (written < bytes.length) writeFileSync(fd, bytes.subarray(written)); // a pipe that was full
  } catch (error) {
    // What was asked for must arrive. A log on a full disk must not stop a login or a logout.
    if (fd === 1 && !isErrno(error, 'EPIPE', 'EAGAIN', 'EBADF', 'EIO')) throw error;
  }
}

/** O_TMPFILE of open(2) on Linux: an unnamed file, deleted when its descriptor is closed. Node has no constant for it. */
export const O_TMPFILE = 0o20200000;

/** Opens an unnamed temporary file and returns its descriptor. */
export function openUnnamed(): number {
  return openSync('/run', O_TMPFILE | constants.O_RDWR, 0o600);
}

/** The first 16 KiB that a failed command wrote to our descriptor. */
function readBack(fd: number): string {
  const buffer = Buffer.alloc(16384);
  return buffer.toString('utf8', 0, readSync(fd, buffer, 0, buffer.length, 0));
}

/** A command in a message for people. Arguments that contain a whole program would hide the reason. */
const shown = (c: Command): string => (c.describe ? c.file : [c.file, ...c.args].join(' '));

function failure(c: Command, exit: number, signal: string | null, stderr: string): MayflyError {
  const how = signal ? `was killed by ${signal}` : `failed with exit code ${exit}`;
  const reason = stderr.trim().split('\n').slice(0, 4).join('; ');
  const message = `"${shown(c)}" ${how}${reason ? `: ${reason}` : ''}`;
  return new MayflyError('command', message, { file: c.file, args: c.args, exitCode: exit, stderr });
}

/**
 * Returns the output of a command that has ended; throws `command` if its exit code is not expected. `errors` is the
 * file that its stderr went to, if that was not a pipe.
 */
export function outputOf(
  c: Command,
  { code, signal }: { readonly code: number | null; readonly signal: string | null },
  said: { readonly stdout: string; readonly stderr: string; readonly errors: number | undefined },
): Output {
  const exit = code ?? 255;
  const stderr = said.errors !== undefined && exit !== 0 ? readBack(said.errors) : said.stderr;
  if (!(c.okCodes ?? [0]).includes(exit)) throw failure(c, exit, signal, stderr);
  return { code: exit, stdout: said.stdout, stderr };
}

/** The error for a command that could not be started: `missing-tool`, or the system error as it is. */
export function startFailure(c: Pick<Command, 'file'>, error: unknown): unknown {
  if (!isErrno(error, 'ENOENT')) return error;
  return new MayflyError('missing-tool', `the program "${c.file}" is not installed`, { tool: c.file });
}

export function notInTime(c: Command): MayflyError {
  return new MayflyError('timeout', `"${shown(c)}" did not finish in time; it was left running`);
}

export function refuseWithoutTime(c: Command, deadline: number): void {
  if (monotonic() > deadline) throw new MayflyError('timeout', `no time left to run "${c.file}"`);
}

/** Passes each line to `onLine` as it comes. The function it returns passes an unfinished last line and returns the last 64 KiB. */
export function followLines(stream: Readable | null, onLine: Command['onLine']): () => string {
  let last = '';
  let begun = ''; // an unfinished line
  stream?.setEncoding('utf8').on('data', (chunk: string) => {
    last = (last + chunk).slice(-65536); // the end says why a command failed
    if (!onLine) return;
    const lines = (begun + chunk).split(/[\r\n]+/);
    begun = lines.pop() ?? '';
    for (const line of lines) if (line) onLine(line);
  });
  return () => {
    if (begun) onLine?.(begun);
    begun = '';
    return last;
  };
}

/**
 * The program to start for a command, and its arguments. If the command closes inherited descriptors, timeout(1) runs
 * it, without a limit, and keeps them open until it ends.
 */
export function argvOf(c: Command): readonly [string, ...string[]] {
  if (!(c.closesInheritedFds && c.inheritFds?.length)) return [c.file, ...c.args];
  return ['timeout', '--foreground', '0', c.file, ...c.args];
}

/**
 * Opens an unnamed file for the stderr of a command; undefined if it needs a pipe. The file is cheaper than a pipe, and
 * a command that outlives us is not killed by SIGPIPE when it writes to it.
 */
export function openErrors(c: Command): number | undefined {
  return c.effect === 'write' && !c.onLine ? openUnnamed() : undefined;
}

/**
 * The output of the command that reads from a pipe. If both commands fail, one failure is a consequence of the other (a
 * broken pipe, or input that ends early), so the message has both.
 */
export async function bothEnds(reader: Promise<Output>, writer: Promise<Output>): Promise<Output> {
  const [read, written] = await Promise.allSettled([reader, writer]);
  if (read.status === 'fulfilled') {
    if (written.status === 'rejected') throw written.reason;
    return read.value;
  }
  const [first, second] = [read.reason, written.status === 'rejected' ? written.reason : undefined];
  const bothFailed = [first, second].every(e => e instanceof MayflyError && e.code === 'command');
  throw bothFailed ? new MayflyError('command', `${first.message}; ${second.message}`, first.facts) : first;
}
