/** The runner of commands for hooks. It loads only Node's built-in modules. */
import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
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

/** Waits for a child; after the deadline it is left running. */
function waitFor(child: ChildProcess, c: Command, deadline: number, errors?: number): Promise<Output> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    const left = deadline - monotonic();
    const isLimited = c.limit !== undefined && c.limit < left;
    const giveUp = (): void => {
      child.unref();
      for (const stream of child.stdio) stream?.destroy();
      if (isLimited) {
        child.kill('SIGKILL');
        resolve({ code: OUT_OF_TIME, stdout, stderr: '' });
      } else reject(notInTime(c));
    };
    const wait = isLimited ? c.limit : left;
    const timer = Number.isFinite(wait) ? setTimeout(giveUp, Math.max(0, wait)) : undefined;
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    const lastWords = followLines(child.stderr, c.onLine);
    child.on('error', error => {
      clearTimeout(timer);
      reject(startFailure(c, error));
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      try {
        resolve(outputOf(c, { code, signal }, { stdout, stderr: lastWords(), errors }));
      } catch (error) {
        reject(error);
      }
    });
  });
}

async function run(c: Command, deadline: number): Promise<Output> {
  refuseWithoutTime(c, deadline);
  const { spawn } = await import('node:child_process'); // costs milliseconds, so only if a command is run
  const options = { env: TOOL_ENV, cwd: '/' };
  const source =
    c.pipeFrom && spawn(c.pipeFrom.file, c.pipeFrom.args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  const errors = openErrors(c);
  try {
    const input = source?.stdout ?? 'ignore';
    const output = c.effect === 'read' ? 'pipe' : 'ignore';
    const [file, ...args] = argvOf(c);
    const child = spawn(file, args, {
      ...options,
      stdio: [input, output, errors ?? 'pipe', ...(c.inheritFds ?? [])],
    });
    if (c.background) {
      child.unref();
      await new Promise((started, failed) =>
        child.once('spawn', started).once('error', error => failed(startFailure(c, error))),
      );
      return { code: 0, stdout: '', stderr: '' };
    }
    source?.stdout?.destroy(); // the child has its own copy of the pipe, and ours would keep it open
    const end = waitFor(child, c, deadline, errors);
    if (!source || !c.pipeFrom) return await end;
    return await bothEnds(end, waitFor(source, { ...c.pipeFrom, effect: 'write' }, deadline));
  } finally {
    if (errors !== undefined) closeSync(errors);
  }
}

/** The runner for hooks. */
export const leanRunner: Runner = { run };
