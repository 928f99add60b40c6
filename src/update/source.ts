/** Fills the first tree: from a new Debian installation, the running system, a directory or a tarball. */
import { MayflyError } from '../errors.ts';
import type { Command } from '../linux/command.ts';
import type { Host } from '../linux/host.ts';
import { type AptSources, aptSources } from './apt-sources.ts';
import { sourceTrees } from './source-trees.ts';

/** Gets a line for each step; with `detail`, a line of a command's output. */
export type Progress = (line: string, detail?: boolean) => void;

export type Source =
  | {
      readonly kind: 'debootstrap';
      readonly suite: string;
      readonly variant: string;
      readonly packages: readonly string[];
    }
  | { readonly kind: 'directory' | 'tarball'; readonly path: string }
  | { readonly kind: 'host' };

/** Paths of a running system that are not copied: state, homes, mounts, secrets. Patterns of tar(1). */
export const NOT_FROM_HOST = [
  './proc/*',
  './sys/*',
  './dev/*',
  './run/*',
  './tmp/*',
  './var/tmp/*',
  './home/*',
  './root/*',
  './root/.[!.]*',
  './mnt/*',
  './media/*',
  './srv/*',
  './boot/*',
  './lost+found',
  './swapfile',
  './swap.img',
  './var/run/*',
  './var/lock/*',
  './var/log/*',
  './var/spool/*',
  './var/mail/*',
  './var/backups/*',
  './var/crash/*',
  './var/cache/*',
  './var/lib/apt/lists/*',
  './var/lib/mayfly',
  './var/lib/schroot/*',
  './var/lib/docker',
  './var/lib/containerd',
  './var/lib/containers',
  './var/lib/machines',
  './var/lib/lxc',
  './var/lib/lxd',
  './var/lib/libvirt',
  './var/lib/postgresql',
  './var/lib/mysql',
  './var/lib/systemd/random-seed',
  './var/lib/systemd/credential.secret',
  './var/lib/systemd/coredump/*',
  './var/lib/private/*',
  './var/lib/NetworkManager/*',
  './var/lib/bluetooth/*',
  './var/lib/sss/*',
  './var/lib/AccountsService/users/*',
  './etc/machine-id',
  './var/lib/dbus/machine-id',
  './etc/hostid',
  './etc/ssh/ssh_host_*',
  './etc/ssl/private/*',
  './etc/letsencrypt',
  './etc/krb5.keytab',
  './etc/NetworkManager/system-connections/*',
  './etc/wpa_supplicant/*.conf',
  './etc/ppp/*-secrets',
  './etc/wireguard/*',
  './etc/openvpn/*',
  './etc/mayfly',
  './etc/schroot/chroot.d/*',
  './etc/fstab',
  './etc/crypttab',
  './etc/shadow-',
  './etc/gshadow-',
  './etc/passwd-',
  './etc/group-',
  './etc/sudoers.d/*',
];

/** The source as text. */
export function describeSource(s: Source): string {
  switch (s.kind) {
    case 'debootstrap':
      return `debootstrap ${s.suite} (${s.variant}${s.packages.length > 0 ? `, with ${s.packages.join(', ')}` : ''})`;
    case 'host':
      return 'the running system';
    default:
      return `${s.kind} ${s.path}`;
  }
}

/** Throws `usage` if the directory or tarball does not exist, and `missing-tool` if a program is not installed. */
export async function checkSource(host: Host, s: Source): Promise<void> {
  if (s.kind === 'directory' || s.kind === 'tarball') {
    const wanted = s.kind === 'directory' ? 'dir' : 'file';
    const there = host.stat(s.path);
    if (there?.kind !== wanted)
      throw new MayflyError('usage', `"${s.path}" is not a ${s.kind}`, { path: s.path });
    return;
  }
  const tool = s.kind === 'debootstrap' ? 'mmdebstrap' : 'tar';
  await host.run({ file: tool, args: ['--version'], effect: 'read' });
}

/** Fills `tree` from the source. `own` are Mayfly's directories, which are left out. Throws `command`. */
export async function fillTree(
  host: Host,
  tree: string,
  { source, say }: { readonly source: Source; readonly say: Progress },
  own: readonly string[],
): Promise<void> {
  const onLine = (line: string): void => say(line, true);
  switch (source.kind) {
    case 'directory': {
      const from = source.path === '/' ? '' : source.path;
      const isOwn = (path: string): boolean => own.includes(from + path);
      const { subvolumes, mounts } = await sourceTrees(host, from, isOwn);
      sayLeftOut(say, from, mounts);
      for (const part of ['', ...subvolumes]) {
        const args = [
          '-a',
          '--reflink=auto',
          '--one-file-system',
          '-T',
          '--',
          `${from}${part}/`,
          tree + part,
        ];
        await host.run({ file: 'cp', args, effect: 'write', onLine });
      }
      return;
    }
    case 'tarball':
      await host.run({ ...untar(tree, source.path), onLine });
      return;
    case 'host': {
      const { subvolumes, mounts } = await sourceTrees(host, '', path => isExcluded(path, own));
      sayLeftOut(
        say,
        '',
        mounts.filter(path => !SEPARATE.includes(path)),
      );
      await host.run({ ...untar(tree, '-'), onLine, pipeFrom: tarOfHost(host, own, subvolumes) });
      return;
    }
    case 'debootstrap':
      await host.run({ ...mmdebstrap(source, tree, await aptSources(host, source.suite)), onLine });
      return;
  }
}

/** Names the mounts that are not copied: what is on them belongs to another file system. */
function sayLeftOut(say: Progress, root: string, mounts: readonly string[]): void {
  for (const path of mounts) say(`"${root}${path}" is not copied: it is a mount`);
}

/** Whether a directory of the host, or everything in it, is not copied. */
function isExcluded(path: string, own: readonly string[]): boolean {
  const bases = NOT_FROM_HOST.map(pattern => pattern.slice(1).replace(/\/\*$/, ''));
  return [...bases, ...own].some(base => path === base || path.startsWith(`${base}/`));
}

function untar(tree: string, file: string): Command {
  const args = [
    '--extract',
    '--numeric-owner',
    '--preserve-permissions',
    '--acls',
    '--xattrs',
    '--xattrs-include=*',
    '--exclude=./dev/*',
    '-C',
    tree,
    '-f',
    file,
  ];
  return { file: 'tar', args, effect: 'write' };
}

/** Directories of the system that may be mounts. */
const SEPARATE = ['/usr', '/var', '/opt', '/usr/local', '/var/lib', '/etc'];

/**
 * Archives the running system. Tar stays on one file system, so /usr, /var and others that are separate are named, and so
 * are subvolumes.
 */
function tarOfHost(
  host: Host,
  own: readonly string[],
  subvolumes: readonly string[],
): Pick<Command, 'file' | 'args' | 'okCodes'> {
  const mounts = SEPARATE.filter(path => {
    const above = host.stat(path.slice(0, path.lastIndexOf('/')) || '/');
    const here = host.lstat(path);
    return here?.kind === 'dir' && here.dev !== above?.dev;
  });
  const separate = [...new Set([...mounts, ...subvolumes])];
  const exclude = [...NOT_FROM_HOST, ...own.map(path => `.${path}`)].map(pattern => `--exclude=${pattern}`);
  const options = [
    '--create',
    '--one-file-system',
    '--numeric-owner',
    '--acls',
    '--xattrs',
    '--xattrs-include=*',
    '--anchored',
    '--warning=no-file-changed',
    '--warning=no-file-removed',
  ];
  return {
    file: 'tar',
    args: [...options, ...exclude, '-C', '/', '-f', '-', '.', ...separate.map(path => `.${path}`)],
    okCodes: [0, 1],
  }; // 1: a file changed while it was read
}

function mmdebstrap(
  s: Extract<Source, { kind: 'debootstrap' }>,
  tree: string,
  { mirrors, keys }: AptSources,
): Command {
  const include = s.packages.length > 0 ? [`--include=${s.packages.join(',')}`] : [];
  // Keys that no package installs: the tree could not be updated without them.
  const copy = `for key in ${keys.join(' ')}; do [ -e "$1$key" ] || install -D -m 0644 "$key" "$1$key"; done`;
  return {
    file: 'mmdebstrap',
    args: [
      '--mode=root',
      '--format=directory',
      `--variant=${s.variant}`,
      ...include,
      ...(keys.length > 0 ? [`--customize-hook=${copy}`] : []),
      s.suite,
      tree,
      ...mirrors,
    ],
    effect: 'write',
  };
}
