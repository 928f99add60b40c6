/** What is kept of the owners of a generation's files, so that a login need not look at all files. */
import type { Host } from '../linux/host.ts';
import type { Paths } from './paths.ts';

/**
 * Numbers in use in a tree that have no name in it. The value is the host's name for which it is known to stand, because
 * the tree was copied from the host, or "".
 */
export interface UnnamedNumbers {
  readonly users: Readonly<Record<string, string>>;
  readonly groups: Readonly<Record<string, string>>;
}

/** Path of the list of files in a generation that do not belong to root alone, separated by NUL. */
export function ownersPath(paths: Paths, number: number): string {
  return `${paths.generations}/${number}.owners`;
}

/** Removes what is kept beside the records of generations that are not in `used`, and unfinished lists. */
export function dropUnused(host: Host, paths: Paths, used: readonly number[]): void {
  const kept = new Set(used.flatMap(number => [`${number}.owners`, `${number}.run`]));
  for (const name of host.list(paths.generations))
    if (/^\d+\.(owners|run)(\.|$)/.test(name) && !kept.has(name)) host.unlink(`${paths.generations}/${name}`);
}
