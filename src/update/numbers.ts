/**
 * Which numbers the users and groups of a tree must have on this machine. Processes of a session carry the numbers of the
 * host, and the kernel compares numbers only. So a name that both know has the host's number in the tree, too, and a
 * number that the host gives to somebody else belongs to nobody in the tree. Pure.
 */
import type { NamedNumber } from '../linux/account-files.ts';

/** What NSS of the host says about the names and numbers of a tree. */
export interface HostNumbers {
  readonly byName: ReadonlyMap<string, number>;
  readonly byNumber: ReadonlyMap<number, string>;
}

/** The moves that are decided, and the numbers that must move to a free one. */
export interface MovePlan {
  readonly moves: ReadonlyMap<number, number>;
  readonly homeless: readonly number[];
}

/** root, nobody, and what stands for "no number" in 16 and in 32 bits. */
const FIXED = new Set([0, 65534, 65535, 4294967295]);

export const isFixed = (number: number): boolean => FIXED.has(number);

/**
 * The moves for one database of a tree. `unnamed`: numbers in use that have no name in it, each with the host's name for
 * which it is known to stand, or "". Several names with one number stay together, because their files are the same.
 */
export function planMoves(
  named: readonly NamedNumber[],
  unnamed: ReadonlyMap<number, string>,
  host: HostNumbers,
): MovePlan {
  const moves = new Map<number, number>();
  const homeless: number[] = [];
  const names = new Map<number, string[]>();
  for (const [number, name] of unnamed) names.set(number, name === '' ? [] : [name]);
  for (const { number } of named) names.set(number, []);
  for (const { name, number } of named) names.get(number)?.push(name);
  for (const [number, own] of names) {
    if (isFixed(number)) continue;
    const targets = own.map(name => host.byName.get(name)).filter(n => n !== undefined && !isFixed(n));
    const there = host.byNumber.get(number);
    if (targets[0] !== undefined) {
      if (!targets.includes(number)) moves.set(number, targets[0]);
    } else if (there !== undefined && !own.includes(there)) homeless.push(number);
  }
  return { moves, homeless };
}

/**
 * Numbers to try for one that must move, best first. adduser(8) counts up from 100 and useradd(8) and systemd-sysusers(8)
 * count down from 999, so those in the middle stay free for longest. For a person they are the last ones below 60000.
 */
export function candidates(number: number): number[] {
  const range = (from: number, to: number): number[] =>
    Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const system = [...range(500, 899), ...range(200, 499).reverse()];
  const others = range(50000, 59999).reverse();
  return number < 1000 ? [...system, ...others] : others;
}

/** The names of groups to which udev(7) gives devices, from the text of a file with rules. */
export function deviceGroups(rules: string): string[] {
  return [...rules.matchAll(/^(?!\s*#).*?\bGROUP:?="([\w.-]+)"/gm)].map(m => m[1] ?? '');
}
