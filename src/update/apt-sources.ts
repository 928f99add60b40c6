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
  /^(https?|mirror\+https?|mirror\+file|tor\+https?|ftp):/.test(uri);

/** The release and the distribution (`ID` in os-release(5)) that this machine runs. */
export interface OwnRelease {
  readonly suite: string | undefined;
  readonly id: string;
}

/**
 * The MIRROR arguments for mmdebstrap(1): the files whose entries have the suite, unchanged. If no file has it, or one
 * of them also has an archive that cannot be reached, the archive of this machine's own release, with its options. Empty
 * if there is none; mmdebstrap then uses Debian's default. Archives of others, such as of a browser, are never taken for
 * that of the distribution, also if they name their release "stable". Pure.
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
    const origin = origins.get(uri.replace(/\/+$/, ''));
    if (origin !== undefined) return origin.toLowerCase() === own.id;
    const hasUpdates = everything.some(t => t.uri === uri && t.release === `${release}-updates`);
    return (
      hasUpdates ||
      /\/(debian|ubuntu)\/?$/.test(uri) ||
      (release === own.suite && !/debian|apt|deb/.test(uri))
    );
  };
  const files = all.filter(f => f.targets.some(t => isOf(t.release)));
  const has = files.some(f => f.targets.some(t => t.release === suite && isOfficial(t)));
  if (has && files.every(f => f.targets.every(isRemote))) return files.map(f => f.file);
  const archives = everything.filter(
    t => isRemote(t) && isOfficial(t) && !/-security|-updates|-backports|\/updates/.test(t.release),
  );
  const best = archives.find(t => t.release === suite || t.release === own.suite) ?? archives[0];
  if (!best) return [];
  const text = all.find(f => f.targets.includes(best))?.text ?? '';
  const options = optionsOf(text, best.uri);
  return [options === '' ? best.uri : `deb [${options}] ${best.uri} ${suite} main`];
}

/** Fields of deb822(5) that decide whether apt accepts an archive, as options of a line. */
const OPTIONS = ['trusted', 'check-valid-until', 'valid-until-max', 'allow-insecure', 'allow-weak'];

/** The options of the first entry of an archive in a file of sources, for a line of sources.list(5). Pure. */
function optionsOf(text: string, uri: string): string {
  const names = (entry: string): boolean => entry.replace(/:\/{3}/g, ':/').includes(uri.replace(/\/+$/, ''));
  if (!/^types:/im.test(text)) {
    const line = text.split('\n').find(l => /^\s*deb\s/.test(l) && names(l)) ?? '';
    const given = /^\s*deb\s+\[([^\]]*)\]/.exec(line)?.[1] ?? '';
    return given
      .trim()
      .split(/\s+/)
      .filter(o => [...OPTIONS, 'signed-by'].includes(o.replace(/[-+]?=.*/, '').toLowerCase()))
      .join(' ');
  }
  const stanza = text.split(/\n\s*\n/).find(names) ?? '';
  const given = OPTIONS.flatMap(name => {
    const value = new RegExp(`^${name}:\\s*(\\S+)`, 'im').exec(stanza)?.[1];
    return value === undefined ? [] : [`${name}=${value}`];
  });
  const keys = signingKeys(stanza);
  return [...given, ...(keys.length > 0 ? [`signed-by=${keys.join(',')}`] : [])].join(' ');
}

const isPlainPath = (path: string): boolean => /^(\/[\w.+-]+)+$/.test(path);

/** The key files that the entries name, also on continuation lines; a key in an entry itself needs no file. Pure. */
export function signingKeys(text: string): string[] {
  const plain = text.replace(/^[ \t]*#.*\n?/gm, '');
  const lines = [...plain.matchAll(/signed-by\s*=\s*([^\]\s]*)/gi)].map(m => m[1] ?? '');
  const fields = [...plain.matchAll(/^signed-by:(.*(?:\n[ \t].*)*)/gim)].map(m => m[1] ?? '');
  return [...new Set([...lines, ...fields].flatMap(value => value.split(/[\s,]+/)).filter(isPlainPath))];
}

/** The settings of apt, as `apt-config dump` prints them, without which it would not get or accept the lists. Pure. */
export function acquireSettings(dump: string): string[] {
  const wanted =
    /^Acquire::(((https?|ftp)::)?(Proxy|proxy)(::[\w.-]+)?|Check-Valid-Until|Max-ValidTime|Retries) "[^"\n]+";$/;
  return dump.split('\n').filter(line => wanted.test(line));
}

/** What mmdebstrap(1) needs so that a fresh Debian gets its packages and can be updated later. */
export interface AptSources {
  readonly mirrors: readonly string[];
  /** Files on this machine that the new tree needs: keys, and lists of mirrors. */
  readonly keys: readonly string[];
  readonly settings: readonly string[];
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
  const id = /^ID="?([a-z0-9._-]+)"?$/m.exec(host.read('/etc/os-release') ?? '')?.[1] ?? 'debian';
  const mirrors = chooseMirrors(all, suite, { suite: hostSuite(host), id }, origins);
  const used = all.filter(f => mirrors.includes(f.file));
  const trusted = host.list('/etc/apt/trusted.gpg.d').map(name => `/etc/apt/trusted.gpg.d/${name}`);
  const lists = [...used.flatMap(f => f.targets.map(t => t.uri)), ...mirrors].flatMap(
    text => /mirror\+file:\/*(\/[^\s]+)/.exec(text)?.[1] ?? [],
  );
  const keys = [
    ...used.flatMap(f => signingKeys(f.text ?? '')),
    ...mirrors.flatMap(signingKeys),
    ...lists,
    ...(mirrors.length > 0 ? ['/etc/apt/trusted.gpg', ...trusted] : []), // of entries that name no key
  ].filter(k => isPlainPath(k) && host.stat(k)?.kind === 'file');
  return { mirrors, keys: [...new Set(keys)], settings: acquireSettings(await ask('apt-config', ['dump'])) };
}
