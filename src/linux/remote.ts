/**
 * File systems whose server may not answer: a dead file server, or a program (FUSE). Even stat(2) of a file there can
 * hang for ever, and Node.js with it, so a path that may lead there is looked at in a child with a time limit.
 */
import type { Host } from './host.ts';

const REMOTE =
  /^(nfs4?|cifs|smb3|9p|ceph|afs|fuse(\..+)?|fuseblk|virtiofs|glusterfs|lustre|ncpfs|coda|orangefs|autofs)$/;

/** The name that the kernel gives to the write-back of a disk, of btrfs, of flash memory, or of nothing. */
const LOCAL = /^([1-9]\d*:\d+|btrfs-\d+|zfs-\d+|bcachefs-\d+|mtd-.+|ubifs_.+|ecryptfs-\d+)$/;

/**
 * Most names are "259:1", and V8 would compile the expression in every hook. 0 is the major number of what has no disk, and
 * any other word is no number.
 */
const isDisk = (name: string): boolean => Number(name.replace(':', '.')) >= 1;

/**
 * Whether any file system of this machine has a server, in whatever mount namespace, also one that is unmounted but still
 * in use. The kernel lists the write-back of every file system that has one; those in memory have none.
 */
export function mayHang(host: Host): boolean {
  return host.list('/sys/class/bdi').some(name => !isDisk(name) && !LOCAL.test(name));
}

/**
 * The mount points of such file systems in our own namespace. With many sessions the mount table is long, so it is only
 * read if there is one at all.
 */
export function remoteMounts(host: Host): string[] {
  if (!mayHang(host)) return [];
  return (host.read('/proc/self/mountinfo') ?? '').split('\n').flatMap(line => {
    const type = line.slice(line.indexOf(' - ') + 3).split(' ')[0] ?? '';
    return REMOTE.test(type) ? [unescaped(line.split(' ')[4] ?? '')] : [];
  });
}

/** File systems that need nobody's answer. */
const NO_SERVER =
  /^(ext[234]|xfs|btrfs|bcachefs|zfs|f2fs|jfs|reiserfs|vfat|exfat|ntfs3|iso9660|udf|squashfs|erofs|tmpfs|ramfs|devtmpfs|devpts|proc|sysfs|cgroup2?|securityfs|debugfs|tracefs|configfs|pstore|efivarfs|bpf|mqueue|hugetlbfs|binfmt_misc|rpc_pipefs|nsfs)$/;

/**
 * The mount points below which a look may hang, for whoever must not hang at all: those of every file system that is not
 * known to need no server. An automounter, which {@link mayHang} does not see, is one before it has mounted anything.
 */
export function unsureMounts(host: Host): string[] {
  return (host.read('/proc/self/mountinfo') ?? '').split('\n').flatMap(line => {
    const type = line.slice(line.indexOf(' - ') + 3).split(' ')[0] ?? '';
    return line === '' || NO_SERVER.test(type) ? [] : [unescaped(line.split(' ')[4] ?? '')];
  });
}

/** Blanks and backslashes are octal in mount tables. */
function unescaped(place: string): string {
  return place.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)));
}

/**
 * Whether the absolute `path` leads to one of the mount points `remote`, also through symlinks. It looks at nothing that
 * is there.
 */
export function isRemote(host: Host, path: string, remote: readonly string[]): boolean {
  if (remote.length === 0) return false;
  let rest = path.split('/');
  let at = '';
  for (let steps = 0; rest.length > 0; steps++) {
    const [part = '', ...more] = rest;
    rest = more;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      at = at.slice(0, at.lastIndexOf('/'));
      continue;
    }
    const next = `${at}/${part}`;
    if (steps > 400 || remote.includes(next)) return true;
    const target = host.readlink(next);
    if (target === undefined) at = next;
    else {
      if (target.startsWith('/')) at = '';
      rest = [...target.split('/'), ...rest];
    }
  }
  return false;
}
