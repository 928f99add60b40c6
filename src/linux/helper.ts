/**
 * The runner of the agent. Starting a program takes milliseconds, and longer from a large process. A login needs two each time:
 * flock(1), and the program that mounts. A helper that is always there does both, in a child for each, without starting
 * anything; see `helper-program.ts`. Everything else is run as in a hook, and so are these two without a helper.
 */
import { monotonic } from './clock.ts';
import {
  type Command,
  notInTime,
  type Output,
  outputOf,
  type Runner,
  refuseWithoutTime,
  TOOL_ENV,
} from './command.ts';
import { HELPER_PROGRAM } from './helper-program.ts';
import { leanRunner } from './lean-runner.ts';
import { MOUNT_SCRIPT } from './mount-script.ts';

/** The numbers of pidfd_open(2) and pidfd_getfd(2), which are the same on all architectures but MIPS. */
const PIDFD = process.arch.startsWith('mips') ? ['5434', '5438'] : ['434', '438'];

/** Says that a child has begun. */
const BEGUN = 999;

/** Milliseconds within which it says so. A helper that does not is hung, and is not asked again. */
const BEGINS_WITHIN = 1000;

/** The exit code of a child that has no copy of a descriptor. */
const NOTHING_DONE = 121;

/** What the helper does for a command: a word, then arguments; undefined if it is no command for it. Pure. */
export function jobOf(c: Command): readonly string[] | undefined {
  if (c.pipeFrom || c.background || c.onLine || c.limit !== undefined || c.closesInheritedFds)
    return undefined;
  if (c.file === 'flock') {
    const [x, wait, ...rest] = c.args;
    const seconds = wait === '-w' ? Math.ceil(Number(rest.shift())) : 0;
    const [e, code = '', fd] = rest;
    const isKnown = x === '-x' && (wait === '-w' || wait === '-n') && e === '-E' && fd === '3';
    return isKnown && c.inheritFds?.length === 1 ? ['lock', `${seconds}`, code] : undefined;
  }
  const [dash, program, dashes, ...args] = c.args;
  const isMount = c.file === 'perl' && dash === '-e' && program === MOUNT_SCRIPT && dashes === '--';
  return isMount && !args.includes('enter') ? ['mount', ...args] : undefined;
}

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

/** Undefined: the helper has ended, and nobody knows what became of the request. */
type Waiting = (answer: Answer | undefined) => void;

/** A runner with a helper, which ends with this process. Resolves when it is known whether the helper can work. */
export async function helperRunner(other: Runner = leanRunner): Promise<Runner> {
  const { spawn } = await import('node:child_process');
  const args = ['-e', HELPER_PROGRAM, '--', `${process.pid}`, ...PIDFD, MOUNT_SCRIPT];
  const child = spawn('perl', args, { env: TOOL_ENV, cwd: '/', stdio: 'pipe' });
  const waiting = new Map<number, Waiting>();
  const begun = new Map<number, () => void>();
  let received: Buffer = Buffer.alloc(0);
  let isUsable = true;
  const end = (): void => {
    isUsable = false;
    for (const tell of waiting.values()) tell(undefined);
    waiting.clear();
  };
  child.on('error', end).on('close', end);
  child.stdin.on('error', end);
  child.stderr.resume();
  child.stdout.on('data', (chunk: Buffer) => {
    const { answers, rest } = takeAnswers(Buffer.concat([received, chunk]));
    received = rest;
    for (const answer of answers) {
      if (answer.code === BEGUN) {
        begun.get(answer.id)?.();
        continue;
      }
      waiting.get(answer.id)?.(answer);
      waiting.delete(answer.id);
    }
  });
  let last = 0;
  const answerTo = (id: number): Promise<Answer | undefined> =>
    new Promise(resolve => waiting.set(id, resolve));
  const ask = async (c: Command, job: readonly string[], deadline: number): Promise<Output> => {
    refuseWithoutTime(c, deadline);
    const [what = '', ...rest] = job;
    const id = ++last;
    const answered = answerTo(id);
    child.stdin.write(requestBytes(id, [what, (c.inheritFds ?? []).join(','), ...rest]));
    const late = setTimeout(() => {
      isUsable = false;
      child.kill('SIGKILL'); // what its children do, they complete
    }, BEGINS_WITHIN);
    let isBegun = false;
    begun.set(id, () => {
      isBegun = true;
      clearTimeout(late);
    });
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<undefined>(resolve => {
      const left = deadline - monotonic();
      if (Number.isFinite(left)) timer = setTimeout(resolve, Math.max(0, left), undefined);
    });
    const answer = await Promise.race([answered, over]);
    for (const t of [timer, late]) clearTimeout(t);
    waiting.delete(id);
    begun.delete(id);
    // Whoever gets the lock twice has it.
    if (answer === undefined && what === 'lock' && !isBegun) return other.run(c, deadline);
    if (answer === undefined) throw notInTime(c); // it may still be at work
    if (answer.code === NOTHING_DONE) return other.run(c, deadline);
    return outputOf(
      c,
      { code: answer.code, signal: null },
      { stdout: '', stderr: answer.stderr, errors: undefined },
    );
  };
  const first = await answerTo(0);
  if (first?.code !== 0) isUsable = false;
  if (!isUsable) child.stdin.end();
  return {
    run(c, deadline) {
      const job = isUsable ? jobOf(c) : undefined;
      return job === undefined ? other.run(c, deadline) : ask(c, job, deadline);
    },
  };
}
