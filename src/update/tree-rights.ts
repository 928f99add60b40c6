/**
 * Rights that a tree loses when it is made without them: by tar as an ordinary user, by cp without "-a", or from a file
 * server that gives everything to somebody else. Each check and a login go well in such a tree, but nobody can unlock a
 * screen or become root, or a person owns /etc. dpkg does not record modes, so the programs of Debian are listed here.
 */
import { type Config, isPerson } from '../config/config.ts';
import { parseGroups } from '../linux/accounts.ts';
import { lookAt } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';

/** Directories and files of which whoever can write to them is root. In a merged /usr, some are symlinks. */
const OF_ROOT = [
  ...[
    '',
    '/etc',
    '/usr',
    '/var',
    '/root',
    '/boot',
    '/bin',
    '/sbin',
    '/lib',
    '/lib64',
    '/usr/bin',
    '/usr/sbin',
  ],
  ...['/usr/lib', '/usr/libexec', '/usr/share', '/var/lib', '/var/lib/dpkg', '/etc/pam.d', '/etc/security'],
  ...['/etc/sudoers.d', '/etc/ld.so.conf.d', '/etc/profile.d', '/etc/apt', '/etc/systemd', '/etc/polkit-1'],
  ...['/etc/sudoers', '/etc/ld.so.conf', '/etc/ld.so.preload', '/etc/environment', '/etc/profile'],
];

/** A program that runs with rights of its own: those of root, or of a group. */
interface Privileged {
  readonly path: string;
  readonly group?: string;
  /** Without it, people cannot work: nobody becomes root, changes a password or unlocks a screen. */
  readonly needed?: boolean;
  /** A later version has this file, and needs the bit no more. */
  readonly unless?: string;
}

/** ssh-agent is left out: it works without its group. */
const PROGRAMS: readonly Privileged[] = [
  ...['sudo', 'su', 'passwd'].map(name => ({ path: `/usr/bin/${name}`, needed: true })),
  { path: '/usr/sbin/unix_chkpwd', group: 'shadow', needed: true },
  ...['chfn', 'chsh', 'gpasswd', 'newgrp', 'mount', 'umount', 'pkexec', 'fusermount3', 'schroot'].map(
    name => ({ path: `/usr/bin/${name}` }),
  ),
  { path: '/usr/bin/crontab', group: 'crontab' },
  ...['chage', 'expiry'].map(name => ({ path: `/usr/bin/${name}`, group: 'shadow' })),
  {
    path: '/usr/lib/polkit-1/polkit-agent-helper-1',
    unless: '/usr/lib/systemd/system/polkit-agent-helper.socket',
  },
  { path: '/usr/lib/dbus-1.0/dbus-daemon-launch-helper' },
  { path: '/usr/lib/openssh/ssh-keysign' },
];

const OVERRIDES = '/var/lib/dpkg/statoverride';

/** The text of a plain file of the tree; nothing on the way to it is followed. */
function textIn(host: Host, tree: string, path: string): string {
  const directory = path.slice(0, path.lastIndexOf('/'));
  const isThere = isPlainDirectory(host, tree, directory) && lookAt(host, tree + path)?.kind === 'file';
  return isThere ? (host.read(tree + path) ?? '') : '';
}

const listed = (paths: readonly string[]): string => paths.map(path => `"${path || '/'}"`).join(', ');

/** Which of the system's directories in the tree somebody else than root can write to; undefined if none. */
export function ownerProblem(host: Host, config: Config, tree: string): string | undefined {
  const lost: string[] = [];
  const open: string[] = [];
  for (const path of OF_ROOT) {
    if (!isPlainDirectory(host, tree, path.slice(0, path.lastIndexOf('/')))) continue;
    const there = lookAt(host, tree + path);
    if (there?.kind !== 'dir' && there?.kind !== 'file') continue;
    if (there.kind === 'dir' && !isPlainDirectory(host, tree, path)) continue; // it is the host's
    if (there.uid !== 0) lost.push(path);
    else if (there.mode & 0o002 || (there.mode & 0o020 && isPerson(config, there.gid))) open.push(path);
  }
  const said = [
    ...(lost.length > 0 ? [`${listed(lost)} ${lost.length > 1 ? 'do' : 'does'} not belong to root`] : []),
    ...(open.length > 0 ? [`users can write to ${listed(open)}`] : []),
  ];
  return said.length > 0
    ? `${said.join('; ')}: a tree must be made by root, with its owners ("tar -xp", "cp -a")`
    : undefined;
}

export interface LostBit {
  readonly path: string;
  readonly needed: boolean;
}

/** The programs of the tree that have lost the rights with which they run, unless dpkg-statoverride(1) says so. */
export function lostBits(host: Host, tree: string): LostBit[] {
  const overrides = textIn(host, tree, OVERRIDES).split('\n');
  const groups = parseGroups(textIn(host, tree, '/etc/group'));
  const isIntended = (path: string): boolean =>
    [path, path.replace(/^\/usr/, '')].some(alias => overrides.some(line => line.endsWith(` ${alias}`)));
  const found: LostBit[] = [];
  for (const { path, group, needed = false, unless } of PROGRAMS) {
    // Without a merged /usr, some are in /bin and /sbin.
    for (const at of [path, path.replace(/^\/usr/, '')]) {
      if (!isPlainDirectory(host, tree, at.slice(0, at.lastIndexOf('/')))) continue;
      const there = lookAt(host, tree + at);
      if (there?.kind !== 'file' || isIntended(path)) continue;
      if (unless !== undefined && lookAt(host, tree + unless)) continue;
      const gid = groups.find(g => g.name === group)?.gid;
      const isUser = (there.mode & 0o4000) !== 0 && there.uid === 0;
      const isGroup = group !== undefined && (there.mode & 0o2000) !== 0 && (gid ?? there.gid) === there.gid;
      if (!isUser && !isGroup) found.push({ path: at, needed });
    }
  }
  return found;
}

/** Says what follows from lost bits. Pure. */
export function describeLostBits(lost: readonly LostBit[]): string {
  const follows = lost.some(l => l.needed) ? ', without which nobody unlocks a screen or becomes root' : '';
  return `${listed(lost.map(l => l.path))} ${lost.length > 1 ? 'have' : 'has'} lost the set-id bit or its owner${follows}; if this is intended, say so with dpkg-statoverride`;
}
