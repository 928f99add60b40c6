/** Generations in the pool that no record names, and what is done with each. Nothing is changed here. */
import { reasonOf } from '../errors.ts';
import {
  corruptRecord,
  type GenerationState,
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

const STATES: readonly GenerationState[] = ['candidate', 'proven', 'retired'];

export interface Unrecorded {
  readonly volume: Volume;
  readonly action: 'adopt' | 'remove' | 'keep';
  /** As text for the administrator. */
  readonly why: string;
  readonly seal?: Seal;
}

/**
 * The generations in the pool that no record names. One that is sealed and proven is adopted. What is removed is certainly
 * unfinished, and there is a better one: it never passed its checks, or it has no seal and the number that was assigned
 * last. An update assigns one number, and the next one cleans up first; so what else has no seal is not of this state.
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
  const stable = stableNumber(host, paths);
  const hasBetter = stable !== undefined && (await isUsable(on, readableGeneration(host, paths, stable)));
  const decide = async (volume: Volume, number: number): Promise<Omit<Unrecorded, 'volume'>> => {
    const keep = (why: string): Omit<Unrecorded, 'volume'> => ({ action: 'keep', why });
    const remove = (why: string): Omit<Unrecorded, 'volume'> => ({ action: 'remove', why });
    if (corruptRecord(host, paths, number, 'retired') !== undefined)
      return remove('its removal was interrupted');
    const seal = parseSeal(seals.get(number), number);
    const marked = numberInMark(backend.readMark?.(volume));
    if (marked !== undefined && marked !== number) return keep(`it is a copy of generation ${marked}`);
    if (seals.has(number) && !seal) return keep('its seal is damaged, or that of another generation');
    if (!seal && number !== last) return keep('it has no seal');
    if (!seal)
      return hasBetter ? remove('it was never completed') : keep('it has no seal, and there is no other');
    const tree = await compareWithSeal(on, volume, seal);
    if (tree === 'another') return keep('its tree is not the one that was sealed');
    if (tree === 'incomplete') return keep(INCOMPLETE);
    if (seal.proven) return { action: 'adopt', why: 'it is sealed and proven', seal };
    if (number > last) return keep('it has not passed its checks');
    return hasBetter
      ? remove('it was never completed')
      : keep('it has not passed its checks, and there is none that has');
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

/** Whether recovery would put a generation on record again. */
export async function hasOneToAdopt(on: Machine, pool: Pool): Promise<boolean> {
  const { host, paths } = on;
  const seals = await on.backend(pool.backend).seals(pool.path);
  const isAccepted = (number: number): boolean => parseSeal(seals.get(number), number)?.proven === true;
  if (generationNumbers(host, paths, 'candidate').some(isAccepted)) return true;
  return (await unrecorded(on, pool)).some(u => u.action === 'adopt');
}

/** The generations that have passed their checks, by their seals, or may have: a seal is damaged. Not those being removed. */
export async function sealedNumbers({ host, paths, backend }: Machine, pool: Pool): Promise<number[]> {
  const retired = generationNumbers(host, paths, 'retired');
  return [...(await backend(pool.backend).seals(pool.path))]
    .filter(([number, text]) => parseSeal(text, number)?.proven !== false && !retired.includes(number))
    .map(([number]) => number);
}

export const INCOMPLETE =
  'it was moved, and its tree is not complete: a copy may still be running, or was interrupted';

/** What the tree of a volume is, compared with a seal; `moved` is whole, but has another identity. */
export type SealedTree = 'sealed' | 'moved' | 'incomplete' | 'another';

/**
 * Compares a volume with its seal: by its identity where it was sealed and, wherever it is now, by the mark in its tree. A
 * copy has the mark from its beginning, so of a tree that was moved the files are counted, too. That takes seconds.
 */
export async function compareWithSeal(on: Machine, v: Volume, seal: Seal): Promise<SealedTree> {
  const backend = on.backend(v.backend);
  const identity = await backend.identity(v);
  if (identity === undefined || !isMarkedAs(on, v, seal)) return 'another';
  if (isSameVolume(identity, seal.identity)) return 'sealed';
  if (!seal.marked || !backend.readMark) return 'another';
  const { content } = seal;
  if (content === undefined) return 'incomplete';
  const now = await withMountedVolume(on, v, tree => countTree(on.host, tree));
  return isSameContent(now, content) ? 'moved' : 'incomplete';
}

/** Whether the mark in a tree is that of the seal, or both have none. */
export function isMarkedAs(on: Machine, v: Volume, seal: Pick<Seal, 'number' | 'id' | 'marked'>): boolean {
  const { readMark } = on.backend(v.backend);
  if (!readMark) return true;
  return readMark(v) === (seal.marked ? markOf(seal.number, seal.id) : undefined);
}
