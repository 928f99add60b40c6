/** Reads the package sources of apt on this machine. */
import type { Host } from '../linux/host.ts';

/** Codename of the release that this machine runs; undefined if os-release(5) has none. */
export function hostSuite(host: Host): string | undefined {
  return /^VERSION_CODENAME="?([a-z0-9.-]+)"?$/m.exec(host.read('/etc/os-release') ?? '')?.[1];
}

/**
 * Package sources for `suite`, as arguments for mmdebstrap(1). If apt's own sources name the suite, returns all lines
 * for it, security updates included; otherwise the first mirror they name. Empty if there is none.
 */
export function aptSources(host: Host, suite: string): string[] {
  const files = [
    '/etc/apt/sources.list',
    ...host
      .list('/etc/apt/sources.list.d')
      .filter(n => /\.(list|sources)$/.test(n))
      .map(n => `/etc/apt/sources.list.d/${n}`),
  ];
  const entries = files
    .flatMap(file => parseAptSources(host.read(file) ?? ''))
    .filter(e => e.components.includes('main'));
  const same = entries.filter(e =>
    e.suites.some(s => s === suite || s.startsWith(`${suite}-`) || s.startsWith(`${suite}/`)),
  );
  if (same.some(e => e.suites.includes(suite))) {
    return same.flatMap(e =>
      e.suites.filter(s => s.startsWith(suite)).map(s => `deb ${e.uri} ${s} ${e.components.join(' ')}`),
    );
  }
  const mirror = entries.find(e => !e.suites.some(s => s.includes('-security')))?.uri;
  return mirror === undefined ? [] : [mirror];
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

/** Parses both formats of sources.list(5): one-line entries, and paragraphs of fields (deb822). Pure. */
export function parseAptSources(text: string): AptSource[] {
  const split = (s: string | undefined): string[] => (s ?? '').split(/\s+/).filter(Boolean);
  const lines = text.split('\n').flatMap(line => {
    const m = /^\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s+(.*)$/.exec(line);
    return m ? [{ uri: m[1] ?? '', suites: [m[2] ?? ''], components: split(m[3]?.replace(/#.*/, '')) }] : [];
  });
  const paragraphs = text.split(/\n\s*\n/).flatMap(paragraph => {
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'mi').exec(paragraph)?.[1];
    if (!split(field('Types')).includes('deb') || /^no$/i.test(field('Enabled') ?? '')) return [];
    return split(field('URIs')).map(uri => ({
      uri,
      suites: split(field('Suites')),
      components: split(field('Components')),
    }));
  });
  return [...lines, ...paragraphs];
}
