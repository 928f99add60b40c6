/**
 * The runner of the command line and the service, by execa. What it starts works on storage and outlives us, so what
 * execa does by default to keep order among children is set aside, each with its reason.
 */
import { constants as bufferLimits } from 'node:buffer';
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { execa, type Options } from 'execa';
import { MayflyError } from '../errors.ts';
import {
  argvOf,
  bothEnds,
  type Command,
  followLines,
  notInTime,
  type Output,
  openErrors,
  outputOf,
  type Runner,
  refuseWithoutTime,
  startFailure,
  TOOL_ENV,
  TOOL_PATH,
} from './command.ts';

/** For everything that is started. There is no `timeout` either: execa's kills. */
const OURS = {
  cleanup: false, // else a storage command would be killed when we end
  forceKillAfterDelay: false, // else whoever is passed a SIGTERM would be killed five seconds later
  extendEnv: false, // else the caller's variables would reach programs of root
  preferLocal: false,
  reject: false, // errors are worded by the functions that both runners share
  stripFinalNewline: false, // what a program prints is given as it is
  verbose: 'none', // else NODE_DEBUG=execa in the caller's environment would print every command
} as const satisfies Options;

const PLAIN = {
  ...OURS,
  env: TOOL_ENV,
  cwd: '/',
  maxBuffer: bufferLimits.MAX_STRING_LENGTH, // else 100 MB of output would be an error
} as const satisfies Options;

type Child = ReturnType<typeof start>;

type Stdio = readonly ('ignore' | 'pipe' | Readable | number)[];

function start([file, ...args]: readonly [string, ...string[]], stdio: Stdio, keepStdout = true) {
  return execa(file, args, {
    ...PLAIN,
    stdio: stdio as Options['stdio'], // whose type lacks the descriptors that it does take
    buffer: { stdout: keepStdout, stderr: false }, // stderr is read line by line, and its last words are kept
  });
}

async function waitFor(child: Child, c: Command, deadline: number, errors?: number): Promise<Output> {
  const lastWords = followLines(child.stderr ?? null, c.onLine);
  const end = await withDeadline(child, deadline);
  if (end === undefined) {
    child.unref();
    for (const stream of child.stdio) stream?.destroy();
    throw notInTime(c);
  }
  refuseUnlessRun(c, end);
  const stdout = typeof end.stdout === 'string' ? end.stdout : '';
  return outputOf(
    c,
    { code: end.exitCode ?? null, signal: end.signal ?? null },
    { stdout, stderr: lastWords(), errors },
  );
}

/** Undefined where the time is over first. */
async function withDeadline(child: Child, deadline: number): Promise<Awaited<Child> | undefined> {
  const left = deadline - Date.now();
  if (!Number.isFinite(left)) return child;
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<undefined>(resolve => {
    timer = setTimeout(resolve, Math.max(0, left), undefined);
  });
  return Promise.race([child, over]).finally(() => clearTimeout(timer));
}

/** execa names a cause where it was not the command's own end: it did not start, or its output could not be read. */
function refuseUnlessRun(c: Pick<Command, 'file'>, end: Awaited<Child>): void {
  if (end.cause !== undefined) throw startFailure(c, end.cause);
}

async function run(c: Command, deadline: number): Promise<Output> {
  refuseWithoutTime(c, deadline);
  const source =
    c.pipeFrom && start([c.pipeFrom.file, ...c.pipeFrom.args], ['ignore', 'pipe', 'pipe'], false);
  const errors = openErrors(c);
  try {
    // The kernel's own pipe, not execa's: what flows does not pass through us, and goes on when we have ended.
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

/** Signals that ask us to stop; the program at the terminal decides what to do about them. */
const STOP_SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];

/** Has started its child when it returns: callers put themselves into a control group for that moment. */
async function runInteractive(c: Pick<Command, 'file' | 'args'>, own: boolean): Promise<number> {
  const env = { ...process.env, PATH: TOOL_PATH };
  const child = execa(c.file, c.args, { ...OURS, env, stdio: 'inherit', detached: own });
  const pass = (signal: NodeJS.Signals): void => {
    child.kill(signal);
  };
  for (const signal of STOP_SIGNALS) process.on(signal, pass);
  const end = await child;
  for (const signal of STOP_SIGNALS) process.off(signal, pass);
  if (end.cause !== undefined) {
    const reason = end.cause instanceof Error ? end.cause.message : String(end.cause);
    throw new MayflyError('missing-tool', `"${c.file}" could not be started: ${reason}`, { tool: c.file });
  }
  return end.exitCode ?? 128 + (end.signal ? constants.signals[end.signal] : 0); // as shells report it
}

export const execaRunner: Runner = { run, runInteractive };
