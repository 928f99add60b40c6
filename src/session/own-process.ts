/**
 * The agent answers all hooks in one thread, and a look at a dead file server would stop all of them. So it looks at nothing
 * that may hang: a call that must is left to a process of its own, as all calls are where there is no agent. Then only that
 * one hangs, and its watchdog ends it.
 */
import { isRemote, mayHang, unsureMounts } from '../linux/remote.ts';
import type { Machine } from '../state/machine.ts';

const NAME = 'NeedsOwnProcess';

/** The exit code that tells the client of the agent to run the hook itself. */
export const RUN_IT_YOURSELF = 120;

/** Nothing has been done that the hook, started anew, does not find. */
class NeedsOwnProcess extends Error {
  override readonly name = NAME;
}

/** Compares the name, because each bundle that is loaded on use has a copy of the class. */
export function needsOwnProcess(error: unknown): boolean {
  return error instanceof Error && error.name === NAME;
}

/**
 * In the agent: throws an error for which {@link needsOwnProcess} holds if a look at one of `paths` may hang. Without
 * `paths`: if any look at a path of people may.
 */
export function leaveWhatMayHang(
  { host, client, unsure }: Pick<Machine, 'host' | 'client' | 'unsure'>,
  paths?: readonly string[],
): void {
  if (client === undefined) return;
  if (paths === undefined && mayHang(host)) throw new NeedsOwnProcess('a look at a file server may hang');
  if (paths === undefined) return;
  const mounts = unsure ?? unsureMounts(host);
  const found = paths.find(path => isRemote(host, path, mounts));
  if (found !== undefined) throw new NeedsOwnProcess(`a look at "${found}" may hang`);
}
