/** Keeps a hook waiting that has been started ahead, so that nobody waits for Node.js at a login. */
import { startWorker, type Worker } from '../linux/worker.ts';
import type { Machine } from '../state/machine.ts';
import { standbyDirectory } from '../state/paths.ts';

/** How long to wait before the next one is started if the last one failed, in milliseconds. */
const AFTER_FAILURE = 30_000;

export interface Standby {
  /** Starts one if none waits. */
  keep(on: Machine): void;
  /** Lets the one that waits end. */
  close(): void;
}

/** `program`: the file that the hooks run. */
export function standbyProcess(program: string): Standby {
  let worker: Worker | undefined;
  let notBefore = 0;
  let isClosed = false;
  const keep = (on: Machine): void => {
    const { host, log } = on;
    const directory = standbyDirectory(on.paths);
    if (worker !== undefined || isClosed || host.monotonic() < notBefore) return;
    host.mkdir(directory, 0o700);
    host.own(directory, 0o700);
    // Left behind by one that was killed.
    for (const name of host.list(directory)) host.unlink(`${directory}/${name}`);
    worker = startWorker(['--v8-pool-size=1', program, 'standby', directory], failure => {
      worker = undefined;
      if (failure === undefined) return keep(on);
      notBefore = host.monotonic() + AFTER_FAILURE;
      log('warning', `the hook that was started ahead has failed: ${failure}`);
    });
  };
  return {
    keep,
    close() {
      isClosed = true;
      worker?.release();
    },
  };
}
