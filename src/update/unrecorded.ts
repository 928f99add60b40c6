/** Generations in the pool that no record names, and what is done with each. Nothing is changed here. */
import { reasonOf } from '../errors.ts';
import {
  corruptRecord,
  generationNumbers,
  lastNumber,
  readableGeneration,
  stableNumber,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { markOf, numberInMark, parseSeal, type Seal } from '../state/seals.ts';
import { isSameContent } from '../state/tree-content.ts';
import type { Pool, Volume } from '../volume/backend.ts';
import { isSameVolume } from '../volume/identity.ts';
import { isUsable } from './health.ts';
import { countTree } from './tree-content.ts';
import { withMountedVolume } from './volume-tree.ts';

/** What trees are, by the numbers of generations that are not on record: a look takes seconds. */
export type SeenTrees = Map<number, SealedTree>;

export interface Unrecorded {
  readonly volume: Volume;
  readonly action: 'adopt' | 'remove' | 'keep';
  /** As text for the administrator. */
  readonly why: string;
  readonly seal?: Seal;
}

/**
 * The generations in the pool that no record names. One that is sealed and proven is adopted. What is removed is certainly
 * unfinished, and there is a better one: by its seal it never passed its checks or, where the seal is in the volume, it has
 * none and the number that was assigned last. An update assigns one number, and the next one cleans up first. What is in
 * `seen` is not looked at again.
 */
export async function unrecorded(
  on: Machine,
  pool: Pool,
  seen: SeenTrees = new Map(),
): Promise<Unrecorded[]> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const seals = await backend.seals(pool.path);
  const hasRemoval = (n: number): boolean => corruptRecord(host, paths, n, 'retired') !== undefined;
  const known = new Set([
    ...(['candidate', 'proven'] as const).flatMap(state => generationNumbers(host, paths, state)),
    ...generationNumbers(host, paths, 'retired').filter(n => !hasRemoval(n)),
  ]);
  const last = lastNumber(host, paths) ?? 0;
  const hasBetter = await isStableUsable(on);
  const decide = async (volume: Volume, number: number): Promise<Omit<Unrecorded, 'volume'>> => {
    const keep = (why: string): Omit<Unrecorded, 'volume'> => ({ action: 'keep', why });
    const remove = (why: string): Omit<Unrecorded, 'volume'> => ({ action: 'remove', why });
    if (hasRemoval(number) && hasBetter) return remove('its removal was interrupted');
    const seal = parseSeal(seals.get(number), number);
    const marked = numberInMark(backend.readMark?.(volume));
    if (marked !== undefined && marked !== number) return keep(`it is a copy of generation ${marked}`);
    if (seals.has(number) && !seal) return keep('its seal is damaged, or that of another generation');
    if (!seal && (backend.writeMark || number !== last || !hasBetter)) return keep('it has no seal');
    if (!seal) return remove('it was never completed');
    if (!seal.proven && number > last) return keep('it has not passed its checks');
    if (!seal.proven && hasBetter) return remove('it was never completed');
    if (!seal.proven) return keep('it has not passed its checks, and there is none that has');
    const tree = seen.get(number) ?? (await compareWithSeal(on, volume, seal));
    seen.set(number, tree);
    if (tree === 'another') return keep('its tree is not the one that was sealed');
    if (tree === 'incomplete') return keep(INCOMPLETE);
    return { action: 'adopt', why: 'it is sealed and proven', seal };
  };
  const found: Unrecorded[] = [];
  for (const volume of (await backend.list(pool.path)).volumes) {
    const number = Number(volume.name);
    if (volume.role !== 'generation' || known.has(number)) continue;
    const decision = await decide(volume, number).catch(error => ({
      action: 'keep' as const,
      why: `it cannot be examined: ${reasonOf(error)}`,
    }));
    found.push({ volume, ...decision });
  }
  return found;
}

/** Whether people can log in to the stable generation: only then is there one to spare. */
export async function isStableUsable(on: Machine): Promise<boolean> {
  const stable = stableNumber(on.host, on.paths);
  return stable !== undefined && (await isUsable(on, readableGeneration(on.host, on.paths, stable)));
}

/** Whether recovery would put a generation on record again. */
export async function hasOneToAdopt(on: Machine, pool: Pool): Promise<boolean> {
  const { host, paths } = on;
  const seals = await on.backend(pool.backend).seals(pool.path);
  const isAccepted = (number: number): boolean => parseSeal(seals.get(number), number)?.proven === true;
  if (generationNumbers(host, paths, 'candidate').some(isAccepted)) return true;
  return (await unrecorded(on, pool)).some(u => u.action === 'adopt');
}

/**
 * The generations that have passed their checks, by their seals, or may have: a seal is damaged, or only its mark is left in
 * the tree. Not those being removed.
 */
export async function sealedNumbers({ host, paths, backend }: Machine, pool: Pool): Promise<number[]> {
  const own = backend(pool.backend);
  const retired = generationNumbers(host, paths, 'retired');
  const seals = await own.seals(pool.path);
  const { volumes } = await own.list(pool.path);
  const marked = volumes
    .filter(v => numberInMark(own.readMark?.(v)) === Number(v.name))
    .map(v => Number(v.name));
  return [...new Set([...seals.keys(), ...marked])].filter(
    number => parseSeal(seals.get(number), number)?.proven !== false && !retired.includes(number),
  );
}

export const INCOMPLETE = 'its tree is not complete: a copy may still be running, or was interrupted';

/** What the tree of a volume is, compared with a seal; `moved` is whole, but has another identity. */
export type SealedTree = 'sealed' | 'moved' | 'incomplete' | 'another';

/**
 * Compares a volume with its seal: by its identity where it was sealed and, wherever it is now, by the mark in its tree. A
 * copy has the mark from its beginning, and an emptied tree keeps it, so the files are counted, too. That takes seconds.
 */
export async function compareWithSeal(on: Machine, v: Volume, seal: Seal): Promise<SealedTree> {
  const backend = on.backend(v.backend);
  const identity = await backend.identity(v);
  if (identity === undefined || !isMarkedAs(on, v, seal)) return 'another';
  const is = isSameVolume(identity, seal.identity) ? 'sealed' : 'moved';
  if (is === 'moved' && (!seal.marked || !backend.readMark)) return 'another';
  const { content } = seal;
  if (content === undefined) return is === 'sealed' ? is : 'incomplete';
  const now = await withMountedVolume(on, v, tree => countTree(on.host, tree));
  return isSameContent(now, content) ? is : 'incomplete';
}

/** Whether the mark in a tree is that of the seal, or both have none. */
export function isMarkedAs(on: Machine, v: Volume, seal: Pick<Seal, 'number' | 'id' | 'marked'>): boolean {
  const { readMark } = on.backend(v.backend);
  if (!readMark) return true;
  return readMark(v) === (seal.marked ? markOf(seal.number, seal.id) : undefined);
}
