/**
 * The steps of a login, in login order. Logout, rollback of a failed login and recovery after a crash are all the
 * same array backwards. `down` means "make absent": it never assumes that its `up` ran, and absent is success.
 */
import * as cgroup from './cgroup.ts';
import type { Config } from './config.ts';
import { limitsOf, parseSize } from './config.ts';
import { redirectUserManager, resetUserManager } from './containment.ts';
import { MayflyError } from './errors.ts';
import type { Host } from './host.ts';
import { writeIdentity } from './identity.ts';
import { withLock } from './locks.ts';
import type { Log } from './log.ts';
import { detach, isMounted, makePrivateRoot, planMountOps, requireMountTargets } from './mounts.ts';
import { killAll } from './processes.ts';
import { entryPath, renderEntry } from './schroot.ts';
import {
  bootId,
  deleteSession,
  isAlive,
  type Paths,
  readPool,
  removeIfEmpty,
  type Session,
  userDirectory,
  writeSession,
} from './state.ts';
import { mountCommand } from './syscalls.ts';
import { admit, type BackendKind, usageOf, type VolumeBackend } from './volume/backend.ts';

/** Everything the steps act on. */
export interface Machine {
  readonly host: Host;
  readonly config: Config;
  readonly paths: Paths;
  readonly log: Log;
  readonly backend: (kind: BackendKind) => VolumeBackend;
  /** Descriptors of the locks held, for storage commands to keep. */
  readonly lockFds: readonly number[];
}

export interface Step {
  readonly name: string;
  /** Returns the session with what the step found out. */
  up(s: Session, on: Machine): Promise<Session>;
  down(s: Session, on: Machine): Promise<void>;
}

/** The record: the pin of the generation and the intent. Written first, deleted last. */
const record: Step = {
  name: 'record',
  async up(s, { host, paths }) {
    return writeSession(host, paths, s);
  },
  async down(s, { host, paths }) {
    deleteSession(host, paths, s.id);
  },
};

/** A private fork of the generation. */
const volume: Step = {
  name: 'volume',
  async up(s, on) {
    const backend = on.backend(s.volume.backend);
    const min_free = parseSize(on.config.admission.min_free);
    const max_used_percent = limitsOf(on.config, s.volume.backend).full;
    admit(await backend.usage(s.volume.pool), s.volume.pool, { max_used_percent, min_free });
    // An image is sparse: what holds it can be full before it is. Only a btrfs is ever in one.
    const image = s.volume.backend === 'btrfs' ? readPool(on.host, on.paths)?.image : undefined;
    if (image !== undefined) admit(usageOf(on.host, image), image, { max_used_percent: 100, min_free });
    if (!s.volume.origin) throw new MayflyError('corrupt', `session "${s.id}" names no generation`);
    const { upper, size } = on.config.overlay;
    const cow = on.config.lvm.cow_size;
    await backend.fork(s.volume.origin, s.volume, { upper, size, cow, lockFds: on.lockFds });
    return s;
  },
  async down(s, on) {
    await on.backend(s.volume.backend).remove(s.volume); // refuses while anybody holds it
  },
};

/** Mounts: the volume at the root, then what a desktop needs of the host. And the person, in their own tree. */
const tree: Step = {
  name: 'tree',
  async up(s, on) {
    const { host, paths, lockFds: fds } = on;
    await ensureMountRoot(on);
    host.mkdir(s.root, 0o755);
    const backend = on.backend(s.volume.backend);
    if (!s.volume.origin) throw new MayflyError('corrupt', `session "${s.id}" names no generation`);
    const base = backend.path(s.volume.origin);
    const calls = planMountOps(await backend.mount(s.volume, s.root), s.mounts);
    try {
      await host.run(mountCommand(calls, fds));
    } catch (error) {
      if (error instanceof MayflyError && error.code === 'command')
        requireMountTargets(host, base ?? s.root, calls);
      throw error;
    }
    if (base === undefined && host.pretend) return s; // a device shows its tree only where it is mounted
    if (base !== undefined) host.pretend?.(s.root, base);
    refuseHostDevice(host, s.root);
    writeIdentity(host, on.config, s, s.groups);
    const run = `${s.root}/run`;
    for (const path of [`${run}/lock`, `${run}/systemd`, `${run}/systemd/system`]) host.mkdir(path, 0o755);
    host.mkdir(`${run}/shm`, 0o1777);
    return writeSession(host, paths, { ...s, devices: devicesOf(host, s) });
  },
  async down(s, on) {
    await releaseLoops(on.host, s.root);
    // Between the two calls that make a bind a slave, it is a peer of the host's own mount.
    await detach(on.host, s.root, s.devices.length === 0, on.lockFds);
  },
};

/** Where mount points are. At the first login since boot two at once would each mount one, and hide the other's. */
export async function ensureMountRoot({ host, paths }: Machine): Promise<void> {
  if (isMounted(host, paths.roots)) return;
  await withLock(host, paths, 'roots', 10, () => makePrivateRoot(host, paths.roots));
}

/** A loop device on a file of the session (udisks lets people make one) would keep the volume in use for ever. */
async function releaseLoops(host: Host, root: string): Promise<void> {
  for (const name of host.list('/sys/block')) {
    if (
      !name.startsWith('loop') ||
      !host.read(`/sys/block/${name}/loop/backing_file`)?.startsWith(`${root}/`)
    )
      continue;
    await host.run({ file: 'losetup', args: ['-d', `/dev/${name}`], effect: 'write' });
  }
}

/** A root on the host's own file system means that its mount did not happen; nothing may act on it. */
function refuseHostDevice(host: Host, root: string): void {
  if (host.pretend === undefined && !isMounted(host, root)) {
    throw new MayflyError('unsafe', `nothing is mounted at "${root}"`, { path: root });
  }
}

/** Device numbers that are this session's alone: its root and the memory file systems in it. */
function devicesOf(host: Host, s: Session): number[] {
  const own = [s.root, ...s.mounts.filter(m => m.type === 'tmpfs').map(m => m.target)];
  return [...new Set(own.map(path => host.lstat(path)?.dev).filter(dev => dev !== undefined))];
}

/** An empty home for those who get one. */
const home: Step = {
  name: 'home',
  async up(s, on) {
    const own = s.mounts.some(m => m.type === 'tmpfs' && m.target === s.root + s.user.home);
    if (own) await fillHome(s, on);
    return s;
  },
  async down() {},
};

/** An ephemeral home begins as the generation's /etc/skel. It is empty and no one is inside, so cp(1) is safe. */
async function fillHome(s: Session, { host }: Machine): Promise<void> {
  const skel = `${s.root}/etc/skel`;
  if (host.lstat(skel)?.kind !== 'dir') return;
  const home = s.root + s.user.home;
  await host.run({
    file: 'cp',
    args: ['-a', '--no-preserve=ownership', '-T', '--', skel, home],
    effect: 'write',
  });
  await host.run({
    file: 'chown',
    args: ['-R', '-h', `${s.user.uid}:${s.user.gid}`, '--', home],
    effect: 'write',
  });
  await host.run({ file: 'chmod', args: ['0700', '--', home], effect: 'write' });
}

/** Where the processes of the session are counted, and where they die. */
const processes: Step = {
  name: 'processes',
  async up(s, on) {
    const root = cgroup.hierarchy(on.host);
    if (root === undefined) return s;
    const group = cgroup.groupPath(root, on.paths.cgroup, s.id);
    on.host.mkdir(group, 0o755);
    return adoptCaller(s, on, group);
  },
  async down(s, on) {
    const root = cgroup.hierarchy(on.host);
    const group = root === undefined ? undefined : cgroup.groupPath(root, on.paths.cgroup, s.id);
    const there = group !== undefined && on.host.lstat(group) ? group : undefined;
    if (root !== undefined && there !== undefined) releaseCallers(s, on, root, there);
    const { grace, kill_timeout } = on.config.logout;
    const target = { devices: await presentDevices(s, on), group: there, uid: s.user.uid };
    await killAll(on.host, target, { grace: grace * 1000, timeout: kill_timeout * 1000 });
    if (there !== undefined) cgroup.remove(on.host, there);
  },
};

/**
 * The recorded devices that are certainly still this session's. The kernel gives the number of an unmounted file
 * system to the next one, which may be another session: a number counts only while it shows where it was mounted, or
 * while the kernel says that the volume is in use although it shows nowhere any more.
 */
async function presentDevices(s: Session, on: Machine): Promise<Set<number>> {
  if (isMounted(on.host, s.root)) {
    const shown = devicesOf(on.host, s);
    // A login that died before it could write them down: only the root itself is beyond doubt.
    return new Set(s.devices.length > 0 ? shown.filter(d => s.devices.includes(d)) : shown.slice(0, 1));
  }
  if (s.devices[0] === undefined || s.boot !== bootId(on.host)) return new Set();
  const held = await on.backend(s.volume.backend).busyReason(s.volume);
  return new Set(held === undefined ? [] : [s.devices[0]]);
}

/**
 * gdm forks the whole session from one worker of its own, our caller: in our group, everything that session ever
 * starts is too. Not where systemd keeps sessions in scopes already, and never the daemon of all seats (lightdm).
 */
function adoptCaller(s: Session, { host, paths }: Machine, group: string): Session {
  const caller = s.logins[0]?.caller;
  if (!caller || s.logins[0]?.adapter === 'lightdm' || host.exists('/run/systemd/system')) return s;
  if (!(host.read(`/proc/${caller.pid}/comm`) ?? '').startsWith('gdm-session-wor')) return s;
  const before = cgroup.groupOf(host, caller.pid);
  if (before === undefined) return s;
  const adopted = { ...s, logins: s.logins.map((l, i) => (i === 0 ? { ...l, group: before } : l)) };
  writeSession(host, paths, adopted);
  cgroup.move(host, group, caller.pid);
  return adopted;
}

/** The callers, and we, are not to die with the session. */
function releaseCallers(s: Session, { host }: Machine, root: string, group: string): void {
  const inside = new Set(cgroup.members(host, group));
  for (const login of s.logins) {
    if (login.group !== undefined && inside.has(login.caller.pid) && isAlive(host, login.caller)) {
      cgroup.move(host, `${root}${login.group}`, login.caller.pid);
    }
  }
  if (inside.has(host.pid)) cgroup.move(host, `${root}${s.logins[0]?.group ?? ''}`, host.pid);
}

/** The door: what lets the person in. Opened last, closed first. */
const door: Step = {
  name: 'door',
  async up(s, on) {
    const { host, paths } = on;
    if (host.pathType(paths.schroot) !== 'dir') {
      throw new MayflyError(
        'missing-tool',
        `there is no directory "${paths.schroot}": schroot is not installed`,
        { tool: 'schroot' },
      );
    }
    host.write(entryPath(paths.schroot, s.id), renderEntry(s, on.config.root_users), { mode: 0o644 });
    if (s.kind === 'login') {
      host.mkdir(userDirectory(paths, s.user.uid), 0o755);
      host.write(`${userDirectory(paths, s.user.uid)}/session`, `${s.id}\n`, { mode: 0o644 });
      await redirectUserManager(host, paths, s.user.uid, s.root);
    }
    return s;
  },
  async down(s, { host, paths }) {
    const file = `${userDirectory(paths, s.user.uid)}/session`;
    if (host.read(file)?.trim() === s.id) host.unlink(file);
    resetUserManager(host, paths, s.user.uid, s.root);
    host.unlink(entryPath(paths.schroot, s.id));
    removeIfEmpty(host, userDirectory(paths, s.user.uid));
  },
};

export const steps: readonly Step[] = [record, volume, tree, home, processes, door];
