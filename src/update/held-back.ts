/**
 * What came with a generation that was demoted, by a rollback or by itself. The next update starts from the generation
 * that is stable again, and leaves those versions of packages out, until newer ones have come or the administrator allows
 * them. Otherwise the next night would bring back what people were rolled back from.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import { readJson } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';
import { generationNumbers, readableGeneration, stableNumber, whyDemoted } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Paths } from '../state/paths.ts';
import { hasFields } from '../state/shape.ts';
import { type PackageFacts, packageChanges, packagesOf } from './packages.ts';
import { withMountedVolume } from './volume-tree.ts';

/** A version that a demoted generation had, and that of the stable one; without `before` the package was new. */
interface Change {
  readonly before?: string;
  readonly after: string;
}

/** By the number of the demoted generation: the changes by package. The generation itself may have been removed. */
type HeldBack = Readonly<Record<string, Readonly<Record<string, Change>>>>;

/** One version that is left out. */
export interface Held {
  readonly generation: number;
  readonly name: string;
  readonly version: string;
}

export const ALLOW_DEMOTED = 'mayfly update --allow-demoted';

/** Empty if there is none, or if the file is corrupt: nothing is held back then. */
function read(host: Host, { heldBack }: Pick<Paths, 'heldBack'>): HeldBack {
  const isWhole = (value: HeldBack): boolean =>
    hasFields(value, {}) && Object.values(value).every(changes => hasFields(changes, {}));
  return readJson(host, heldBack, isWhole) ?? {};
}

function write(host: Host, { heldBack }: Pick<Paths, 'heldBack'>, value: HeldBack): void {
  if (Object.keys(value).length === 0) host.unlink(heldBack);
  else host.write(heldBack, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600, durable: true });
}

const demotedAfter = ({ host, paths }: Pick<Machine, 'host' | 'paths'>, stable: number): number[] =>
  generationNumbers(host, paths).filter(n => n > stable && whyDemoted(host, paths, n) !== undefined);

/**
 * The stable generation if a newer one was demoted: master is as that one, so updates start from the stable one. Undefined
 * if master is as good.
 */
export function rolledBackTo(on: Pick<Machine, 'host' | 'paths'>): number | undefined {
  const stable = stableNumber(on.host, on.paths);
  if (stable === undefined) return undefined;
  const removed = Object.keys(read(on.host, on.paths)).map(Number);
  return [...demotedAfter(on, stable), ...removed].some(n => n > stable) ? stable : undefined;
}

/** The packages of `after` that are new or have another version than in `before`. Pure. */
export function changedPackages(
  before: ReadonlyMap<string, PackageFacts>,
  after: ReadonlyMap<string, PackageFacts>,
): Record<string, Change> {
  return Object.fromEntries(
    packageChanges(before, after).flatMap(({ name, after: now, ...rest }) =>
      now === undefined ? [] : [[name, { ...rest, after: now }]],
    ),
  );
}

/**
 * Notes what came with each generation that was demoted, before it is removed. A failure is a warning: the update must go
 * on. To be called with the update lock.
 */
export async function noteHeldBack(on: Machine): Promise<void> {
  const { host, paths } = on;
  const stable = stableNumber(host, paths);
  const good = stable === undefined ? undefined : readableGeneration(host, paths, stable);
  if (stable === undefined || !good) return;
  const noted = read(host, paths);
  for (const number of demotedAfter(on, stable).filter(n => noted[n] === undefined)) {
    const bad = readableGeneration(host, paths, number);
    if (!bad) continue;
    try {
      const of = (g: typeof bad) => withMountedVolume(on, g.volume, async tree => packagesOf(host, tree));
      write(host, paths, { ...read(host, paths), [number]: changedPackages(await of(good), await of(bad)) });
    } catch (error) {
      on.log('warning', `what came with generation ${number} is not known: ${reasonOf(error)}`);
    }
  }
}

/** What was held back for a generation that is wanted again no longer is; without a number, for all. */
export function forgetHeldBack({ host, paths }: Pick<Machine, 'host' | 'paths'>, number?: number): void {
  const { [String(number)]: _, ...others } = read(host, paths);
  write(host, paths, number === undefined ? {} : others);
}

/**
 * What is left out of a tree with these packages: a version counts until the package has another than when it was noted.
 * New packages that the configuration names are wanted. Pure.
 */
export function planHeld(
  noted: HeldBack,
  installed: ReadonlyMap<string, Pick<PackageFacts, 'version'>>,
  wanted: readonly string[],
): Held[] {
  return Object.entries(noted).flatMap(([generation, changes]) =>
    Object.entries(changes)
      .filter(([name, { before }]) => installed.get(name)?.version === before)
      .filter(([name, { before }]) => before !== undefined || !wanted.includes(name))
      .map(([name, { after }]) => ({ generation: Number(generation), name, version: after })),
  );
}

/** What is left out of this tree. Forgets older generations of which nothing is any more. */
export function heldIn({ host, paths, config }: Machine, tree: string): Held[] {
  const noted = read(host, paths);
  const held = planHeld(noted, packagesOf(host, tree), config.update.packages);
  const stable = stableNumber(host, paths) ?? 0;
  const left = Object.entries(noted).filter(
    ([n]) => Number(n) > stable || held.some(h => h.generation === Number(n)),
  );
  if (left.length < Object.keys(noted).length) write(host, paths, Object.fromEntries(left));
  return held;
}

/** For apt_preferences(5): a version with a negative priority is never installed. Pure. */
export const pinsFor = (held: readonly Held[]): string =>
  held.map(h => `Package: ${h.name}\nPin: version ${h.version}\nPin-Priority: -1\n`).join('\n');

/** In one line, for the administrator. Pure. */
export function describeHeld(held: readonly Held[]): string {
  const generations = [...new Set(held.map(h => h.generation))].join(', ');
  const named = held.slice(0, 10).map(h => `${h.name} ${h.version}`);
  const more = held.length > named.length ? ` and ${held.length - named.length} more` : '';
  return `left out, because generation ${generations} was demoted: ${named.join(', ')}${more} ("${ALLOW_DEMOTED}" allows them)`;
}

const PREFERENCES = '/etc/apt/preferences.d';
const PINS = `${PREFERENCES}/00mayfly-held-back`;

/**
 * Runs `act` on a working copy in which apt does not install what is held back, and returns what is left out. Throws `update` if something of it was
 * installed all the same, for example by the administrator's command.
 */
export async function withoutHeldBack(on: Machine, tree: string, act: () => Promise<void>): Promise<Held[]> {
  const { host } = on;
  const held = heldIn(on, tree);
  const pins = held.length > 0 && isPlainDirectory(host, tree, PREFERENCES);
  if (pins) host.write(tree + PINS, pinsFor(held), { mode: 0o644 });
  try {
    await act();
  } finally {
    if (pins && isPlainDirectory(host, tree, PREFERENCES)) host.unlink(tree + PINS);
  }
  const now = packagesOf(host, tree);
  const back = held.filter(h => now.get(h.name)?.version === h.version);
  if (back.length > 0) throw new MayflyError('update', `it would bring back what is ${describeHeld(back)}`);
  return heldIn(on, tree); // without those that have a newer version now
}

/** The numbers of the demoted generations of which something is held back. */
export function heldBackNumbers(host: Host, paths: Pick<Paths, 'heldBack'>): number[] {
  return Object.keys(read(host, paths)).map(Number).filter(Number.isInteger);
}
