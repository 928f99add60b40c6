/** Keeps the agent running, which answers the hooks: see `session/agent.ts`. */
import { reasonOf } from '../errors.ts';
import { startWorker, type Worker } from '../linux/worker.ts';
import type { Machine } from '../state/machine.ts';
import { agentDirectory } from '../state/paths.ts';

/** How long to wait before the next one is started if the last one failed, in milliseconds. */
const AFTER_FAILURE = 30_000;

/** How often it is said that the agent fails, in milliseconds. */
const SAID_EVERY = 3_600_000;

/** After how many milliseconds without an answer the agent counts as hung. Hooks wait for half a second and do without it. */
export const HUNG_AFTER = 20_000;

/**
 * One thread for compiling and collecting garbage in the background; and collections of what is short-lived after 2 MB of it
 * instead of 16: after hundreds of logins it has half of the memory (26 instead of 50 MB).
 */
const LEAN = ['--v8-pool-size=1', '--max-semi-space-size=2'];

export interface AgentKeeper {
  /** Starts the agent unless it runs. One that does not answer any more is ended. */
  keep(on: Machine): void;
  /** Lets it complete what it does, and end. */
  close(): void;
}

/** `program`: the file that the hooks run. `file`: the configuration, with which the agent warms up. */
export function agentKeeper(program: string, file: string, start = startWorker): AgentKeeper {
  let worker: Worker | undefined;
  let notBefore = 0;
  let saidAt = Number.NEGATIVE_INFINITY;
  /** The question that has not been answered: when it was asked, and whether that has been noticed. */
  let asked: { readonly at: number; isLate: boolean } | undefined;
  let isClosed = false;
  const failed = ({ host, log }: Machine, reason: string): void => {
    const now = host.monotonic();
    notBefore = now + AFTER_FAILURE;
    const isNews = now - saidAt >= SAID_EVERY;
    if (isNews) saidAt = now;
    const words = `hooks start Node.js themselves, which takes longer: the agent failed: ${reason}`;
    log(isNews ? 'warning' : 'debug', words);
  };
  const begin = (on: Machine): void => {
    const { host } = on;
    const directory = agentDirectory(file, on.paths);
    host.mkdir(directory.slice(0, directory.lastIndexOf('/')), 0o755);
    host.mkdir(directory, 0o700);
    host.own(directory, 0o700);
    // Left behind by one that was killed.
    for (const name of host.list(directory)) host.unlink(`${directory}/${name}`);
    asked = undefined;
    const own = start([...LEAN, program, 'agent', directory, file], {
      ended(failure) {
        if (worker === own) worker = undefined;
        if (!isClosed) failed(on, failure ?? 'it has ended');
      },
      answered() {
        asked = undefined;
      },
    });
    worker = own;
  };
  // Without it logins only take longer, so no failure ends the service.
  const keep = (on: Machine): void => {
    if (isClosed) return;
    const now = on.host.monotonic();
    if (worker !== undefined) {
      if (asked === undefined) {
        asked = { at: now, isLate: false };
        worker.ask();
      } else if (asked.isLate) {
        on.log('warning', `the agent did not answer for ${HUNG_AFTER / 1000} s, and is replaced`);
        worker.kill();
        worker = undefined;
      } else {
        // If the service itself was stopped, it has not read the answer yet.
        asked.isLate = now - asked.at > HUNG_AFTER;
      }
      return;
    }
    if (now < notBefore) return;
    try {
      begin(on);
    } catch (error) {
      failed(on, reasonOf(error));
    }
  };
  return {
    keep,
    close() {
      isClosed = true;
      worker?.release();
    },
  };
}
