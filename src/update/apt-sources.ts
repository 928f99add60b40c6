/**
 * Where apt takes packages from on this machine, in apt's own words: which entries a file has in force is asked of
 * apt, and the file is handed on as it is, with its keys, options, comments and continuation lines.
 *
 * `apt-get indextargets` would be the machine-readable way, but lists only what has been downloaded, and names no key
 * (apt 2.6). `update --print-uris` needs neither lists nor the network and downloads nothing.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';

/** The release this machine runs. */
export function hostSuite(host: Host): string | undefined {
  return /^VERSION_CODENAME="?([a-z0-9.-]+)"?$/m.exec(host.read('/etc/os-release') ?? '')?.[1];
}

/** The files apt reads its sources from (sources.list(5)). */
export function sourceFiles(host: Host): string[] {
  const parts = host.list('/etc/apt/sources.list.d').filter(n => /^[\w.-]+\.(list|sources)$/.test(n));
  const all = ['/etc/apt/sources.list', ...parts.map(n => `/etc/apt/sources.list.d/${n}`)];
  return all.filter(file => host.stat(file)?.kind === 'file');
}

/** Arguments of apt-get(8): prints what an update of this file alone would download. */
export function printUris(file: string): string[] {
  const only = ['-o', `Dir::Etc::SourceList=${file}`, '-o', 'Dir::Etc::SourceParts=/dev/null'];
  return ['update', '--print-uris', ...only];
}

/** An archive and a release in it that has the component "main". */
export interface AptTarget {
  readonly uri: string;
  readonly release: string;
}

/** What {@link printUris} has apt-get print. Entries that are disabled or for source packages only are not in it. */
export function parseUris(printed: string): AptTarget[] {
  const found = printed.split('\n').flatMap(line => {
    const m = /^'(.*)\/dists\/(.+)\/main\/binary-[^/]+\/Packages[^/]*' /.exec(line);
    return m ? [{ uri: m[1] ?? '', release: m[2] ?? '' }] : [];
  });
  return [...new Map(found.map(t => [`${t.uri} ${t.release}`, t])).values()];
}

/** A file of sources, and what apt says of it. */
export interface SourceFile {
  readonly file: string;
  readonly targets: readonly AptTarget[];
}

/** Archives on a medium or a disk of this machine cannot be reached from the new tree. */
const isRemote = ({ uri }: AptTarget): boolean => /^(https?|mirror\+https?|tor\+https?|ftp):/.test(uri);

/**
 * What mmdebstrap(1) takes as its MIRRORs. For the release `own` that this machine runs the files that have it, as
 * they are; for another release, or where a file has what cannot be reached, the first archive; none where there is
 * none, and mmdebstrap then takes Debian's own.
 */
export function chooseMirrors(all: readonly SourceFile[], suite: string, own: string | undefined): string[] {
  const isOf = (release: string): boolean =>
    release === suite || release.startsWith(`${suite}-`) || release.startsWith(`${suite}/`);
  const files = all.filter(f => f.targets.some(t => isOf(t.release)));
  const has = files.some(f => f.targets.some(t => t.release === suite));
  if (has && files.every(f => f.targets.every(isRemote))) return files.map(f => f.file);
  const archives = all
    .flatMap(f => f.targets)
    .filter(t => isRemote(t) && !/-security|\/updates/.test(t.release));
  const best = archives.find(t => t.release === suite || t.release === own) ?? archives[0];
  return best ? [best.uri] : [];
}

/** The keys in files that entries name; a key in the entry itself goes with it. */
export function signingKeys(text: string): string[] {
  const named = [...text.matchAll(/^[^#\n]*signed-by\s*[=:]([^\]\n]*)/gim)].flatMap(
    m => m[1]?.split(/[\s,]+/) ?? [],
  );
  return [...new Set(named.filter(word => /^(\/[\w.+-]+)+$/.test(word)))];
}

/** For mmdebstrap(1), how a fresh Debian gets its packages, and can go on getting them. */
export interface AptSources {
  readonly mirrors: readonly string[];
  /** Files on this machine that the sources in the new tree name. */
  readonly keys: readonly string[];
}

export async function aptSources(host: Host, suite: string): Promise<AptSources> {
  const all: SourceFile[] = [];
  for (const file of sourceFiles(host)) {
    const out = await host
      .run({ file: 'apt-get', args: printUris(file), effect: 'read' })
      .catch((error: unknown) => {
        if (error instanceof MayflyError && error.code === 'missing-tool') return { stdout: '' };
        throw error;
      });
    all.push({ file, targets: parseUris(out.stdout) });
  }
  const mirrors = chooseMirrors(all, suite, hostSuite(host));
  const keys = mirrors
    .flatMap(m => signingKeys(host.read(m) ?? ''))
    .filter(k => host.stat(k)?.kind === 'file');
  return { mirrors, keys: [...new Set(keys)] };
}
