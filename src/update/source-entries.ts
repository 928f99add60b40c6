/** The entries of apt's source files (sources.list(5)), and which of them an update cannot do without. */

/** A line, or a paragraph for one address and one release. */
export interface SourceEntry {
  /** For messages: file and line, or file and release. */
  readonly where: string;
  /** One entry of a file of its own. */
  readonly text: string;
  readonly form: 'list' | 'sources';
  /** Empty if the entry cannot be read. */
  readonly uri: string;
  readonly release: string;
  readonly components: readonly string[];
  /** Whether it is for source packages, of which nothing is installed. */
  readonly isSource: boolean;
}

/** The enabled entries of a file, also those that apt cannot read. Pure. */
export function sourceEntries(file: string, text: string): SourceEntry[] {
  return file.endsWith('.sources') ? stanzas(file, text) : lines(file, text);
}

function lines(file: string, text: string): SourceEntry[] {
  return text.split('\n').flatMap((line, i) => {
    const entry = line.trim();
    if (entry === '' || entry.startsWith('#')) return [];
    const m = /^(deb|deb-src)\s+(?:\[[^\]]*\]\s*)?(cdrom:\[[^\]]*\]\S*|\S+)\s+(\S+)\s*([^#]*)/.exec(entry);
    const [, type, uri = '', release = '', components = ''] = m ?? [];
    return [
      {
        ...{ where: `${file}:${i + 1}`, text: entry, form: 'list' as const, uri, release },
        ...{ components: components.trim().split(/\s+/), isSource: type === 'deb-src' },
      },
    ];
  });
}

const field = (stanza: string, name: string): string =>
  new RegExp(`^${name}:(.*(?:\\n[ \\t].*)*)`, 'im').exec(stanza)?.[1]?.trim() ?? '';

const words = (stanza: string, name: string): string[] => field(stanza, name).split(/\s+/).filter(Boolean);

const replaced = (stanza: string, name: string, value: string): string =>
  stanza.replace(new RegExp(`^(${name}):.*(?:\\n[ \\t].*)*`, 'im'), (_all, key) => `${key}: ${value}`);

function stanzas(file: string, text: string): SourceEntry[] {
  const plain = text.replace(/^[ \t]*#.*\n?/gm, '');
  return plain.split(/\n(?:[ \t]*\n)+/).flatMap(part => {
    const stanza = part.trim();
    if (stanza === '' || /^(no|false|without|off|disable|0)$/i.test(field(stanza, 'Enabled'))) return [];
    const orNone = (name: string): string[] => {
      const all = words(stanza, name);
      return all.length > 0 ? all : [''];
    };
    const components = words(stanza, 'Components');
    return orNone('Types').flatMap(type =>
      orNone('URIs').flatMap(uri =>
        orNone('Suites').map(release => {
          const fields = [...Object.entries({ Types: type, URIs: uri, Suites: release })];
          const one = fields.reduce((s, [name, v]) => (v === '' ? s : replaced(s, name, v)), stanza);
          const where = `${file} (${[type, uri, release].filter(Boolean).join(' ') || 'no fields'})`;
          return {
            ...{ where, text: one, form: 'sources' as const, uri, release, components },
            isSource: type === 'deb-src',
          };
        }),
      ),
    );
  });
}

/** What is known of the distribution in the copy. */
export interface KnownArchives {
  /** Names of the distribution, in lower case: `ID` and `ID_LIKE` in os-release(5). */
  readonly ids: readonly string[];
  readonly codename: string | undefined;
  /** Who has signed the lists of an entry that are there, by its `where`. */
  readonly origins: ReadonlyMap<string, string>;
}

/** Releases without which there are security fixes nevertheless. */
const ADDITIONAL = /-(backports|backports-sloppy|proposed|proposed-updates|debug)$|^(experimental|rc-buggy)/;

const hostOf = (uri: string): string => /^[a-z+]+:\/*([^/]+)/.exec(uri)?.[1] ?? '';

/**
 * The entries that bring the distribution and its security fixes. Their lists say so; of an entry that has none, its
 * address does. Pure.
 */
export function requiredEntries(all: readonly SourceEntry[], known: KnownArchives): SourceEntry[] {
  const usable = all.filter(e => !e.isSource && e.uri !== '' && !ADDITIONAL.test(e.release));
  const originOf = (e: SourceEntry): string | undefined => known.origins.get(e.where)?.toLowerCase();
  const signed = usable.filter(e => known.ids.includes(originOf(e) ?? ''));
  const hosts = new Set(signed.map(e => hostOf(e.uri)).filter(host => host !== ''));
  const { codename = '' } = known;
  const isOwn = (release: string): boolean =>
    codename !== '' && (release === codename || release.startsWith(`${codename}-`));
  return usable.filter(e => {
    const origin = originOf(e);
    if (origin !== undefined) return known.ids.includes(origin);
    if (/(^|\.)(debian\.org|ubuntu\.com)(:\d+)?$/.test(hostOf(e.uri))) return true;
    if (/\/debian-security\/?$/.test(e.uri)) return true;
    if (signed.length > 0) return hosts.has(hostOf(e.uri)) && e.components.includes('main');
    return /\/(debian|ubuntu)\/?$/.test(e.uri) || (isOwn(e.release) && e.components.includes('main'));
  });
}
