/**
 * What generations carry in the pool, compared with the records of the state directory: a machine's root can be put back
 * to another day, or lost, while the pool is as it was. The caller holds the lock `update`.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import {
  changeState,
  corruptRecord,
  type Generation,
  generationNumbers,
  generationPath,
  markDemoted,
  probation,
  readableGeneration,
  stableNumber,
  whyDemoted,
  writeGeneration,
  writeProbation,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { runEntriesPath, writeRunEntries } from '../state/run-entries.ts';
import { numberInMark, parseSeal, type Seal, sealOf } from '../state/seals.ts';
import type { Pool, Volume } from '../volume/backend.ts';
import { isSameVolume } from '../volume/identity.ts';
import { isUsable } from './health.ts';
import { heldBackNumbers } from './held-back.ts';
import { collectRunEntries } from './run-template.ts';
import { tryWriteSeal } from './sealing.ts';
import {
  compareWithSeal,
  INCOMPLETE,
  isMarkedAs,
  isStableUsable,
  type SealedTree,
  type SeenTrees,
  unrecorded,
} from './unrecorded.ts';
import { withMountedVolume } from './volume-tree.ts';

/** Runs one step of a cleanup, named `what`; decides whether its failure stops the rest. */
export type TryEach = (what: string, act: () => Promise<void>) => Promise<void>;

/**
 * Makes records and pool agree, without removing anything: records of sealed and proven generations are written again,
 * trees that were moved to another disk are known by their marks, and seals say what the records say. What was done is
 * added to `adopted`, as text. What was found out about trees is added to `seen`.
 */
export async function adoptSealed(
  on: Machine,
  pool: Pool,
  tryEach: TryEach,
  adopted: string[],
  seen: SeenTrees,
): Promise<void> {
  const { host, paths } = on;
  const stable = stableNumber(host, paths);
  const seals = await on.backend(pool.backend).seals(pool.path);
  for (const number of generationNumbers(host, paths, 'candidate'))
    await tryEach(`generation ${number}`, async () => {
      const seal = parseSeal(seals.get(number), number);
      if (seal?.proven && (await acceptSealed(on, pool, seal)))
        adopted.push(`generation ${number}, which had passed its checks`);
    });
  for (const number of generationNumbers(host, paths, 'retired'))
    await tryEach(`generation ${number}`, async () => {
      if (await unretire(on, number, parseSeal(seals.get(number), number)))
        adopted.push(`generation ${number}, whose removal was begun`);
    });
  for (const number of generationNumbers(host, paths))
    await tryEach(`the seal of generation ${number}`, async () => {
      const seal = parseSeal(seals.get(number), number);
      if (corruptRecord(host, paths, number) !== undefined) {
        if (seal?.proven && (await adoptOne(on, pool, seal)))
          adopted.push(`generation ${number}, whose record was corrupt`);
        return;
      }
      const g = readableGeneration(host, paths, number);
      if (!g || g.volume.pool !== pool.path) return;
      if (await isUsable(on, g)) {
        if (seal) await settleDemotion(on, seal, stable);
        if (!(await isUpToDate(on, g, seal))) await tryWriteSeal(on, g);
      } else if (await followMove(on, g)) {
        adopted.push(`generation ${number}, which was moved`);
      } else if (seal?.proven && seal.id !== g.seal && (await adoptOne(on, pool, seal))) {
        adopted.push(`generation ${number}, whose record was of another one`);
      }
    });
  for (const { action, seal, why } of await unrecorded(on, pool, seen))
    if (action === 'adopt' && seal)
      await tryEach(`generation ${seal.number}`, async () => {
        if (await adoptOne(on, pool, seal, seen.get(seal.number)))
          adopted.push(`generation ${seal.number}: ${why}`);
      });
}

/**
 * Puts a generation back whose removal was begun, by the state of another day, while no other one is usable. Returns
 * whether it did. Of a removal that went further the tree has lost its name, or its files are not as they were sealed.
 */
async function unretire(on: Machine, number: number, seal: Seal | undefined): Promise<boolean> {
  const { host, paths } = on;
  if (!seal?.proven || (await isStableUsable(on))) return false;
  const g = readableGeneration(host, paths, number, 'retired');
  if (g?.seal !== seal.id && g?.seal !== undefined) return false;
  const tree = g && (await compareWithSeal(on, g.volume, seal));
  if (!g || tree !== 'sealed' || !(await isUsable(on, g))) return false;
  restoreDemotion(on, seal);
  changeState(host, paths, number, 'retired', 'proven');
  return true;
}

/** Whether the seal of a usable generation says what its record says. */
async function isUpToDate(on: Machine, g: Generation, seal: Seal | undefined): Promise<boolean> {
  if (!seal?.proven || seal.identity !== (await on.backend(g.volume.backend).identity(g.volume)))
    return false;
  if (seal.demoted !== whyDemoted(on.host, on.paths, g.number)) return false;
  return g.seal === undefined || seal.id === g.seal;
}

/**
 * Puts a candidate on record as proven if its seal says so: the state is that of a moment in the checks of an update, which
 * has passed long ago or was interrupted between its two last writes. Returns whether its volume is the one that was sealed.
 */
async function acceptSealed(on: Machine, pool: Pool, seal: Seal): Promise<boolean> {
  const { host, paths } = on;
  const tree = await compareWithSeal(on, volumeIn(pool, seal), seal);
  if (tree !== 'sealed' && tree !== 'moved') return false;
  if (tree === 'sealed' && readableGeneration(host, paths, seal.number, 'candidate')?.seal === seal.id) {
    restoreDemotion(on, seal);
    changeState(host, paths, seal.number, 'candidate', 'proven');
    return true;
  }
  host.unlink(generationPath(paths, seal.number, 'candidate')); // first: with both records the volume would be dropped
  return adoptOne(on, pool, seal);
}

/** Whether a generation is in a pool as its seal says: then it is a pool of ours, also without a record and its marker. */
export async function hasSealedGeneration(on: Machine, pool: Pool): Promise<boolean> {
  const backend = on.backend(pool.backend);
  const seals = await backend.seals(pool.path);
  for (const volume of (await backend.list(pool.path)).volumes) {
    const seal = parseSeal(seals.get(Number(volume.name)), Number(volume.name));
    if (volume.role !== 'generation' || !seal || !isMarkedAs(on, volume, seal)) continue;
    if (seal.marked || isSameVolume(await backend.identity(volume), seal.identity)) return true;
  }
  return false;
}

const volumeIn = (pool: Pool, seal: Seal): Volume => ({
  ...{ backend: pool.backend, pool: pool.path, role: 'generation', name: String(seal.number) },
  ...(pool.fs ? { fs: pool.fs } : {}),
});

/**
 * A usable generation was demoted by its seal, and not by the state, which is of the day before. What is stable may have
 * been made so again by a rollback that could not write the seal: it is on probation.
 */
async function settleDemotion(on: Machine, seal: Seal, stable: number | undefined): Promise<void> {
  const { host, paths } = on;
  if (seal.number !== stable) return restoreDemotion(on, seal);
  if (seal.demoted === undefined || whyDemoted(host, paths, stable) !== undefined || probation(host, paths))
    return;
  for (const previous of generationNumbers(host, paths).reverse()) {
    if (previous === stable || whyDemoted(host, paths, previous) !== undefined) continue;
    if (!(await isUsable(on, readableGeneration(host, paths, previous)))) continue;
    return writeProbation(host, paths, { number: stable, previous, failures: 0 });
  }
}

/** A generation that was demoted, and whose record was lost, is not good again. */
function restoreDemotion({ host, paths }: Machine, { number, demoted }: Seal): void {
  if (demoted !== undefined && whyDemoted(host, paths, number) === undefined)
    markDemoted(host, paths, number, demoted);
}

/**
 * Writes the record of a sealed generation again. Returns whether its volume is the one that was sealed; `known` is what
 * is known of its tree.
 */
async function adoptOne(on: Machine, pool: Pool, seal: Seal, known?: SealedTree): Promise<boolean> {
  const { host, paths } = on;
  const { number, id, created, origin, unnamed, content, moved } = seal;
  const volume = volumeIn(pool, seal);
  const tree = known ?? (await compareWithSeal(on, volume, seal));
  const identity = await on.backend(pool.backend).identity(volume);
  if (identity === undefined || (tree !== 'sealed' && tree !== 'moved')) return false;
  const g: Generation = {
    ...{ number, volume, identity, created, origin, ...(unnamed ? { unnamed } : {}) },
    ...(seal.marked ? { seal: id } : {}),
    ...(content ? { content } : {}),
    ...(tree === 'moved' ? { moved: new Date(host.now()).toISOString() } : moved ? { moved } : {}),
  };
  if (!host.exists(runEntriesPath(paths, number)))
    try {
      writeRunEntries(
        host,
        paths,
        number,
        await withMountedVolume(on, volume, root => collectRunEntries(on, root)),
      );
    } catch (error) {
      on.log('warning', `sessions of generation ${number} lack what it creates in /run: ${reasonOf(error)}`);
    }
  restoreDemotion(on, seal);
  host.unlink(generationPath(paths, number, 'retired')); // a corrupt one
  writeGeneration(host, paths, g, 'proven');
  if (tree === 'moved') await tryWriteSeal(on, g);
  on.log('notice', `generation ${number} is on record again, from its seal in the pool`);
  return true;
}

/**
 * Records where a generation is now that was moved to another disk. Returns whether it is the one that was sealed. Throws
 * `refused` while it is not complete.
 */
async function followMove(on: Machine, g: Generation): Promise<boolean> {
  const identity = await on.backend(g.volume.backend).identity(g.volume);
  if (identity === undefined || g.seal === undefined) return false;
  const tree = await compareWithSeal(on, g.volume, sealOf(g, g.seal, { proven: true }));
  if (tree === 'incomplete') throw new MayflyError('refused', INCOMPLETE);
  if (tree !== 'moved') return false;
  const now: Generation = { ...g, identity, moved: new Date(on.host.now()).toISOString() };
  writeGeneration(on.host, on.paths, now, 'proven');
  await tryWriteSeal(on, now);
  on.log('notice', `generation ${g.number} was moved; it is known by the mark in its tree`);
  return true;
}

/** All numbers that a generation in the pool or on record has or had, as far as it is known. */
export async function numbersIn(on: Machine, pool: Pool): Promise<number[]> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const { volumes } = await backend.list(pool.path);
  const inPool = volumes.filter(v => v.role === 'generation').map(v => Number(v.name));
  const marks = volumes.flatMap(v => numberInMark(backend.readMark?.(v)) ?? []);
  const files = host.list(paths.generations).flatMap(name => /^(\d{1,9})\./.exec(name)?.[1] ?? []);
  return [
    ...inPool,
    ...marks,
    ...(await backend.seals(pool.path)).keys(),
    ...files.map(Number),
    ...heldBackNumbers(host, paths),
  ];
}
