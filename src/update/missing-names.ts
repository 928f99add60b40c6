/**
 * What names accounts in a copy of the running system that the copy does not have, because they are people. dpkg refuses
 * to work as long as dpkg-statoverride(1) names one, so such an override is removed; the rest is said.
 */
import type { Host } from '../linux/host.ts';

const OVERRIDES = '/var/lib/dpkg/statoverride';

/** The names of users and groups in passwd(5) or group(5). Pure. */
export const namesIn = (text: string): Set<string> =>
  new Set(text.split('\n').flatMap(line => /^([^:#]+):/.exec(line)?.[1] ?? []));

/** The overrides that stay, and those whose user or group does not exist. `#1000` is a number and needs no name. Pure. */
export function splitOverrides(
  text: string,
  users: ReadonlySet<string>,
  groups: ReadonlySet<string>,
): { readonly kept: string; readonly removed: readonly string[] } {
  const lines = text.split('\n').filter(Boolean);
  const exists = (name: string, names: ReadonlySet<string>): boolean =>
    /^#\d+$/.test(name) || names.has(name);
  const isKept = (line: string): boolean => {
    const [user = '', group = ''] = line.split(' ');
    return exists(user, users) && exists(group, groups);
  };
  return {
    kept: lines
      .filter(isKept)
      .map(line => `${line}\n`)
      .join(''),
    removed: lines.filter(line => !isKept(line)),
  };
}

/** Lines that name an account to run something as, by the kind of file. */
const FORMS: readonly (readonly [directory: string, file: RegExp, name: RegExp])[] = [
  ['/etc', /^crontab$/, /^\s*(?:@\w+|(?:\S+\s+){4}\S+)\s+([a-z_][\w.-]*\$?)\s/gim],
  ['/etc/cron.d', /^[\w-]+$/, /^\s*(?:@\w+|(?:\S+\s+){4}\S+)\s+([a-z_][\w.-]*\$?)\s/gim],
  ['/etc', /^sudoers$/, /^([a-z_][\w.-]*)\s+\S+\s*=/gim],
  ['/etc/sudoers.d', /^[^.~]+$/, /^([a-z_][\w.-]*)\s+\S+\s*=/gim],
  [
    '/etc/systemd/system',
    /\.(service|socket)$/,
    /^\s*(?:User|Group|SocketUser|SocketGroup)\s*=\s*([^\s%\d][^\s%]*)/gim,
  ],
  ['/usr/local/lib/systemd/system', /\.(service|socket)$/, /^\s*(?:User|Group)\s*=\s*([^\s%\d][^\s%]*)/gim],
  ['/etc/tmpfiles.d', /\.conf$/, /^[a-zA-Z]\S*\s+\S+\s+\S+\s+([a-z_][\w.-]*)\s/gm],
  ['/etc/logrotate.d', /^[\w.-]+$/, /^\s*(?:su|create\s+\d+)\s+([a-z_][\w.-]*)/gim],
];

/** The accounts among `gone` that a text names, where `form` captures a name. Pure. */
export function namedIn(text: string, form: RegExp, gone: ReadonlySet<string>): string[] {
  return [...new Set([...text.matchAll(form)].flatMap(m => (gone.has(m[1] ?? '') ? [m[1] ?? ''] : [])))];
}

/** Removes overrides of accounts that the copy at `tree` lacks, and names what else needs those of the system at `root`. */
export function settleMissingNames(
  host: Host,
  root: string,
  tree: string,
  say: (line: string) => void,
): void {
  const read = (path: string): string => (host.lstat(path)?.kind === 'file' ? (host.read(path) ?? '') : '');
  const [users, groups] = ['passwd', 'group'].map(name => namesIn(read(`${tree}/etc/${name}`)));
  const { kept, removed } = splitOverrides(read(tree + OVERRIDES), users ?? new Set(), groups ?? new Set());
  if (removed.length > 0) host.write(tree + OVERRIDES, kept, { mode: 0o644, uid: 0, gid: 0 });
  for (const line of removed)
    say(`the override "${line}" of dpkg-statoverride is not copied: the copy has no such user or group`);
  const before = ['passwd', 'group'].flatMap(name => [...namesIn(host.read(`${root}/etc/${name}`) ?? '')]);
  const gone = new Set(before.filter(name => !users?.has(name) && !groups?.has(name)));
  for (const [directory, file, form] of FORMS) {
    if (host.lstat(tree + directory)?.kind !== 'dir') continue;
    for (const name of host.list(tree + directory).filter(n => file.test(n))) {
      const named = namedIn(read(`${tree}${directory}/${name}`), form, gone);
      if (named.length > 0)
        say(
          `"${directory}/${name}" names ${named.join(', ')}, whom the copy does not have: people are not copied`,
        );
    }
  }
}
