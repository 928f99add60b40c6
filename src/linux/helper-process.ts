/** A helper of the agent, and what is said to it: see `helper-program.ts`. */
import type { Readable } from 'node:stream';
import { monotonic } from './clock.ts';
import { TOOL_ENV } from './command.ts';
import { HELPER_PROGRAM } from './helper-program.ts';
import { MOUNT_SCRIPT } from './mount-script.ts';

/** The numbers of pidfd_open(2) and pidfd_getfd(2), which are the same on all architectures but MIPS. */
const PIDFD = process.arch.startsWith('mips') ? ['5434', '5438'] : ['434', '438'];

/** Says that a child begins. */
const BEGUN = 999;

/** The exit code where nothing has been done. */
const NOTHING_DONE = 121;

/** Milliseconds within which a helper says that it begins. One that does not is hung. */
const BEGINS_WITHIN = 1000;

/** Milliseconds within which a new helper says whether it can work. */
const STARTS_WITHIN = 5000;

/** The bytes of a request. Pure. */
export function requestBytes(id: number, fields: readonly string[]): Buffer {
  const body = Buffer.from(fields.map(field => `${field}\0`).join(''));
  return Buffer.concat([Buffer.from(`${id} ${fields.length} ${body.length}\n`), body]);
}

interface Answer {
  readonly code: number;
  readonly stderr: string;
}

/** Cuts complete answers off the beginning of what was received. Pure. */
export function takeAnswers(received: Buffer): { answers: (Answer & { id: number })[]; rest: Buffer } {
  const answers: (Answer & { id: number })[] = [];
  let rest = received;
  for (;;) {
    const end = rest.indexOf(10);
    const [id, code, length] = rest.toString('latin1', 0, Math.max(0, end)).split(' ').map(Number);
    if (end < 0 || id === undefined || code === undefined || length === undefined) return { answers, rest };
    if (rest.length < end + 1 + length) return { answers, rest };
    answers.push({ id, code, stderr: rest.toString('utf8', end + 1, end + 1 + length) });
    rest = rest.subarray(end + 1 + length);
  }
}

/** What became of a request; 'unknown': it may still be at work. */
type Result = Answer | 'nothing done' | 'unknown';

export interface Helper {
  /** False once it has ended, or did not answer in time and was killed. What its children do, they complete. */
  isUsable(): boolean;
  /** Never rejects, and resolves at the deadline at the latest. What was not begun by then never will be. */
  ask(fields: readonly string[], deadline: number): Promise<Result>;
}

interface Waiting {
  isBegun: boolean;
  tell(result: Result): void;
}

/** Starts a helper, which ends with this process. Undefined if it cannot work here. */
export async function startHelper(): Promise<Helper | undefined> {
  const { spawn } = await import('node:child_process');
  const args = ['-e', HELPER_PROGRAM, '--', `${process.pid}`, ...PIDFD, MOUNT_SCRIPT];
  const stdio = ['pipe', 'pipe', 'ignore', 'pipe'] as const;
  const child = spawn('perl', args, { env: TOOL_ENV, cwd: '/', stdio: [...stdio] });
  child.on('error', () => undefined); // it could not be started: its streams end
  const waiting = new Map<number, Waiting>();
  let isUsable = true;
  const kill = (): void => {
    isUsable = false;
    child.kill('SIGKILL');
  };
  const hear = (stream: Readable, over: () => void): void => {
    let received: Buffer = Buffer.alloc(0);
    stream.on('data', (chunk: Buffer) => {
      const { answers, rest } = takeAnswers(Buffer.concat([received, chunk]));
      received = rest;
      for (const answer of answers) {
        const request = waiting.get(answer.id);
        if (request) request.isBegun = true;
        if (answer.code === BEGUN) continue;
        request?.tell(answer.code === NOTHING_DONE ? 'nothing done' : answer);
      }
    });
    stream.on('error', () => undefined).on('close', over);
  };
  const input = child.stdin as NonNullable<typeof child.stdin>;
  input.on('error', () => undefined); // it has ended
  // Whatever it has said is heard before the stream ends, so it is known what has not begun.
  hear(child.stdout as Readable, () => {
    isUsable = false;
    for (const request of waiting.values()) if (!request.isBegun) request.tell('nothing done');
  });
  hear(child.stdio[3] as Readable, () => {
    for (const request of waiting.values()) if (request.isBegun) request.tell('unknown'); // its child was killed, too
  });
  let last = 0;
  const wait = (id: number, within: number, deadline: number): Promise<Result> =>
    new Promise(resolve => {
      const timers: NodeJS.Timeout[] = [];
      const request: Waiting = {
        isBegun: false,
        tell(result) {
          for (const timer of timers) clearTimeout(timer);
          waiting.delete(id);
          resolve(result);
        },
      };
      waiting.set(id, request);
      const isLate = (): void => {
        if (waiting.has(id) && !request.isBegun) kill();
      };
      // If this thread was busy, it has not read the answer yet.
      timers.push(setTimeout(() => setImmediate(isLate), within));
      const left = Math.max(0, deadline - monotonic());
      const giveUp = (): void => {
        isLate();
        request.tell('unknown');
      };
      if (Number.isFinite(left)) timers.push(setTimeout(giveUp, left));
    });
  const first = await wait(0, STARTS_WITHIN, monotonic() + 2 * STARTS_WITHIN);
  if (typeof first === 'string' || first.code !== 0) {
    kill();
    return undefined;
  }
  return {
    isUsable: () => isUsable,
    async ask(fields, deadline) {
      if (!isUsable) return 'nothing done';
      const id = ++last;
      input.write(requestBytes(id, fields));
      return wait(id, BEGINS_WITHIN, deadline);
    },
  };
}
