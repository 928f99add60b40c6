/**
 * Campaigns: cases that repeat something at random. Short here, long in scripts/campaign, which sets the environment:
 *
 *     MAYFLY_KILLS  kills per backend and kind
 *     MAYFLY_CUTS   power cuts per backend
 *     MAYFLY_SEED   repeats the moments of a campaign; printed when it begins and when it fails
 *     MAYFLY_LONG   set: each backend with each file system, and all kinds of update
 */
function count(name: string, usual: number): number {
  const text = process.env[name];
  if (text === undefined || text === '') return usual;
  if (!/^\d+$/.test(text)) throw new Error(`${name} takes a number, not "${text}"`);
  return Number(text);
}

export const LONG = (process.env.MAYFLY_LONG ?? '') !== '';
export const KILLS = count('MAYFLY_KILLS', 5);
export const CUTS = count('MAYFLY_CUTS', 2);
export const SEED = count('MAYFLY_SEED', Math.floor(Math.random() * 2 ** 32));

/** Numbers in [0, 1), always the same ones for the same seed and title (mulberry32). */
export function chance(title: string): () => number {
  let state = SEED;
  for (const c of title) state = Math.imul(state ^ c.charCodeAt(0), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
