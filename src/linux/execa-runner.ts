/**
 * The runner of the command line and the service. It uses execa, and changes those of its defaults that would harm
 * commands which change storage and may outlive us.
 */

import { constants as bufferLimits } from 'node:buffer';
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { execa, type Options } from 'execa';
import { MayflyError } from '../errors.ts';
import { monotonic } from './clock.ts';
import {
  argvOf,
  bothEnds,
  type Command,
  followLines,
  notInTime,
  OUT_OF_TIME,
  type Output,
  openErrors,
  outputOf,
  type Runner,
  refuseWithoutTime,
  startFailure,
  TOOL_ENV,
} from './command.ts';

/** For every program. The option `timeout` is not used either, because it kills. */
const OURS = {
  cleanup: false, // true kills the command when this process ends, in the middle of a storage change
  forceKillAfterDelay: false, // the default sends SIGKILL five seconds after a SIGTERM that we pass on
  extendEnv: false, // true passes the caller's variables to programs that run as root
  preferLocal: false, // true would look for programs in node_modules/.bin first
  reject: false, // the functions that both runners share create the errors
  stripFinalNewline: false, // true changes the output
  verbose: 'none', // the default prints every command if the caller's environment has NODE_DEBUG=execa
} as const satisfies Options;

const PLAIN = {
  ...OURS,
  env: TOOL_ENV,
  cwd: '/',
  maxBuffer: bufferLimits.MAX_STRING_LENGTH, // the default fails after 100 MB of output
} as const satisfies Options;

type Child = ReturnType<typeof start>;

type Stdio = readonly ('ignore' | 'pipe' | Readable | number)[];

function start([file, ...args]: readonly [string, ...string[]], stdio: Stdio, keepStdout = true) {
  return execa(file, args, {
    ...PLAIN,
    stdio: stdio as Options['stdio'], // the type lacks descriptors, which execa accepts
    buffer: { stdout: keepStdout, stderr: false }, // followLines reads stderr
  });
}

async function waitFor(child: Child, c: Command, deadline: number, errors?: number): Promise<Output> {
  const lastWords = followLines(child.stderr ?? null, c.onLine);
  const limit = c.limit === undefined ? Number.POSITIVE_INFINITY : monotonic() + c.limit;
  let part = '';
  if (c.limit !== undefined)
    child.stdout?.on('data', data => {
      part += data;
    });
  const end = await withDeadline(child, Math.min(limit, deadline));
  if (end === undefined) {
    child.unref();
    for (const stream of child.stdio) stream?.destroy();
    if (deadline <= limit) throw notInTime(c);
    child.kill('SIGKILL');
    child.catch(() => undefined); // its streams were closed
    return { code: OUT_OF_TIME, stdout: part, stderr: '' };
  }
  refuseUnlessRun(c, end);
  const stdout = typeof end.stdout === 'string' ? end.stdout : '';
  return outputOf(
    c,
    { code: end.exitCode ?? null, signal: end.signal ?? null },
    { stdout, stderr: lastWords(), errors },
  );
}

/** Undefined if the deadline passes first. */
async function withDeadline(child: Child, deadline: number): Promise<Awaited<Child> | undefined> {
  const left = deadline - monotonic();
  if (!Number.isFinite(left)) return child;
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<undefined>(resolve => {
    timer = setTimeout(resolve, Math.max(0, left), undefined);
  });
  return Promise.race([child, over]).finally(() => clearTimeout(timer));
}

/** execa sets `cause` if the command was not started or its output could not be read. */
function refuseUnlessRun(c: Pick<Command, 'file'>, end: Awaited<Child>): void {
  if (end.cause !== undefined) throw startFailure(c, end.cause);
}

async function run(c: Command, deadline: number): Promise<Output> {
  refuseWithoutTime(c, deadline);
  const source =
    c.pipeFrom && start([c.pipeFrom.file, ...c.pipeFrom.args], ['ignore', 'pipe', 'pipe'], false);
  const errors = openErrors(c);
  try {
    // A pipe of the kernel instead of execa's `pipe`: the data does not pass through this process.
    const input = source?.stdout ?? 'ignore';
    const output = c.effect === 'read' ? 'pipe' : 'ignore';
    const child = start(argvOf(c), [input, output, errors ?? 'pipe', ...(c.inheritFds ?? [])]);
    if (c.background) {
      child.unref();
      const started = new Promise<undefined>(resolve => child.once('spawn', () => resolve(undefined)));
      const end = await Promise.race([started, child]);
      if (end) refuseUnlessRun(c, end);
      return { code: 0, stdout: '', stderr: '' };
    }
    source?.stdout?.destroy(); // the child has its own copy of the pipe; ours would keep it open
    const end = waitFor(child, c, deadline, errors);
    if (!source || !c.pipeFrom) return await end;
    return await bothEnds(end, waitFor(source, { ...c.pipeFrom, effect: 'write' }, deadline));
  } finally {
    if (errors !== undefined) closeSync(errors);
  }
}

/** Signals that ask this process to stop; they are passed to the program, which decides what to do. */
const STOP_SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];

/** The program is started when this returns: `insideGroup` in cli/run.ts relies on it. */
async function runInteractive(c: Pick<Command, 'file' | 'args'>, own: boolean): Promise<number> {
  // The caller's HOME, TMPDIR, locale or SUDO_USER name what a copy or a session does not have.
  const { TERM = 'dumb', COLORTERM } = process.env;
  const env = { ...TOOL_ENV, TERM, ...(COLORTERM === undefined ? {} : { COLORTERM }) };
  let child: { kill(signal: NodeJS.Signals): boolean } | undefined;
  const pass = (signal: NodeJS.Signals): void => {
    child?.kill(signal);
  };
  // Before the start: a signal right after it must not end this process and leave the program behind.
  for (const signal of STOP_SIGNALS) process.on(signal, pass);
  const running = execa(c.file, c.args, { ...OURS, env, stdio: 'inherit', detached: own });
  child = running;
  const end = await running;
  for (const signal of STOP_SIGNALS) process.off(signal, pass);
  if (end.cause !== undefined) {
    const reason = end.cause instanceof Error ? end.cause.message : String(end.cause);
    throw new MayflyError('missing-tool', `cannot start "${c.file}": ${reason}`, { tool: c.file });
  }
  return end.exitCode ?? 128 + (end.signal ? constants.signals[end.signal] : 0); // as shells report it
}

export const execaRunner: Runner = { run, runInteractive };
