/** A trial login with the stable generation: started, checked and ended in the same way as by an update. */

import { reasonOf } from '../../errors.ts';
import { type Generation, readStable } from '../../state/generations.ts';
import type { Machine } from '../../state/machine.ts';
import { checkGeneration } from '../../update/check.ts';
import { type Examination, found, fromError, problem, warning } from './check.ts';
import { goodGenerations, replacementFor } from './generations.ts';

/**
 * The only check that changes something, so `on` must have a host that can write. Leaves nothing behind. `user`: who logs
 * in, if not the trial user of updates: rules of PAM, groups and homes differ between people.
 */
export async function trialLogin(machine: Machine, user?: string): Promise<Examination> {
  const { config } = machine;
  const on =
    user === undefined ? machine : { ...machine, config: { ...config, check: { ...config.check, user } } };
  const named = { group: 'trial login', title: 'stable' };
  try {
    const stable = readStable(on.host, on.paths);
    const began = on.host.monotonic();
    const findings = await checkGeneration(on, stable, () => undefined).then(
      ({ warnings }) => warnings.map(w => warning(w, 'mayfly update')),
      async error => [problem(reasonOf(error), await fixFor(on, stable, error))],
    );
    const seconds = ((on.host.monotonic() - began) / 1000).toFixed(1);
    return { ...named, ...found(findings, `generation ${stable.number}, in ${seconds} s`) };
  } catch (error) {
    return { ...named, ...found([fromError(error)], '') };
  }
}

/** An error with a cause kept the session from starting, which the machine may be to blame for; others come from the generation. */
async function fixFor(on: Machine, stable: Generation, error: unknown): Promise<string> {
  const { cause } = error instanceof Error ? error : {};
  return cause === undefined
    ? replacementFor(await goodGenerations(on), stable.number)
    : fromError(cause).fix;
}
