/** Sealing a generation, and what becomes of the candidate. */
import { MayflyError, reasonOf } from '../errors.ts';
import {
  changeState,
  forgetGeneration,
  type Generation,
  type GenerationState,
  readGeneration,
  whyDemoted,
  writeGeneration,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { UnnamedNumbers } from '../state/owners.ts';
import { writeRunEntries } from '../state/run-entries.ts';
import { markOf, newSealId, sealOf, sealText } from '../state/seals.ts';
import { generationOf, type Pool, workOf } from '../volume/backend.ts';
import { forgetMachineId } from './machine-id.ts';
import { listOwners } from './renumber.ts';
import { collectRunEntries } from './run-template.ts';
import { makeWhole } from './separate-trees.ts';
import { countTree } from './tree-content.ts';
import { withMountedVolume } from './volume-tree.ts';

/**
 * Seals an immutable copy of the working copy as generation `g.number` and writes its record in `state`. Before that its
 * machine's ID is removed, and its users and groups get the host's numbers; `owners` is for `listOwners`. The storage command inherits the locks' descriptors `fds`. Throws `refused` if the generation would lack files of the copy.
 */
export async function seal(
  on: Machine,
  pool: Pool,
  g: Pick<Generation, 'number' | 'origin'>,
  state: GenerationState,
  fds: readonly number[],
  owners: { readonly known: UnnamedNumbers | 'of this host'; readonly say: (line: string) => void },
): Promise<Generation> {
  const backend = on.backend(pool.backend);
  const volume = generationOf(pool, g.number);
  const work = workOf(pool);
  await makeWhole(on, work);
  const { entries, unnamed } = await withMountedVolume(on, work, async tree => {
    forgetMachineId(on.host, tree);
    return {
      unnamed: await listOwners(on, tree, g.number, owners.known, owners.say),
      entries: await collectRunEntries(on, tree),
    };
  });
  writeRunEntries(on.host, on.paths, g.number, entries);
  const id = newSealId(on.host);
  const now = (): string => new Date(on.host.now()).toISOString();
  // Where a seal is beside its tree it comes first, so that a tree without one has lost it. On LVM it is in the volume.
  const begun = { ...g, id, marked: true, identity: '', created: now(), proven: false };
  if (backend.writeMark) await backend.writeSeal(volume, sealText(begun));
  backend.writeMark?.(work, markOf(g.number, id)); // replaces that of the generation it was forked from
  const content = backend.writeMark && (await withMountedVolume(on, work, tree => countTree(on.host, tree)));
  await backend.fork(work, volume, { lockFds: fds });
  backend.writeMark?.(work, undefined);
  const identity = await backend.identity(volume);
  if (identity === undefined)
    throw new MayflyError('internal', `generation ${g.number} does not exist after it was created`);
  const created = now(); // after the last change: doctor looks for later ones
  const own = { ...g, volume, identity, created, unnamed, seal: id };
  const generation: Generation = { ...own, ...(content ? { content } : {}) };
  await backend.writeSeal(volume, sealText(sealOf(generation, id, { proven: false })));
  writeGeneration(on.host, on.paths, generation, state);
  return generation;
}

/** Removes a candidate, complete or not. */
export async function dropCandidate(on: Machine, pool: Pool, number: number): Promise<void> {
  const { host, paths } = on;
  await on.backend(pool.backend).remove(generationOf(pool, number));
  forgetGeneration(host, paths, number);
}

/** Marks a candidate as proven, in the pool and then on record; from now on it may be promoted. */
export async function acceptCandidate(on: Machine, number: number): Promise<void> {
  const { host, paths } = on;
  const g = readGeneration(host, paths, number, 'candidate');
  if (g) await tryWriteSeal(on, g);
  changeState(host, paths, number, 'candidate', 'proven');
}

/**
 * Writes the seal of a proven generation as it is now, if there is room; otherwise the next recovery writes it. The volume
 * must be the one on record: its whole identity is noted, of which an earlier version recorded only a part.
 */
export async function tryWriteSeal(on: Machine, g: Generation): Promise<void> {
  const backend = on.backend(g.volume.backend);
  try {
    const identity = (await backend.identity(g.volume)) ?? g.identity;
    const demoted = whyDemoted(on.host, on.paths, g.number);
    const is = { proven: true, ...(demoted === undefined ? {} : { demoted }) };
    const seal = sealOf({ ...g, identity }, g.seal ?? newSealId(on.host), is);
    await backend.writeSeal(g.volume, sealText(seal));
  } catch (error) {
    on.log('warning', `the seal of generation ${g.number} was not written: ${reasonOf(error)}`);
  }
}
