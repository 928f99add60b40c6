/** A program of ours that runs beside this one for as long as this one does: its standard input ends with us. */
import { spawn } from 'node:child_process';
import { TOOL_ENV } from './command.ts';

export interface Worker {
  /** Asks whether it still answers. */
  ask(): void;
  /** Closes its standard input: it ends when it has nothing to do. */
  release(): void;
  kill(): void;
}

export interface WorkerEvents {
  /** Called once, with words for a failure or undefined. */
  ended(failure: string | undefined): void;
  answered(): void;
}

/** Starts Node.js with these arguments. */
export function startWorker(args: readonly string[], { ended, answered }: WorkerEvents): Worker {
  const child = spawn(process.execPath, args, {
    env: TOOL_ENV,
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.on('error', () => undefined); // it has ended
  child.stdout.on('data', answered);
  let isOver = false;
  const end = (failure: string | undefined): void => {
    if (!isOver) ended(failure);
    isOver = true;
  };
  child.on('error', error => end(error.message));
  child.on('exit', (code, signal) => end(code === 0 ? undefined : `it ended with ${signal ?? code}`));
  return {
    ask: () => void child.stdin.write('?'),
    release: () => void child.stdin.end(),
    kill: () => void child.kill('SIGKILL'),
  };
}
