/**
 * Campaigns: cases that repeat something at random. They are short here and long in scripts/campaign, which sets the
 * environment:
 *
 *     MAYFLY_KILLS       kills per backend and kind
 *     MAYFLY_CUTS        power cuts per backend
 *     MAYFLY_CROWD       people at once
 *     MAYFLY_ROUNDS      logins of each of them
 *     MAYFLY_PROMOTIONS  promotions beneath them
 *     MAYFLY_CASES       generated cases per property
 *     MAYFLY_ROUGH       rough conditions per backend
 *     MAYFLY_RECORDS     damaged records per backend
 *     MAYFLY_DAMAGE      damaged states and pools per backend
 *     MAYFLY_NIGHTS      nights of one machine, in memory
 *     MAYFLY_UPDATES     nights of one machine with real trees, per backend
 *     MAYFLY_SEED        repeats a campaign; printed when one begins and when it fails
 *     MAYFLY_LONG        set: LVM with each file system and all kinds of update
 */
import { onTestFailed } from 'vitest';

const given = (name: string): string | undefined => process.env[`MAYFLY_${name}`] || undefined;

export const LONG = given('LONG') !== undefined;

type Count =
  | 'KILLS'
  | 'CUTS'
  | 'CROWD'
  | 'ROUNDS'
  | 'PROMOTIONS'
  | 'CASES'
  | 'ROUGH'
  | 'RECORDS'
  | 'DAMAGE'
  | 'NIGHTS'
  | 'UPDATES';

/** How often, or how many; `usual` where nothing is said. */
export function count(name: Count, usual: number): number {
  const text = given(name);
  if (text === undefined) return usual;
  if (!/^[1-9]\d*$/.test(text)) throw new Error(`MAYFLY_${name} takes a number, not "${text}"`);
  return Number(text);
}

/** Of all campaigns of this run. */
export const SEED = Number(given('SEED') ?? Math.floor(Math.random() * 2 ** 32));
if (!Number.isInteger(SEED) || SEED < 0)
  throw new Error(`MAYFLY_SEED takes a number, not "${given('SEED')}"`);

/** Numbers in [0, 1), always the same ones for the same seed (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * The chance of one test, which is called from within it. It depends on the seed and on `title` alone, not on which
 * other tests run. With `usual`, a run to which no seed is given always has that one: it repeats what is known, and
 * campaigns look for the rest.
 */
export function chance(title: string, usual?: number): () => number {
  const seed = given('SEED') === undefined ? (usual ?? SEED) : SEED;
  const words = `MAYFLY_SEED=${seed}: ${title}`;
  console.log(words);
  onTestFailed(() => console.error(`failed with ${words}`));
  let hash = seed;
  for (const c of title) hash = Math.imul(hash ^ c.charCodeAt(0), 0x01000193);
  return generator(hash);
}

/**
 * How a property is tested: with the seed of this run, which is printed, and with as many cases as are wanted.
 * `usual` where nothing is said.
 */
export function cases(title: string, usual = 1000): { readonly seed: number; readonly numRuns: number } {
  chance(title);
  return { seed: SEED | 0, numRuns: count('CASES', usual) };
}

/** `n` moments in [0, 1) in a random order: one in each n-th, so that a few cover the whole as well as many do. */
export function moments(n: number, random: () => number): number[] {
  const all = Array.from({ length: n }, (_, i) => (i + random()) / n);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [all[i], all[j]] = [all[j] ?? 0, all[i] ?? 0];
  }
  return all;
}
