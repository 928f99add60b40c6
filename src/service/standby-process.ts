/** Keeps a hook waiting that has been started ahead, so that nobody waits for Node.js at a login. */
import { reasonOf } from '../errors.ts';
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
  const failed = ({ host, log }: Machine, reason: string): void => {
    notBefore = host.monotonic() + AFTER_FAILURE;
    log('warning', `no hook could be started ahead: ${reason}`);
  };
  const start = (on: Machine): void => {
    const { host } = on;
    const directory = standbyDirectory(on.paths);
    host.mkdir(directory, 0o700);
    host.own(directory, 0o700);
    // Left behind by one that was killed.
    for (const name of host.list(directory)) host.unlink(`${directory}/${name}`);
    worker = startWorker(['--v8-pool-size=1', program, 'standby', directory], failure => {
      worker = undefined;
      if (failure === undefined) keep(on);
      else failed(on, failure);
    });
  };
  // Without it logins only take longer, so no failure ends the service.
  const keep = (on: Machine): void => {
    if (worker !== undefined || isClosed || on.host.monotonic() < notBefore) return;
    try {
      start(on);
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
