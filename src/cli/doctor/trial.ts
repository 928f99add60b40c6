/** The proof: a trial login with the stable generation, made, looked into and taken down as updates do it. */

import { reasonOf } from '../../errors.ts';
import { type Generation, readStable } from '../../state/generations.ts';
import type { Machine } from '../../state/machine.ts';
import { checkGeneration } from '../../update/check.ts';
import { type Examination, found, fromError, problem, warning } from './check.ts';
import { goodGenerations, instead } from './generations.ts';

/** The only part of the examination that does something: `on` must be able to. Leaves nothing behind. */
export async function trialLogin(on: Machine): Promise<Examination> {
  const named = { group: 'trial login', title: 'stable' };
  try {
    const stable = readStable(on.host, on.paths);
    const began = on.host.now();
    const findings = await checkGeneration(on, stable, () => undefined).then(
      ({ warnings }) => warnings.map(w => warning(w, 'mayfly update')),
      async error => [problem(reasonOf(error), await mendFor(on, stable, error))],
    );
    const seconds = ((on.host.now() - began) / 1000).toFixed(1);
    return { ...named, ...found(findings, `generation ${stable.number}, in ${seconds} s`) };
  } catch (error) {
    return { ...named, ...found([fromError(error)], '') };
  }
}

/** What kept the session from being made may be the machine's; what its checks say is the generation's. */
async function mendFor(on: Machine, stable: Generation, error: unknown): Promise<string> {
  const { cause } = error instanceof Error ? error : {};
  return cause === undefined ? instead(await goodGenerations(on), stable.number) : fromError(cause).fix;
}
