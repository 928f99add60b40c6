/**
 * Generations and the pointer `stable`. What a generation is worth is the ending of its file's name, so that every
 * change of it is one rename: `N.candidate` is sealed but not proven, `N.json` is proven and may be promoted,
 * `N.retired` is about to go. Beside it `N.demoted` says why nobody gets it any more by itself.
 *
 * Pins instead of a lock between login and update. A login writes its record, which names a generation, and then
 * looks whether that generation is still there; whoever retires a generation first renames its file and then looks
 * for records and the pointer that name it. Each writes before it reads, so at least one of the two sees the other:
 * a login either keeps its generation or starts over with the new stable, and neither ever waits.
 */
import { REMEDY } from '../advice.ts';
import { MayflyError } from '../errors.ts';
import { parseJson } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isNumber } from '../names.ts';
import type { Volume } from '../volume/backend.ts';
import type { Paths } from './paths.ts';

export interface Generation {
  readonly number: number;
  readonly volume: Volume;
  /** What the volume is apart from its name: a generation put back by hand under the name is not it. */
  readonly identity: string;
  /** ISO 8601, UTC. */
  readonly created: string;
  /** Where the tree came from, for people. */
  readonly origin: string;
}

/** `candidate` is being proven, `proven` may be stable, `retired` is being removed. */
export type GenerationState = 'candidate' | 'proven' | 'retired';

const ENDING: Readonly<Record<GenerationState, string>> = {
  candidate: '.candidate',
  proven: '.json',
  retired: '.retired',
};

function generationPath(paths: Paths, number: number, standing: GenerationState = 'proven'): string {
  return `${paths.generations}/${number}${ENDING[standing]}`;
}

/** Numbers of the generations of one standing, ascending. */
export function generationNumbers(host: Host, paths: Paths, standing: GenerationState = 'proven'): number[] {
  const ending = ENDING[standing];
  return host
    .list(paths.generations)
    .filter(
      name => name.endsWith(ending) && name !== `0${ending}` && isNumber(name.slice(0, -ending.length), 9),
    )
    .map(name => Number(name.slice(0, -ending.length)))
    .sort((a, b) => a - b);
}

export function readGeneration(
  host: Host,
  paths: Paths,
  number: number,
  standing: GenerationState = 'proven',
): Generation | undefined {
  const path = generationPath(paths, number, standing);
  const text = host.read(path);
  return text === undefined ? undefined : parseJson<Generation>(path, text, REMEDY.examine);
}

/** For those who look at all: undefined also where the record is not whole, since then nobody can use it. */
export function readableGeneration(
  host: Host,
  paths: Paths,
  number: number,
  standing: GenerationState = 'proven',
): Generation | undefined {
  try {
    return readGeneration(host, paths, number, standing);
  } catch (error) {
    if (error instanceof MayflyError && error.code === 'corrupt') return undefined;
    throw error;
  }
}

/** The path of a generation's record that is there but not whole, as a failing disk leaves it. */
export function corruptRecord(
  host: Host,
  paths: Paths,
  number: number,
  standing: GenerationState = 'proven',
): string | undefined {
  const path = generationPath(paths, number, standing);
  return host.exists(path) && !readableGeneration(host, paths, number, standing) ? path : undefined;
}

/** Whether sessions may be made of a generation: proven, or the candidate in its trial. The text never changes. */
export function isSealed(host: Host, paths: Paths, number: number): boolean {
  return (
    host.lstat(generationPath(paths, number))?.kind === 'file' ||
    host.lstat(generationPath(paths, number, 'candidate'))?.kind === 'file'
  );
}

/** The last act of sealing: from here on the generation exists. */
export function writeGeneration(host: Host, paths: Paths, g: Generation, standing: GenerationState): void {
  const text = `${JSON.stringify(g, null, 2)}\n`;
  host.write(generationPath(paths, g.number, standing), text, { mode: 0o600, durable: true });
}

/** One rename, durable. */
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

/** Forgets a generation whose volume is gone. */
export function forgetGeneration(host: Host, paths: Paths, number: number): void {
  host.unlink(demotedPath(paths, number));
  for (const standing of ['candidate', 'proven', 'retired'] as const)
    host.unlink(generationPath(paths, number, standing));
}

/** Forgets all generations, and the numbers that were given. */
export function forgetAll(host: Host, paths: Paths): void {
  for (const standing of ['candidate', 'proven', 'retired'] as const)
    for (const number of generationNumbers(host, paths, standing)) forgetGeneration(host, paths, number);
  host.unlink(`${paths.generations}/last`);
  endProbation(host, paths);
}

/**
 * A number no generation ever had: written down before it is used, so that one that was dropped, or died unfinished,
 * does not give its number to another. `known` are those that are seen in the pool.
 */
export function takeNumber(host: Host, paths: Paths, known: readonly number[]): number {
  const number = Math.max(0, lastNumber(host, paths) ?? 0, ...known) + 1;
  host.write(`${paths.generations}/last`, `${number}\n`, { mode: 0o600, durable: true });
  return number;
}

/** The number that was given last; undefined where none was. */
export function lastNumber(host: Host, paths: Paths): number | undefined {
  const last = (host.read(`${paths.generations}/last`) ?? '').trim();
  return isNumber(last, 9) ? Number(last) : undefined;
}

/** The generation new logins get; undefined where none was ever promoted. */
export function stableNumber(host: Host, paths: Paths): number | undefined {
  const target = host.readlink(paths.stable) ?? '';
  const number = target.slice('generations/'.length, -'.json'.length);
  return isNumber(number, 9) && target === `generations/${number}.json` ? Number(number) : undefined;
}

/** One rename: every login before it sees the old generation, every login after it the new one. */
export function pointStableAt(host: Host, paths: Paths, number: number): void {
  host.symlink(`generations/${number}.json`, paths.stable, true);
}

export function readStable(host: Host, paths: Paths): Generation {
  const number = stableNumber(host, paths);
  if (number === undefined) {
    if (generationNumbers(host, paths).length === 0)
      throw new MayflyError('no-stable', 'there is no stable generation yet');
    throw new MayflyError('no-stable', 'the pointer to the stable generation is lost', {
      hint: REMEDY.rollback,
    });
  }
  const generation = readGeneration(host, paths, number);
  if (!generation) {
    throw new MayflyError(
      'no-generation',
      `the stable generation ${number} has vanished from "${paths.generations}"`,
      { generation: number },
    );
  }
  return generation;
}

function demotedPath(paths: Paths, number: number): string {
  return `${paths.generations}/${number}.demoted`;
}

/** Why a generation is not to be promoted by itself; undefined where nothing speaks against it. */
export function whyDemoted(host: Host, paths: Paths, number: number): string | undefined {
  return host.read(demotedPath(paths, number))?.trim();
}

export function markDemoted(host: Host, paths: Paths, number: number, reason: string): void {
  host.write(demotedPath(paths, number), `${reason.replaceAll('\n', ' ')}\n`, { mode: 0o600, durable: true });
}

export function clearDemoted(host: Host, paths: Paths, number: number): void {
  host.unlink(demotedPath(paths, number));
}

/** A generation nobody has logged in to yet, and the good one before it. */
export interface Probation {
  readonly number: number;
  readonly previous: number;
  /** Logins that failed, one after the other. */
  readonly failures: number;
}

function probationPath(paths: Paths): string {
  return `${paths.state}/probation.json`;
}

/** What is on probation; undefined as soon as a login has succeeded. Costs a healthy login one question. */
export function probation(host: Host, paths: Paths): Probation | undefined {
  const path = probationPath(paths);
  if (!host.exists(path)) return undefined;
  try {
    return JSON.parse(host.read(path) ?? '') as Probation;
  } catch {
    return undefined; // gone meanwhile, or cut: then nothing is demoted by itself
  }
}

export function writeProbation(host: Host, paths: Paths, p: Probation): void {
  host.write(probationPath(paths), `${JSON.stringify(p)}\n`, { mode: 0o600 });
}

export function endProbation(host: Host, paths: Paths): void {
  host.unlink(probationPath(paths));
}
