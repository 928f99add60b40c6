/** A program of ours that runs beside this one for as long as this one does: its standard input ends with us. */
import { spawn } from 'node:child_process';
import { TOOL_ENV } from './command.ts';

export interface Worker {
  /** Closes its standard input: it ends when it has nothing to do. */
  release(): void;
}

/** Starts Node.js with these arguments; `ended` is called once, with words for a failure or undefined. */
export function startWorker(args: readonly string[], ended: (failure: string | undefined) => void): Worker {
  const child = spawn(process.execPath, args, {
    env: TOOL_ENV,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  child.stdin.on('error', () => undefined); // it has ended
  let isOver = false;
  const end = (failure: string | undefined): void => {
    if (!isOver) ended(failure);
    isOver = true;
  };
  child.on('error', error => end(error.message));
  child.on('exit', (code, signal) => end(code === 0 ? undefined : `it ended with ${signal ?? code}`));
  return { release: () => void child.stdin.end() };
}
