/**
 * What of a running system does not belong into a copy of it. A list of secrets is never complete, so the rule is the
 * other way round: what others cannot read is private and left out, unless a package ships it unchanged or the
 * administrator names it. The lists below add what is private although others can read it, and what is not part of a
 * system. Pure.
 */

/** An entry of the system; `path` begins with "/". */
export interface TreeEntry {
  /** As find(1) prints it: "d" for a directory, "f" for a file, "l" for a symlink. */
  readonly type: string;
  readonly mode: number;
  readonly path: string;
}

/** Never copied: other file systems, homes, state and names of this machine. Patterns of {@link matcher}. */
export const NOT_FROM_HOST = [
  ...['/proc/*', '/sys/*', '/dev/*', '/run/*', '/tmp/*', '/var/tmp/*', '/home/*', '/root/*', '/mnt/*'],
  ...['/media/*', '/srv/*', '/boot/*', '/lost+found', '/swapfile', '/swap.img', '/var/run/*', '/var/lock/*'],
  ...['/var/mail/*', '/var/spool/mail/*', '/var/crash/*', '/var/lib/apt/lists/*', '/var/lib/mayfly'],
  ...['/var/lib/schroot/*', '/var/lib/docker', '/var/lib/containerd', '/var/lib/containers'],
  ...['/var/lib/machines/*', '/var/lib/lxc', '/var/lib/lxd', '/var/lib/libvirt', '/var/lib/postgresql'],
  ...['/var/lib/mysql', '/var/lib/systemd/random-seed', '/var/lib/systemd/credential.secret'],
  ...['/var/lib/systemd/coredump/*', '/var/lib/systemd/linger/*', '/var/lib/private/*'],
  ...['/var/lib/AccountsService/users/*', '/var/lib/lastlog/*', '/var/lib/wtmpdb/*'],
  ...['/var/lib/dbus/machine-id', '/etc/machine-id', '/etc/hostid', '/etc/mayfly', '/etc/fstab'],
  ...['/etc/crypttab', '/etc/schroot/chroot.d/*', '/etc/.pwd.lock'],
  ...['/var/lib/dpkg/lock', '/var/lib/dpkg/lock-frontend', '/var/lib/dpkg/triggers/Lock'],
  ...['/etc/shadow', '/etc/gshadow'], // written anew, without the hashes
  ...['passwd', 'group', 'shadow', 'gshadow', 'subuid', 'subgid'].map(name => `/etc/${name}-`),
];

/** Private, whatever its mode is. */
const PRIVATE = [
  ...['/etc/.git', '/etc/.hg', '/etc/.bzr', '/etc/_darcs'], // etckeeper(8) has everybody's password hash in it
  ...['/etc/ssh/ssh_host_*', '/etc/ssl/private/*', '/etc/letsencrypt', '/etc/krb5.keytab'],
  ...['/etc/NetworkManager/system-connections/*', '/etc/wpa_supplicant/*.conf', '/etc/ppp/*-secrets'],
  ...['/etc/wireguard/*', '/etc/openvpn/*', '/etc/sudoers.d/*', '/etc/cryptsetup-keys.d/*', '/etc/keys/*'],
  ...[
    '/etc/luks-keys/*',
    '/etc/munge/*.key',
    '/etc/salt/pki/*',
    '/etc/puppet/ssl/*',
    '/etc/puppetlabs/*/ssl/*',
  ],
  ...['/etc/veyon/keys/private/*', '/etc/apt/auth.conf', '/etc/apt/auth.conf.d/*', '/etc/cups/ssl/*'],
  ...['/var/lib/sss/*', '/var/lib/samba/private/*', '/var/lib/NetworkManager/*', '/var/lib/bluetooth/*'],
  ...['/var/lib/iwd/*', '/var/lib/puppet/ssl/*', '/var/lib/etckeeper/*'],
];

/** Directories of which only the directories belong to the system, because services need them. */
const ONLY_DIRECTORIES = ['/var/spool', '/var/cache', '/var/log', '/var/backups'];

/** Except for these, which would be asked, or made, for each user anew. */
const WITH_FILES = ['debconf', 'fontconfig', 'dictionaries-common', 'man'].map(name => `/var/cache/${name}`);

/** Whether a path is one of these, or below one. */
export function isBelow(path: string, directories: readonly string[]): boolean {
  return directories.some(at => path === at || path.startsWith(`${at}/`));
}

/**
 * A function that says whether a path matches one of the patterns. "*" stands for any part of a name, also one that
 * begins with a dot. What is below a match is not asked for.
 */
function matcher(patterns: readonly string[]): (path: string) => boolean {
  const parts = patterns.map(p => p.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '[^/]*'));
  const all = new RegExp(`^(?:${parts.join('|')})$`, 's');
  return path => all.test(path);
}

/** What is left out, and why. */
export interface LeftOut<Entry extends TreeEntry> {
  /** The topmost paths that are private. A package may ship some of them. */
  readonly private: readonly Entry[];
  /** Files that are no part of a system. */
  readonly state: readonly TreeEntry[];
  /** Directories whose content others cannot reach; nothing is said of what is in them. */
  readonly closed: ReadonlySet<string>;
}

/**
 * Judges all entries of a system; each directory comes before what is in it. `never`: paths that are left out in any
 * case. `keep`: paths that the administrator has named.
 */
export function findNotCopied<Entry extends TreeEntry>(
  entries: readonly Entry[],
  { never, keep }: { readonly never: readonly string[]; readonly keep: readonly string[] },
): LeftOut<Entry> {
  const isPrivate = matcher(PRIVATE);
  const isNever = matcher(NOT_FROM_HOST);
  const gone = new Set<string>();
  const closed = new Set<string>();
  const out = { private: [] as Entry[], state: [] as TreeEntry[], closed };
  for (const e of entries) {
    const above = e.path.slice(0, e.path.lastIndexOf('/'));
    const isDirectory = e.type === 'd';
    if (gone.has(above) || isNever(e.path) || never.includes(e.path)) {
      if (!gone.has(above)) out.state.push(e);
      if (isDirectory) gone.add(e.path);
      continue;
    }
    if (isBelow(e.path, keep)) continue;
    const isState = isBelow(e.path, ONLY_DIRECTORIES) && !isBelow(e.path, WITH_FILES);
    if (isState && !isDirectory) {
      out.state.push(e);
      continue;
    }
    const isHidden = closed.has(above) || isPrivate(e.path);
    // 0o1: without it, nobody else reaches what is in a directory, whatever the modes there.
    if (isDirectory && (isHidden || (e.mode & 0o1) === 0)) closed.add(e.path);
    if (isHidden || (!isDirectory && e.type !== 'l' && (e.mode & 0o4) === 0)) out.private.push(e);
  }
  return out;
}

/**
 * Lines for the administrator about the private paths that are left out: a directory whose content is closed to others
 * stands for what is in it.
 */
export function describePrivate(paths: readonly string[], closed: ReadonlySet<string>): string[] {
  const groups = new Map<string, string[]>();
  for (const path of paths) {
    const parents = path.split('/').map((_, i, parts) => parts.slice(0, i + 1).join('/'));
    const top = parents.find(at => closed.has(at)) ?? path;
    const group = groups.get(top) ?? [];
    group.push(path);
    groups.set(top, group);
  }
  return [...groups].map(([at, all]) => (all.length === 1 ? `"${all[0]}"` : `"${at}" (${all.length} paths)`));
}
