/** What only the text of apt's source files says: names of key files, and the options of an archive (sources.list(5)). */

const isPlainPath = (path: string): boolean => /^(\/[\w.+-]+)+$/.test(path) && !path.includes('/..');

/** Paths of files without characters that a shell or apt would interpret. Pure. */
export const plainPaths = (words: readonly string[]): string[] => [...new Set(words.filter(isPlainPath))];

/** The key files that the entries name, also on continuation lines; a key in an entry itself needs no file. Pure. */
export function signingKeys(text: string): string[] {
  const plain = text.replace(/^[ \t]*#.*\n?/gm, '');
  const lines = [...plain.matchAll(/signed-by\s*[-+]?=\s*"?([^\]\s"]*)/gi)].map(m => m[1] ?? '');
  const fields = [...plain.matchAll(/^signed-by:(.*(?:\n[ \t].*)*)/gim)].map(m => m[1] ?? '');
  return plainPaths([...lines, ...fields].flatMap(value => value.split(/[\s,]+/)));
}

/** Fields of deb822(5) that decide whether apt accepts an archive, as options of a line. */
const OPTIONS = [
  ...['trusted', 'check-valid-until', 'valid-until-min', 'valid-until-max', 'check-date', 'date-max-future'],
  ...['allow-insecure', 'allow-weak', 'allow-downgrade-to-insecure', 'by-hash'],
];

const sameArchive = (a: string, b: string): boolean => plainUri(a) === plainUri(b);
const plainUri = (uri: string): string => uri.replace(/:\/{3}/, ':/').replace(/\/+$/, '');

/**
 * The options of an archive in a file of sources, for a line of sources.list(5): of the entry that has the release, or
 * else of the first one. Entries that are disabled do not count. Pure.
 */
export function optionsOf(text: string, uri: string, release: string): string {
  const plain = text.replace(/^[ \t]*#.*\n?/gm, '');
  return /^types:/im.test(plain) ? ofStanzas(plain, uri, release) : ofLines(plain, uri, release);
}

function ofLines(text: string, uri: string, release: string): string {
  const lines = [...text.matchAll(/^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)/gm)];
  const named = lines.filter(m => sameArchive(m[2] ?? '', uri));
  const given = (named.find(m => m[3] === release) ?? named[0])?.[1] ?? '';
  return given
    .trim()
    .split(/\s+/)
    .filter(o => [...OPTIONS, 'signed-by'].includes(o.replace(/\s*[-+]?=.*/, '').toLowerCase()))
    .join(' ');
}

function ofStanzas(text: string, uri: string, release: string): string {
  const fieldOf = (stanza: string, name: string): string =>
    new RegExp(`^${name}:(.*(?:\\n[ \\t].*)*)`, 'im').exec(stanza)?.[1]?.trim() ?? '';
  const words = (stanza: string, name: string): string[] => fieldOf(stanza, name).split(/\s+/);
  const named = text
    .split(/\n[ \t]*\n/)
    .filter(
      stanza =>
        words(stanza, 'types').includes('deb') &&
        !/^(no|false|without|off|disable|0)$/i.test(fieldOf(stanza, 'enabled')) &&
        words(stanza, 'uris').some(word => sameArchive(word, uri)),
    );
  const stanza = named.find(s => words(s, 'suites').includes(release)) ?? named[0];
  if (stanza === undefined) return '';
  const given = OPTIONS.flatMap(name => {
    const value = /^\S+/.exec(fieldOf(stanza, name))?.[0];
    return value === undefined ? [] : [`${name}=${value}`];
  });
  const signed = words(stanza, 'signed-by');
  const isInside = signed.some(word => word.startsWith('-----')); // the key itself, which a line cannot hold
  const keys = isInside ? [] : signed.filter(word => isPlainPath(word) || /^[0-9A-Fa-f]{16,}!?$/.test(word));
  return [...given, ...(keys.length > 0 ? [`signed-by=${keys.join(',')}`] : [])].join(' ');
}
