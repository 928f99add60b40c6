/**
 * What generations carry in the pool, compared with the records of the state directory: a machine's root can be put back
 * to another day, or lost, while the pool is as it was. The caller holds the lock `update`.
 */
import { reasonOf } from '../errors.ts';
import {
  corruptRecord,
  type Generation,
  type GenerationState,
  generationNumbers,
  lastNumber,
  readableGeneration,
  stableNumber,
  whyDemoted,
  writeGeneration,
  writeProbation,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { movePointer } from '../state/promotion-lock.ts';
import { runEntriesPath, writeRunEntries } from '../state/run-entries.ts';
import { markOf, numberInMark, parseSeal, type Seal } from '../state/seals.ts';
import type { Pool, Volume } from '../volume/backend.ts';
import { isSameVolume } from '../volume/identity.ts';
import { isUsable } from './health.ts';
import { heldBackNumbers } from './held-back.ts';
import { collectRunEntries } from './run-template.ts';
import { tryWriteSeal } from './sealing.ts';
import { withMountedVolume } from './volume-tree.ts';

/** Runs one step of a cleanup, named `what`; decides whether its failure stops the rest. */
export type TryEach = (what: string, act: () => Promise<void>) => Promise<void>;

const STATES: readonly GenerationState[] = ['candidate', 'proven', 'retired'];

/** Seconds that recovery waits for logins before it moves the pointer. It is tried again. */
const POINTER_WAIT = 10;

/** A generation in the pool that no record names, and what is done with it. */
export interface Unrecorded {
  readonly volume: Volume;
  readonly action: 'adopt' | 'remove' | 'keep';
  /** As text for the administrator. */
  readonly why: string;
  readonly seal?: Seal;
}

/**
 * The generations in the pool that no record names. One that is sealed and proven is adopted. What is removed is certainly
 * unfinished: its number was assigned on this machine's record, and it has no seal, or never passed its checks.
 */
export async function unrecorded(on: Machine, pool: Pool): Promise<Unrecorded[]> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const seals = await backend.seals(pool.path);
  const known = new Set(
    STATES.flatMap(state => generationNumbers(host, paths, state)).filter(
      n => corruptRecord(host, paths, n, 'retired') === undefined,
    ),
  );
  const last = lastNumber(host, paths) ?? 0;
  const hasBetter = await isUsable(on, stableOf(on));
  const found: Unrecorded[] = [];
  for (const volume of (await backend.list(pool.path)).volumes) {
    const number = Number(volume.name);
    if (volume.role !== 'generation' || known.has(number)) continue;
    const removal = corruptRecord(host, paths, number, 'retired');
    const is = (action: Unrecorded['action'], why: string, seal?: Seal): void => {
      found.push({ volume, action, why, ...(seal ? { seal } : {}) });
    };
    const seal = parseSeal(seals.get(number), number);
    const marked = numberInMark(backend.readMark?.(volume));
    if (removal !== undefined) is('remove', 'its removal was interrupted');
    else if (marked !== undefined && marked !== number) is('keep', `it is a copy of generation ${marked}`);
    else if (seals.has(number) && !seal) is('keep', 'its seal is damaged, or that of another generation');
    else if (seal && !(await isSealedTree(on, volume, seal)))
      is('keep', 'its tree is not the one that was sealed');
    else if (seal?.proven) is('adopt', 'it is sealed and proven', seal);
    else if (number > last) is('keep', seal ? 'it has not passed its checks' : 'it has no seal');
    else if (seal && !hasBetter) is('keep', 'it has not passed its checks, and there is none that has');
    else is('remove', 'it was never completed');
  }
  return found;
}

const stableOf = ({ host, paths }: Machine): Generation | undefined => {
  const stable = stableNumber(host, paths);
  return stable === undefined ? undefined : readableGeneration(host, paths, stable);
};

/** Whether a volume is the one that was sealed, wherever it is now: by the mark in its tree or, without one, by its identity. */
async function isSealedTree(on: Machine, v: Volume, seal: Seal): Promise<boolean> {
  const backend = on.backend(v.backend);
  const mark = backend.readMark?.(v);
  if (backend.readMark && seal.marked) return mark === markOf(seal.number, seal.id);
  if (mark !== undefined) return false;
  return isSameVolume(await backend.identity(v), seal.identity);
}

/**
 * Makes records and pool agree, without removing anything: records of sealed and proven generations are written again,
 * trees that were moved to another disk are known by their marks, and generations of an earlier version get a seal. What
 * was done is added to `adopted`, as text.
 */
export async function adoptSealed(
  on: Machine,
  pool: Pool,
  tryEach: TryEach,
  adopted: string[],
): Promise<void> {
  const { host, paths } = on;
  const seals = await on.backend(pool.backend).seals(pool.path);
  for (const number of generationNumbers(host, paths))
    await tryEach(`the seal of generation ${number}`, async () => {
      if (corruptRecord(host, paths, number) !== undefined) {
        const seal = parseSeal(seals.get(number), number);
        if (seal?.proven && (await adoptOne(on, pool, seal)))
          adopted.push(`generation ${number}, whose record was corrupt`);
        return;
      }
      const g = readableGeneration(host, paths, number);
      if (!g || g.volume.pool !== pool.path) return;
      if (await isUsable(on, g)) {
        const seal = parseSeal(seals.get(number), number);
        if (!seal?.proven || (g.seal !== undefined && seal.id !== g.seal)) await tryWriteSeal(on, g);
      } else if (await followMove(on, g)) adopted.push(`generation ${number}, which was moved`);
    });
  for (const { action, seal, why } of await unrecorded(on, pool))
    if (action === 'adopt' && seal)
      await tryEach(`generation ${seal.number}`, async () => {
        if (await adoptOne(on, pool, seal)) adopted.push(`generation ${seal.number}: ${why}`);
      });
  await tryEach('the pointer to the stable generation', async () => {
    const number = await repairPointer(on, pool);
    if (number !== undefined) adopted.push(`generation ${number}, which is stable now`);
  });
}

/** Whether a generation is in a pool as its seal says: then it is a pool of ours, also without a record and its marker. */
export async function hasSealedGeneration(on: Machine, pool: Pool): Promise<boolean> {
  const backend = on.backend(pool.backend);
  const seals = await backend.seals(pool.path);
  for (const volume of (await backend.list(pool.path)).volumes) {
    const seal = parseSeal(seals.get(Number(volume.name)), Number(volume.name));
    if (volume.role === 'generation' && seal && (await isSealedTree(on, volume, seal))) return true;
  }
  return false;
}

/** Writes the record of a sealed generation again. Returns whether its volume is the one that was sealed. */
async function adoptOne(on: Machine, pool: Pool, seal: Seal): Promise<boolean> {
  const { host, paths } = on;
  const { number, id, created, origin, unnamed } = seal;
  const volume: Volume = {
    ...{ backend: pool.backend, pool: pool.path, ...(pool.fs ? { fs: pool.fs } : {}) },
    ...{ role: 'generation', name: String(number) },
  };
  const backend = on.backend(pool.backend);
  const identity = await backend.identity(volume);
  if (identity === undefined || !(await isSealedTree(on, volume, seal))) return false;
  const isMoved = !isSameVolume(identity, seal.identity);
  const g: Generation = {
    ...{ number, volume, identity, created, origin, ...(unnamed ? { unnamed } : {}) },
    ...(seal.marked ? { seal: id } : {}),
    ...(isMoved ? { moved: new Date(host.now()).toISOString() } : {}),
  };
  if (!host.exists(runEntriesPath(paths, number)))
    try {
      writeRunEntries(
        host,
        paths,
        number,
        await withMountedVolume(on, volume, tree => collectRunEntries(on, tree)),
      );
    } catch (error) {
      on.log('warning', `sessions of generation ${number} lack what it creates in /run: ${reasonOf(error)}`);
    }
  writeGeneration(host, paths, g, 'proven');
  on.log('notice', `generation ${number} is on record again, from its seal in the pool`);
  return true;
}

/** Records where a generation is now that was moved to another disk. Returns whether it is the one that was sealed. */
async function followMove(on: Machine, g: Generation): Promise<boolean> {
  const backend = on.backend(g.volume.backend);
  const identity = await backend.identity(g.volume);
  if (identity === undefined || g.seal === undefined) return false;
  if (backend.readMark?.(g.volume) !== markOf(g.number, g.seal)) return false;
  const now: Generation = { ...g, identity, moved: new Date(on.host.now()).toISOString() };
  writeGeneration(on.host, on.paths, now, 'proven');
  await tryWriteSeal(on, now);
  on.log('notice', `generation ${g.number} was moved; it is known by the mark in its tree`);
  return true;
}

/**
 * Moves the pointer to the newest usable generation if there is no pointer, or if what it names is gone from the pool. A
 * generation that is there and is another than the one that was sealed stays stable, and refused. Whether the new one was
 * demoted may be forgotten with the state, so it is on probation if there is one before it. Returns its number.
 */
async function repairPointer(on: Machine, pool: Pool): Promise<number | undefined> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const isNeeded = async (): Promise<boolean> => {
    const stable = stableNumber(host, paths);
    if (stable === undefined) return true;
    const { volumes } = await backend.list(pool.path);
    return !volumes.some(v => v.role === 'generation' && v.name === String(stable));
  };
  if (!(await isNeeded())) return undefined;
  const good: number[] = [];
  for (const number of generationNumbers(host, paths).reverse())
    if (
      whyDemoted(host, paths, number) === undefined &&
      (await isUsable(on, readableGeneration(host, paths, number)))
    )
      good.push(number);
  const [newest, previous] = good;
  if (newest === undefined) return undefined;
  const before = stableNumber(host, paths);
  const o = { what: `the recovery of generation ${newest}`, seconds: POINTER_WAIT };
  const isMoved = await movePointer(on, o, point => {
    if (stableNumber(host, paths) !== before || !readableGeneration(host, paths, newest)) return false;
    if (previous !== undefined) writeProbation(host, paths, { number: newest, previous, failures: 0 });
    point(newest);
    return true;
  });
  if (!isMoved) return undefined;
  on.log('notice', `generation ${newest} is stable; the one before it is gone`);
  return newest;
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
