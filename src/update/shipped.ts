/** What dpkg(1) knows of the files of packages: their checksums, the directories, and where diversions put them. */
import type { Host } from '../linux/host.ts';

export interface Shipped {
  /** MD5 sums of a path as packages ship it; several if it belongs to several. */
  readonly sums: ReadonlyMap<string, ReadonlySet<string>>;
  /** Paths that a package contains: directories and symlinks, too. */
  readonly listed: ReadonlySet<string>;
}

/** Top directories that are symlinks where /usr is merged. Packages may still name files by the old paths. */
const MERGED = ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'];

/** Diverted paths, with the new path and the package that keeps the old one, from dpkg-divert(1)'s file. Pure. */
function parseDiversions(text: string): Map<string, { readonly to: string; readonly by: string }> {
  const lines = text.split('\n');
  const found = new Map<string, { to: string; by: string }>();
  for (let i = 0; i + 2 < lines.length; i += 3)
    found.set(lines[i] ?? '', { to: lines[i + 1] ?? '', by: lines[i + 2] ?? '' });
  return found;
}

/** The conffiles in dpkg's status, with their checksums. Pure. */
function parseConffiles(status: string): { readonly path: string; readonly sum: string }[] {
  return [...status.matchAll(/^ (\/.+) ([0-9a-f]{32})(?: obsolete)?$/gm)].map(m => ({
    path: m[1] ?? '',
    sum: m[2] ?? '',
  }));
}

/** Reads what packages of the system at `root` say about these paths. Without dpkg, nothing. */
export function readShipped(host: Host, root: string, wanted: ReadonlySet<string>): Shipped {
  const info = `${root}/var/lib/dpkg/info`;
  const sums = new Map<string, Set<string>>();
  const listed = new Set<string>();
  const diverted = parseDiversions(host.read(`${root}/var/lib/dpkg/diversions`) ?? '');
  const links = MERGED.map(top => ({ top, to: host.readlink(root + top)?.replace(/^\/?/, '/') }));
  const placeOf = (path: string, by: string): string => {
    const diversion = diverted.get(path);
    const at = diversion && diversion.by !== by ? diversion.to : path;
    const link = links.find(l => l.to !== undefined && at.startsWith(`${l.top}/`));
    return link ? `${link.to}${at.slice(link.top.length)}` : at;
  };
  const add = (path: string, sum: string): void => {
    if (!wanted.has(path)) return;
    const known = sums.get(path) ?? new Set();
    sums.set(path, known.add(sum));
  };
  for (const name of host.list(info)) {
    const [, by = '', kind] = /^([^:]+?)(?::[^.]+)?\.(md5sums|list)$/.exec(name) ?? [];
    if (kind === undefined) continue;
    for (const line of (host.read(`${info}/${name}`) ?? '').split('\n')) {
      if (kind === 'md5sums') add(placeOf(`/${line.slice(34)}`, by), line.slice(0, 32));
      else if (wanted.has(placeOf(line, by))) listed.add(placeOf(line, by));
    }
  }
  for (const { path, sum } of parseConffiles(host.read(`${root}/var/lib/dpkg/status`) ?? ''))
    add(placeOf(path, ''), sum);
  return { sums, listed };
}

/** Paths for one call of a program, whose arguments have a limit. */
const AT_ONCE = 500;

/** Those of the files whose content is what a package ships. */
export async function unchangedFiles(
  host: Host,
  root: string,
  paths: readonly string[],
  sums: Shipped['sums'],
): Promise<ReadonlySet<string>> {
  const known = paths.filter(path => sums.has(path));
  const same = new Set<string>();
  for (let i = 0; i < known.length; i += AT_ONCE) {
    const files = known.slice(i, i + AT_ONCE).map(path => root + path);
    const args = ['-z', '--', ...files];
    const { stdout } = await host.run({ file: 'md5sum', args, effect: 'read', okCodes: [0, 1] }); // 1: one has vanished
    for (const row of stdout.split('\0')) {
      const path = row.slice(34 + root.length);
      if (sums.get(path)?.has(row.slice(0, 32))) same.add(path);
    }
  }
  return same;
}
