/**
 * The package sources of apt on this machine. Apt itself says which entries of a file are enabled, and mmdebstrap(1)
 * gets the file unchanged, with all keys and options. Only the names of key files, and the options of an archive that is
 * used for another release, are taken from the text.
 *
 * `apt-get indextargets` only lists indexes that have been downloaded, and does not name the keys (apt 2.6).
 * `apt-get update --print-uris` needs neither lists nor the network, and downloads nothing.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { optionsOf, plainPaths, signingKeys } from './source-text.ts';

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

/** Components of a release, and the archive that it is in. */
export interface AptTarget {
  readonly uri: string;
  readonly release: string;
  readonly components: readonly string[];
}

/** Parses the output of {@link printUris}. Apt leaves out disabled entries; source packages are ignored. Pure. */
export function parseUris(printed: string): AptTarget[] {
  const found = new Map<string, { uri: string; release: string; components: string[] }>();
  for (const line of printed.split('\n')) {
    const m = /^'(.*)\/dists\/(.+)\/([^/]+)\/binary-[^/]+\/Packages[^/]*' /.exec(line);
    if (!m) continue;
    const [, uri = '', release = '', component = ''] = m;
    const target = found.get(`${uri} ${release}`) ?? { uri, release, components: [] };
    if (!target.components.includes(component)) target.components.push(component);
    found.set(`${uri} ${release}`, target);
  }
  return [...found.values()];
}

/** A file of sources and its enabled entries. */
export interface SourceFile {
  readonly file: string;
  readonly targets: readonly AptTarget[];
  readonly text?: string;
}

/** Who has signed the lists of an archive that have been downloaded ("Origin" in them), by its address. */
export type Origins = ReadonlyMap<string, string>;

/** Arguments for apt-get(8) that print the origins, and parsing them. */
export const PRINT_ORIGINS = ['indextargets', '--format', '$(REPO_URI) $(ORIGIN)'];

export function parseOrigins(printed: string): Origins {
  const rows = printed.split('\n').map(line => /^(\S+) (.+)$/.exec(line));
  return new Map(rows.flatMap(m => (m?.[1] ? [[m[1].replace(/\/+$/, ''), m[2] ?? ''] as const] : [])));
}

/** Whether an archive can be reached from the new tree; one on a medium or a local disk cannot. */
const isRemote = ({ uri }: AptTarget): boolean =>
  /^(https?|mirror|mirror\+https?|mirror\+file|tor\+https?|ftp):/.test(uri);

/** The release and the distribution (`ID` and `ID_LIKE` in os-release(5)) that this machine runs. */
export interface OwnRelease {
  readonly suite: string | undefined;
  readonly id: string;
  readonly like?: readonly string[];
}

/** Releases that have no suites of their own with updates and security fixes. */
const ROLLING = ['sid', 'unstable', 'testing', 'experimental', 'rc-buggy', 'devel'];

/**
 * The MIRROR arguments for mmdebstrap(1): the files whose entries have the suite, unchanged; of a file that also has an
 * archive that cannot be reached, the other entries. If no file has the suite, the archive of this machine's own release,
 * with its options, and its archives of security fixes and updates. Empty if there is none; mmdebstrap then uses Debian's
 * default. Archives of others, such as of a browser, are never taken for that of the distribution, also if they name their
 * release "stable". Pure.
 */
export function chooseMirrors(
  all: readonly SourceFile[],
  suite: string,
  own: OwnRelease,
  origins: Origins = new Map(),
): string[] {
  const isOf = (release: string): boolean =>
    release === suite || release.startsWith(`${suite}-`) || release.startsWith(`${suite}/`);
  const everything = all.flatMap(f => f.targets);
  const isOfficial = ({ uri, release, components }: AptTarget): boolean => {
    if (!components.includes('main')) return false;
    const origin = origins.get(uri.replace(/\/+$/, ''))?.toLowerCase();
    if (origin !== undefined) return [own.id, ...(own.like ?? [])].includes(origin);
    const hasUpdates = everything.some(t => t.uri === uri && t.release === `${release}-updates`);
    return (
      hasUpdates ||
      /\/(debian|ubuntu|debian-security)\/?$/.test(uri) ||
      (release === own.suite && !/debian|apt|deb/.test(uri))
    );
  };
  const textOf = (t: AptTarget): string => all.find(f => f.targets.includes(t))?.text ?? '';
  const files = all.filter(f => f.targets.some(t => isOf(t.release)));
  const has = files.some(f => f.targets.some(t => t.release === suite && isRemote(t) && isOfficial(t)));
  if (has)
    return files.flatMap(f =>
      f.targets.every(isRemote)
        ? [f.file]
        : f.targets.filter(isRemote).map(t => sourceLine(t, t.release, t.components, f.text ?? '')),
    );
  const archives = everything.filter(t => isRemote(t) && isOfficial(t));
  const bases = archives.filter(t => !/-security|-updates|-backports|\/updates/.test(t.release));
  const best = bases.find(t => t.release === suite || t.release === own.suite) ?? bases[0];
  if (!best) return [];
  const line = sourceLine(best, suite, ['main'], textOf(best));
  const later = ROLLING.includes(suite)
    ? []
    : archives.flatMap(t => {
        const part = t.release.startsWith(`${best.release}-`) ? t.release.slice(best.release.length) : '';
        return /^-(security|updates)$/.test(part) ? [sourceLine(t, suite + part, ['main'], textOf(t))] : [];
      });
  const isPlain = !line.startsWith('deb [') && best.uri.includes('://');
  return [isPlain ? best.uri : line, ...later]; // for an address alone, mmdebstrap finds the key
}

/** A line of sources.list(5), with the options that the archive has in `text`. */
function sourceLine(t: AptTarget, release: string, components: readonly string[], text: string): string {
  const options = optionsOf(text, t.uri, t.release);
  const uri = t.uri.replace(/^(mirror\+file):\/(?!\/)/, '$1:///');
  return ['deb', ...(options === '' ? [] : [`[${options}]`]), uri, release, ...components].join(' ');
}

/**
 * The settings of apt, as `apt-config dump` prints them, without which it would not get or accept the lists. Pure.
 */
export function acquireSettings(dump: string): string[] {
  const names = [
    ...['((https?|ftp)::)?Proxy(::[\\w.-]+)?', 'Check-(Valid-Until|Date)(::[\\w.-]+)?', 'Retries'],
    ...['(Max|Min)-ValidTime(::[\\w.-]+)?', 'https?::(Timeout|User-Agent|AllowRedirect)', 'ForceIPv[46]'],
    'https::([\\w.-]+::)?(CAInfo|Verify-Peer|Verify-Host)',
  ];
  const wanted = new RegExp(`^Acquire::(${names.join('|')}) "[^"\\n]+";$`, 'i');
  return dump.split('\n').filter(line => wanted.test(line));
}

/** What mmdebstrap(1) needs so that a fresh Debian gets its packages and can be updated later. */
export interface AptSources {
  readonly mirrors: readonly string[];
  /** Files on this machine that the new tree needs: keys, lists of mirrors, and certificates. */
  readonly keys: readonly string[];
  readonly settings: readonly string[];
  /** Packages without which the tree cannot reach its archives; mmdebstrap itself uses this machine's. */
  readonly packages: readonly string[];
}

/** The packages that apt needs to reach archives. Pure. */
export function transportPackages(uris: readonly string[]): string[] {
  const has = (pattern: RegExp): boolean => uris.some(uri => pattern.test(uri));
  return [
    ...(has(/\bhttps:/) ? ['ca-certificates'] : []),
    ...(has(/\btor\+https?:/) ? ['apt-transport-tor'] : []),
  ];
}

/** The package sources for `suite`. Without apt, none. Throws `command` if apt cannot read its sources. */
export async function aptSources(host: Host, suite: string): Promise<AptSources> {
  const ask = async (file: string, args: readonly string[], okCodes = [0]): Promise<string> => {
    try {
      return (await host.run({ file, args, effect: 'read', okCodes })).stdout;
    } catch (error) {
      if (error instanceof MayflyError && error.code === 'missing-tool') return '';
      throw error;
    }
  };
  const all: SourceFile[] = [];
  for (const file of sourceFiles(host)) {
    const targets = parseUris(await ask('apt-get', printUris(file)));
    all.push({ file, targets, text: host.read(file) ?? '' });
  }
  const origins = parseOrigins(await ask('apt-get', PRINT_ORIGINS, [0, 100])); // 100: an entry is invalid
  const release = host.read('/etc/os-release') ?? '';
  const id = /^ID="?([a-z0-9._-]+)"?$/m.exec(release)?.[1] ?? 'debian';
  const like = /^ID_LIKE="?([a-z0-9._ -]+)"?$/m.exec(release)?.[1]?.split(' ') ?? [];
  const mirrors = chooseMirrors(all, suite, { suite: hostSuite(host), id, like }, origins);
  const used = all.filter(f => mirrors.includes(f.file));
  const uris = [...used.flatMap(f => f.targets.map(t => t.uri)), ...mirrors];
  const lists = plainPaths(uris.flatMap(text => /mirror\+file:\/*(\/[^\s]+)/.exec(text)?.[1] ?? []));
  const settings = acquireSettings(await ask('apt-config', ['dump']));
  const packages = transportPackages([...uris, ...lists.map(path => host.read(path) ?? '')]);
  const filesIn = (directory: string): string[] => host.list(directory).map(name => `${directory}/${name}`);
  const keys = [
    ...used.flatMap(f => signingKeys(f.text ?? '')),
    ...mirrors.flatMap(signingKeys),
    ...lists,
    ...settings.flatMap(line => /::CAInfo "(.*)";$/i.exec(line)?.[1] ?? []),
    // Of entries that name no key, and of archives with a certificate of the site.
    ...(mirrors.length > 0 ? ['/etc/apt/trusted.gpg', ...filesIn('/etc/apt/trusted.gpg.d')] : []),
    ...(packages.includes('ca-certificates') ? filesIn(SITE_CERTIFICATES) : []),
  ];
  return { mirrors, keys: plainPaths(keys).filter(k => host.stat(k)?.kind === 'file'), settings, packages };
}

/** From here update-ca-certificates(8) adds certificates to those of the distribution. */
export const SITE_CERTIFICATES = '/usr/local/share/ca-certificates';
