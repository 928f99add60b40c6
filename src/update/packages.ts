/** The packages of a tree, from the database of dpkg, and in which ones two trees differ. */
import type { Host } from '../linux/host.ts';

export interface PackageFacts {
  readonly version: string;
  readonly section: string;
  readonly provides: readonly string[];
  readonly replaces: readonly string[];
}

/** The installed packages in the text of dpkg's database. Pure. */
export function installedPackages(status: string): Map<string, PackageFacts> {
  const found = new Map<string, PackageFacts>();
  for (const text of status.split(/\n\n+/)) {
    const field = (name: string): string =>
      new RegExp(`^${name}:[ \\t]*(.*(?:\\n[ \\t].*)*)`, 'm').exec(text)?.[1]?.trim() ?? '';
    const name = field('Package');
    if (name === '' || !/ (?:installed|triggers-awaited|triggers-pending)$/.test(field('Status'))) continue;
    const names = (list: string): string[] =>
      list.split(',').flatMap(item => /^\s*([^\s(:]+)/.exec(item)?.[1] ?? []);
    const before = found.get(name); // of another architecture
    found.set(name, {
      version: field('Version'),
      section: field('Section'),
      provides: [...(before?.provides ?? []), ...names(field('Provides'))],
      replaces: [...(before?.replaces ?? []), ...names(field('Replaces'))],
    });
  }
  return found;
}

const DATABASE = '/var/lib/dpkg/status';

/** The packages that are installed in a tree; none if it has no database of dpkg. */
export function packagesOf(host: Host, root: string): Map<string, PackageFacts> {
  const isFile = host.lstat(root + DATABASE)?.kind === 'file';
  return installedPackages(isFile ? (host.read(root + DATABASE) ?? '') : '');
}

/** A package that is new, gone, or has another version. */
export interface PackageChange {
  readonly name: string;
  readonly before?: string;
  readonly after?: string;
}

/** Packages by name. Pure. */
export function packageChanges(
  before: ReadonlyMap<string, Pick<PackageFacts, 'version'>>,
  after: ReadonlyMap<string, Pick<PackageFacts, 'version'>>,
): PackageChange[] {
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names.flatMap(name => {
    const [old, now] = [before.get(name)?.version, after.get(name)?.version];
    if (old === now) return [];
    return [
      { name, ...(old === undefined ? {} : { before: old }), ...(now === undefined ? {} : { after: now }) },
    ];
  });
}

const KINDS = ['changed', 'new', 'gone'] as const;
type Kind = (typeof KINDS)[number];

/** How a package differs. Pure. */
export const kindOf = (p: PackageChange): Kind =>
  p.before === undefined ? 'new' : p.after === undefined ? 'gone' : 'changed';

/** Versions of a package in one line. */
const inWords = (p: PackageChange): string => {
  const { name, before, after } = p;
  return kindOf(p) === 'changed' ? `${name} ${before} -> ${after}` : `${name} ${after ?? 'gone'}`;
};

/** "2 packages changed, 1 new: a 1 -> 2, b 1 -> 3, c 5"; those beyond `most` are counted. There is at least one. Pure. */
export function describeChanges(changes: readonly PackageChange[], most = 5): string {
  const counts = KINDS.map(kind => [changes.filter(p => kindOf(p) === kind).length, kind] as const);
  const [first, ...others] = counts.filter(([n]) => n > 0).map(([n, kind]) => ({ n, kind }));
  const total = [
    `${first?.n} ${first?.n === 1 ? 'package' : 'packages'} ${first?.kind}`,
    ...others.map(({ n, kind }) => `${n} ${kind}`),
  ];
  const more = changes.length > most ? ` and ${changes.length - most} more` : '';
  return `${total.join(', ')}: ${changes.slice(0, most).map(inWords).join(', ')}${more}`;
}
