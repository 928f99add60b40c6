/**
 * The runner of the agent. Starting a program takes milliseconds, and longer from a large process. A login needs two each time:
 * flock(1), and the program that mounts. A helper that is always there does both, in a child for each, without starting
 * anything; see `helper-program.ts`. Everything else is run as in a hook, and so are these two while there is no helper.
 */
import { fstatSync } from 'node:fs';
import { monotonic } from './clock.ts';
import { type Command, notInTime, outputOf, type Runner, refuseWithoutTime } from './command.ts';
import { type Helper, startHelper } from './helper-process.ts';
import { leanRunner } from './lean-runner.ts';
import { MOUNT_SCRIPT } from './mount-script.ts';

/** Milliseconds between two starts: a helper that lives longer is replaced at once when it ends. */
const RESTARTS_AFTER = 30_000;

/** Milliseconds before the next start if one cannot work, which is so in some containers. */
const RETRIED_AFTER = 600_000;

/** Milliseconds that a check takes at most. */
const CHECK_LIMIT = 3000;

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

/** Our descriptors for the helper, each with its file; undefined if one is not open. */
function descriptors(fds: readonly number[]): string | undefined {
  try {
    return fds
      .map(fd => {
        const { dev, ino } = fstatSync(fd, { bigint: true });
        return `${fd}=${dev}:${ino}`;
      })
      .join();
  } catch {
    return undefined;
  }
}

export interface HelperRunner extends Runner {
  /** Replaces a helper that does not answer. Never rejects, and takes a few seconds at most. */
  check(): Promise<void>;
}

/** A runner with a helper, and with another one when that ends. Resolves when it is known whether the first can work. */
export async function helperRunner(
  other: Runner = leanRunner,
  now: () => number = monotonic,
): Promise<HelperRunner> {
  let helper: Helper | undefined;
  let starting: Promise<void> | undefined;
  let notBefore = 0;
  const start = (): Promise<void> => {
    notBefore = now() + RESTARTS_AFTER;
    // Without descriptors left for its streams, nothing can be started at all.
    starting = startHelper().catch(() => undefined).then(started => {
      helper = started;
      if (started === undefined) notBefore = now() + RETRIED_AFTER;
      starting = undefined;
    });
    return starting;
  };
  /** None while a new one starts: nobody waits for it. */
  const usable = (): Helper | undefined => {
    if (helper?.isUsable()) return helper;
    if (starting === undefined && now() >= notBefore) void start();
    return undefined;
  };
  await start();
  return {
    async check() {
      await usable()?.ask(['answer', ''], monotonic() + CHECK_LIMIT);
      usable();
    },
    async run(c, deadline) {
      const [what, ...rest] = jobOf(c) ?? [];
      const taken = what === undefined ? undefined : descriptors(c.inheritFds ?? []);
      const by = taken === undefined ? undefined : usable();
      if (what === undefined || taken === undefined || by === undefined) return other.run(c, deadline);
      refuseWithoutTime(c, deadline);
      const result = await by.ask([what, taken, ...rest], deadline);
      if (result === 'nothing done') return other.run(c, deadline);
      // Whoever gets a lock twice has it: a child that was killed, or whose answer nobody hears, decides nothing.
      const isUndecided = result === 'unknown' || (what === 'lock' && result.code > 128);
      if (isUndecided && what === 'lock' && monotonic() < deadline) return other.run(c, deadline);
      if (result === 'unknown') throw notInTime(c);
      return outputOf(
        c,
        { code: result.code, signal: null },
        { stdout: '', stderr: result.stderr, errors: undefined },
      );
    },
  };
}
