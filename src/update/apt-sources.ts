/**
 * The package sources of apt on this machine. Apt itself says which entries of a file are enabled, and mmdebstrap(1)
 * gets the file unchanged, with all keys and options. Nothing here parses sources.list(5).
 *
 * `apt-get indextargets` only lists indexes that have been downloaded, and does not name the keys (apt 2.6).
 * `apt-get update --print-uris` needs neither lists nor the network, and downloads nothing.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';

/** The codename of the release that this machine runs; undefined if /etc/os-release does not say. */
export function hostSuite(host: Host): string | undefined {
  return /^VERSION_CODENAME="?([a-z0-9.-]+)"?$/m.exec(host.read('/etc/os-release') ?? '')?.[1];
}

/** The files from which apt reads its sources (sources.list(5)). */
export function sourceFiles(host: Host): string[] {
  const parts = host.list('/etc/apt/sources.list.d').filter(n => /^[\w.-]+\.(list|sources)$/.test(n));
  const all = ['/etc/apt/sources.list', ...parts.map(n => `/etc/apt/sources.list.d/${n}`)];
  return all.filter(file => host.stat(file)?.kind === 'file');
}

/** Arguments for apt-get(8) that print what an update with this file alone would download. Pure. */
export function printUris(file: string): string[] {
  const only = ['-o', `Dir::Etc::SourceList=${file}`, '-o', 'Dir::Etc::SourceParts=/dev/null'];
  return ['update', '--print-uris', ...only];
}

/** A release with the component "main", and the archive that it is in. */
export interface AptTarget {
  readonly uri: string;
  readonly release: string;
}

/** Parses the output of {@link printUris}. Apt leaves out disabled entries; source packages are ignored. Pure. */
export function parseUris(printed: string): AptTarget[] {
  const found = printed.split('\n').flatMap(line => {
    const m = /^'(.*)\/dists\/(.+)\/main\/binary-[^/]+\/Packages[^/]*' /.exec(line);
    return m ? [{ uri: m[1] ?? '', release: m[2] ?? '' }] : [];
  });
  return [...new Map(found.map(t => [`${t.uri} ${t.release}`, t])).values()];
}

/** A file of sources and its enabled entries. */
export interface SourceFile {
  readonly file: string;
  readonly targets: readonly AptTarget[];
}

/** Whether an archive can be reached from the new tree; one on a medium or a local disk cannot. */
const isRemote = ({ uri }: AptTarget): boolean => /^(https?|mirror\+https?|tor\+https?|ftp):/.test(uri);

/**
 * The MIRROR arguments for mmdebstrap(1): the files whose entries have the suite, unchanged. If no file has it, or one
 * of them also has an archive that cannot be reached, the archive of this machine's own release. Empty if there is
 * none; mmdebstrap then uses Debian's default. Pure.
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

/** The key files that the entries name; a key in an entry itself needs no file. Pure. */
export function signingKeys(text: string): string[] {
  const named = [...text.matchAll(/^[^#\n]*signed-by\s*[=:]([^\]\n]*)/gim)].flatMap(
    m => m[1]?.split(/[\s,]+/) ?? [],
  );
  return [...new Set(named.filter(word => /^(\/[\w.+-]+)+$/.test(word)))];
}

/** What mmdebstrap(1) needs so that a fresh Debian gets its packages and can be updated later. */
export interface AptSources {
  readonly mirrors: readonly string[];
  /** Key files on this machine that the sources in the new tree name. */
  readonly keys: readonly string[];
}

/** The package sources for `suite`. Without apt, none. Throws `command` if apt cannot read its sources. */
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
