/** Plans the mounts of a session besides its own tree. */
import type { Config } from '../config/config.ts';
import type { Host } from '../linux/host.ts';
import type { Mount } from '../linux/mount-program.ts';
import { isRemote, remoteMounts } from '../linux/remote.ts';
import { resolveTrusted } from '../linux/trusted-path.ts';

/** Limits inodes too: an empty file costs kernel memory that `size` does not count. */
const TMPFS_INODES = 'nr_inodes=200k';

/** What people read in a session, but programs of the host write: `rm -rf` as root in a session must spare it. */
const READ_ONLY = new Set([
  '/run/log/journal',
  '/run/utmp',
  '/var/log/journal',
  '/var/lib/systemd/coredump',
  '/var/lib/sss/pubconf',
]);

/**
 * Where people leave files for each other on the host: whoever has an ephemeral home has directories of their own there,
 * of which nothing is left after logout. X servers of the host have their sockets in one of them.
 */
const MEMORY = '/dev/shm';
const COMMON = new Set(['/tmp', '/var/tmp', MEMORY, '/run/lock', '/run/xrdp/sockdir']);
const X_SOCKETS = '/tmp/.X11-unix';

/** Whether `path` is `directory` or below it. Pure. */
export const isAtOrBelow = (path: string, directory: string): boolean =>
  path === directory || path.startsWith(`${directory}/`);

/** Whether a mount of the configuration contains this home directory, so that it needs none of its own. Pure. */
export function isShared({ mounts }: Pick<Config, 'mounts'>, home: string): boolean {
  return [...mounts.rbind, ...mounts.bind].some(path => isAtOrBelow(home, path));
}

/**
 * Plans what is mounted below `root` besides the session's tree, in mount order. Host directories are bound with
 * `rslave`: unmounting a shared copy would unmount the host's own (measured), and mounts made on the host later (a
 * USB stick, /run/user/UID) still appear. Pure.
 */
export function planMounts(
  config: Config,
  root: string,
  home: { path: string; ephemeral: boolean; uid: number; gid: number; places?: readonly string[] },
): Mount[] {
  const { rbind, bind, run_size } = config.mounts;
  // A recursive bind above our mount points would show every session inside every other.
  const recursive = (source: string): boolean => !bind.includes(source) && !root.startsWith(`${source}/`);
  const share = (source: string): Mount => {
    const options = recursive(source) ? 'rbind,rslave' : 'bind,slave';
    const readOnly = READ_ONLY.has(source) ? ',ro' : '';
    return { source, target: root + source, type: 'none', options: options + readOnly };
  };
  const shows = (path: string): boolean => isAtOrBelow(home.path, path);
  const isHomes = (path: string): boolean => path === '/home' || shows(path);
  // With an ephemeral home, other home directories stay hidden: the binds that hold homes are left out.
  const keep = (path: string): boolean => !(home.ephemeral && (isHomes(path) || COMMON.has(path)));
  const shared = [...bind, ...rbind].filter(keep).map(share);
  const inRun = (m: Mount): boolean => m.source.startsWith('/run/');
  const options = `mode=0755,nosuid,nodev,${TMPFS_INODES},size=${run_size}`;
  const run: Mount = { source: 'mayfly', target: `${root}/run`, type: 'tmpfs', options };
  const mounts = [...shared.filter(m => !inRun(m)), run, ...shared.filter(inRun)];
  if (home.ephemeral) {
    const options = `mode=0700,uid=${home.uid},gid=${home.gid},nosuid,nodev,${TMPFS_INODES},size=${config.home.size}`;
    mounts.push({ source: 'mayfly', target: root + home.path, type: 'tmpfs', options });
    if (bind.includes(MEMORY)) {
      const memory = `mode=1777,nosuid,nodev,${TMPFS_INODES},size=${config.home.size}`;
      mounts.push({ source: 'mayfly', target: `${root}${MEMORY}`, type: 'tmpfs', options: memory });
    }
    mounts.push({ ...share(X_SOCKETS), options: 'bind,slave', plain: true });
    return mounts;
  }
  for (const path of home.places ?? []) mounts.push({ ...share(path), plain: true });
  if (home.path.length > 1 && !isShared(config, home.path) && home.path !== '/root') {
    mounts.push({ ...share(home.path), plain: true });
  }
  return mounts;
}

/** How long to wait for the answer of a file server, in seconds: a login ends before its own time is over. */
export const answerTime = ({ hook }: Pick<Config, 'hook'>): number =>
  Math.min(10, Math.ceil(hook.timeout / 3));

/** Throws `timeout` if the file server of a source does not answer within `seconds`. Whoever is looked at next may hang. */
export async function requireSources(host: Host, mounts: readonly Mount[], seconds: number): Promise<void> {
  const remote = remoteMounts(host);
  const sources = mounts
    .filter(m => m.type === 'none' && isRemote(host, m.source, remote))
    .map(m => m.source);
  if (sources.length === 0) return;
  const { requireAnswers } = await import('../linux/time-limits.ts');
  await requireAnswers(host, sources, seconds);
}

/** One of them is a mount on a file wherever any device is. */
const DEVICES = ['/dev/null', '/dev/ptmx'];

/**
 * Whether this machine is a container whose devices are mounts on empty files, as in LXC: without them, a session would
 * have no terminals, and a file in the place of /dev/null.
 */
function devicesAreMounts(host: Host): boolean {
  const dev = host.lstat('/dev')?.dev;
  return DEVICES.some(path => (host.lstat(path)?.dev ?? dev) !== dev);
}

/**
 * Drops binds whose source does not exist on this host (/run/cups, for example), and marks those that are not
 * directories. The user's own directory is bound from where its path leads. Throws `unsafe`, see `resolveTrusted`.
 */
export function existingMounts(host: Host, mounts: readonly Mount[]): Mount[] {
  return mounts.flatMap(m => {
    if (m.source === '/dev' && devicesAreMounts(host)) return [{ ...m, options: 'rbind,rslave' }];
    // On /dev, which is the host's: no mount point can be made there.
    if (m.target.endsWith(MEMORY) && host.pathType(MEMORY) !== 'dir') return [];
    if (m.type !== 'none') return [m];
    if (m.source === X_SOCKETS) {
      // Others could have made something else there, in a directory where everybody writes.
      const there = host.lstat(m.source);
      return there?.kind === 'dir' && there.uid === 0 ? [m] : [];
    }
    if (m.plain) {
      const source = resolveTrusted(host, m.source);
      return host.pathType(source) === 'dir' ? [{ ...m, source }] : [];
    }
    const kind = host.pathType(m.source);
    if (kind === undefined) return [];
    return kind === 'dir' ? [m] : [{ ...m, file: true }];
  });
}
