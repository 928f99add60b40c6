/**
 * Generations and the pointer `stable`. The suffix of a generation's file is its state, so every change of state is
 * one rename: `N.candidate` is sealed and not yet proven, `N.json` is proven and may be promoted, `N.retired` is
 * being removed. `N.demoted` beside it holds the reason why the generation is no longer promoted automatically.
 *
 * Logins and updates are synchronized by a lock (see promotion-lock.ts) and, beneath it, by pins, which protect what a
 * login uses also where the lock's holder is dead. A login writes its record, which names a generation, and then checks
 * that the generation still exists. Retirement renames the generation's file and then checks for records and for the pointer.
 * Each side writes before it reads, so at least one sees the other: the login keeps its generation or starts over.
 */
import { REMEDY } from '../advice.ts';
import { hasCode, isErrno, MayflyError } from '../errors.ts';
import { parseJson } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isNumber } from '../names.ts';
import type { Volume } from '../volume/backend.ts';
import { isVolumeOf } from '../volume/shape.ts';
import { dropUnused, ownersPath, type UnnamedNumbers } from './owners.ts';
import type { Paths } from './paths.ts';
import { runEntriesPath } from './run-entries.ts';
import { hasFields } from './shape.ts';
import type { TreeContent } from './tree-content.ts';

export interface Generation {
  readonly number: number;
  readonly volume: Volume;
  /** Identity of the volume, independent of its name; a volume put back by hand under the same name has another. */
  readonly identity: string;
  /** ISO 8601, UTC. */
  readonly created: string;
  /** Where the tree came from, as text for the administrator. */
  readonly origin: string;
  /** The ID in its seal and in the mark in its tree. Undefined, as `unnamed`, if an earlier version sealed it. */
  readonly seal?: string;
  /** When the volume was known again by its mark, after a move to another disk; ISO 8601. */
  readonly moved?: string;
  readonly unnamed?: UnnamedNumbers;
  /** As in its seal. */
  readonly content?: TreeContent;
}

/** `candidate` is being checked, `proven` may be stable, `retired` is being removed. */
export type GenerationState = 'candidate' | 'proven' | 'retired';

const SUFFIX: Readonly<Record<GenerationState, string>> = {
  candidate: '.candidate',
  proven: '.json',
  retired: '.retired',
};

/** Path of a generation's record. */
export function generationPath(paths: Paths, number: number, state: GenerationState = 'proven'): string {
  return `${paths.generations}/${number}${SUFFIX[state]}`;
}

/** Numbers of the generations in one state, ascending. */
export function generationNumbers(host: Host, paths: Paths, state: GenerationState = 'proven'): number[] {
  const suffix = SUFFIX[state];
  return host
    .list(paths.generations)
    .filter(
      name => name.endsWith(suffix) && name !== `0${suffix}` && isNumber(name.slice(0, -suffix.length), 9),
    )
    .map(name => Number(name.slice(0, -suffix.length)))
    .sort((a, b) => a - b);
}

/** The record of a generation; undefined if there is none in this state. Throws `corrupt` if it cannot be parsed. */
export function readGeneration(
  host: Host,
  paths: Paths,
  number: number,
  state: GenerationState = 'proven',
): Generation | undefined {
  const path = generationPath(paths, number, state);
  const text = host.read(path);
  const isWhole = (g: Generation): boolean =>
    hasFields(g, { number: 'number', identity: 'text', created: 'text', origin: 'text' }) &&
    g.number === number &&
    isVolumeOf(g.volume, 'generation', String(number));
  return text === undefined ? undefined : parseJson<Generation>(path, text, REMEDY.examine, isWhole);
}

/** Like {@link readGeneration}, for lists: undefined also if the record is corrupt, or cannot be read. */
export function readableGeneration(
  host: Host,
  paths: Paths,
  number: number,
  state: GenerationState = 'proven',
): Generation | undefined {
  try {
    return readGeneration(host, paths, number, state);
  } catch (error) {
    if (hasCode(error, 'corrupt') || isErrno(error, 'EIO')) return undefined;
    throw error;
  }
}

/** Path of a generation's record if it exists and is corrupt, for example after a disk error; otherwise undefined. */
export function corruptRecord(
  host: Host,
  paths: Paths,
  number: number,
  state: GenerationState = 'proven',
): string | undefined {
  const path = generationPath(paths, number, state);
  return host.exists(path) && !readableGeneration(host, paths, number, state) ? path : undefined;
}

/** Whether sessions may use a generation: it is proven, or it is the candidate in its trial. */
export function isSealed(host: Host, paths: Paths, number: number): boolean {
  return (
    host.lstat(generationPath(paths, number))?.kind === 'file' ||
    host.lstat(generationPath(paths, number, 'candidate'))?.kind === 'file'
  );
}

/** Writes a generation's record, durably. This is the last act of sealing: from now on the generation exists. */
export function writeGeneration(host: Host, paths: Paths, g: Generation, state: GenerationState): void {
  const text = `${JSON.stringify(g, null, 2)}\n`;
  host.write(generationPath(paths, g.number, state), text, { mode: 0o600, durable: true });
}

/** Changes a generation's state by one rename, durably. */
export function changeState(
  host: Host,
  paths: Paths,
  number: number,
  from: GenerationState,
  to: GenerationState,
): void {
  host.rename(generationPath(paths, number, from), generationPath(paths, number, to));
  host.sync(paths.generations);
}

/** Removes the records of a generation whose volume is gone. */
export function forgetGeneration(host: Host, paths: Paths, number: number): void {
  const files = [demotedPath(paths, number), runEntriesPath(paths, number), ownersPath(paths, number)];
  for (const path of files) host.unlink(path);
  for (const state of ['candidate', 'proven', 'retired'] as const)
    host.unlink(generationPath(paths, number, state));
}

/** Removes the records of all generations, and the last number that was assigned. */
export function forgetAll(host: Host, paths: Paths): void {
  for (const state of ['candidate', 'proven', 'retired'] as const)
    for (const number of generationNumbers(host, paths, state)) forgetGeneration(host, paths, number);
  dropUnused(host, paths, []);
  host.unlink(`${paths.generations}/last`);
  endProbation(host, paths);
}

/**
 * Assigns a number that no generation ever had. It is recorded, durably, before it is used, so that the number of a
 * dropped or unfinished generation is never used again. `known` holds the numbers found in the pool.
 */
export function takeNumber(host: Host, paths: Paths, known: readonly number[]): number {
  const number = Math.max(0, lastNumber(host, paths) ?? 0, ...known) + 1;
  host.write(`${paths.generations}/last`, `${number}\n`, { mode: 0o600, durable: true });
  return number;
}

/** The number that was assigned last; undefined if none was. */
export function lastNumber(host: Host, paths: Paths): number | undefined {
  const last = (host.read(`${paths.generations}/last`) ?? '').trim();
  return isNumber(last, 9) ? Number(last) : undefined;
}

/** The number of the stable generation, which new logins get; undefined if there is none. */
export function stableNumber(host: Host, paths: Paths): number | undefined {
  const target = host.readlink(paths.stable) ?? '';
  const number = target.slice('generations/'.length, -'.json'.length);
  return isNumber(number, 9) && target === `generations/${number}.json` ? Number(number) : undefined;
}

/**
 * The record of the stable generation. Throws `no-stable` if there is no pointer, `no-generation` if the pointer
 * names a record that is missing, and `corrupt`.
 */
export function readStable(host: Host, paths: Paths): Generation {
  const number = stableNumber(host, paths);
  if (number === undefined) {
    if (generationNumbers(host, paths).length === 0)
      throw new MayflyError('no-stable', 'no generation is stable yet');
    throw new MayflyError('no-stable', 'the pointer to the stable generation is missing', {
      hint: REMEDY.rollback,
    });
  }
  const generation = readGeneration(host, paths, number);
  if (!generation) {
    throw new MayflyError(
      'no-generation',
      `the record of the stable generation ${number} is missing in "${paths.generations}"`,
      { generation: number },
    );
  }
  return generation;
}

function demotedPath(paths: Paths, number: number): string {
  return `${paths.generations}/${number}.demoted`;
}

/** Why a generation is not promoted automatically; undefined if it was not demoted. */
export function whyDemoted(host: Host, paths: Paths, number: number): string | undefined {
  return host.read(demotedPath(paths, number))?.trim();
}

export function markDemoted(host: Host, paths: Paths, number: number, reason: string): void {
  host.write(demotedPath(paths, number), `${reason.replaceAll('\n', ' ')}\n`, { mode: 0o600, durable: true });
}

export function clearDemoted(host: Host, paths: Paths, number: number): void {
  host.unlink(demotedPath(paths, number));
}

/** A new stable generation of which no session has lasted yet, and the one before it that is not on probation. */
export interface Probation {
  readonly number: number;
  readonly previous: number;
  /** Number of failed logins so far, also to those since `previous` that were stable and not proven. */
  readonly failures: number;
  /** The code of each person's last error, by UID; undefined before the first, and if an earlier version counted. */
  readonly people?: Readonly<Record<string, string>>;
}

function probationPath(paths: Paths): string {
  return `${paths.state}/probation.json`;
}

/** The probation of the stable generation; undefined after its first session that lasted. Costs that path one stat(2). */
export function probation(host: Host, paths: Paths): Probation | undefined {
  const path = probationPath(paths);
  if (!host.exists(path)) return undefined;
  try {
    const p: unknown = JSON.parse(host.read(path) ?? '');
    const isWhole = hasFields(p, { number: 'number', previous: 'number', failures: 'number' });
    return isWhole ? (p as Probation) : undefined;
  } catch {
    return undefined; // removed meanwhile, or truncated: then nothing is demoted automatically
  }
}

export function writeProbation(host: Host, paths: Paths, p: Probation): void {
  host.write(probationPath(paths), `${JSON.stringify(p)}\n`, { mode: 0o600 });
}

export function endProbation(host: Host, paths: Paths): void {
  host.unlink(probationPath(paths));
}
