/**
 * Configuration files that both the administrator and a package have changed. dpkg(1) and ucf(1) ask which one counts; an
 * update answers for the administrator, who is told where the other one is.
 */
import type { Host } from '../linux/host.ts';

/** How many are listed; a release upgrade can bring hundreds. */
const LISTED = 20;

/** What stands behind a name that ends like this. `isThere`: whether the file itself exists. */
const MEANINGS: Readonly<Record<string, (isThere: boolean) => string>> = {
  dist: isThere => `${isThere ? 'is kept as it is' : 'stays deleted'}; the new one of its package is`,
  old: () => 'was replaced by the one of its package; the one before is',
  bak: () => 'is no longer used by its package; it is kept as',
};

const PATTERNS = ['*.dpkg-dist', '*.dpkg-old', '*.dpkg-bak', '*.ucf-dist', '*.ucf-old'];

/** One sentence for each of `paths`, which find(1) has found; `isThere` tells whether a path exists. Pure. */
export function describeKept(paths: readonly string[], isThere: (path: string) => boolean): string[] {
  const all = [...paths].sort().flatMap(path => {
    const [, file = '', how = ''] = /^(.*)\.(?:dpkg|ucf)-(dist|old|bak)$/s.exec(path) ?? [];
    const meaning = MEANINGS[how]?.(isThere(file));
    return meaning === undefined ? [] : [`"${file}" ${meaning} "${path}"`];
  });
  const more = all.length - LISTED;
  return more > 1 ? [...all.slice(0, LISTED), `${more} more configuration files were kept or replaced`] : all;
}

/** The same for those that have appeared in the tree since `since`, in milliseconds since the epoch. */
export async function keptFiles(host: Host, tree: string, since: number): Promise<string[]> {
  if (host.lstat(`${tree}/etc`)?.kind !== 'dir') return [];
  const names = PATTERNS.flatMap((pattern, i) => [...(i > 0 ? ['-o'] : []), '-name', pattern]);
  const args = [`${tree}/etc`, '-xdev', '-type', 'f', '-newerct', `@${since / 1000}`, '('];
  const { stdout } = await host.run({
    file: 'find',
    args: [...args, ...names, ')', '-printf', '/etc/%P\\0'],
    effect: 'read',
  });
  return describeKept(stdout.split('\0').filter(Boolean), path => host.lstat(tree + path) !== undefined);
}
