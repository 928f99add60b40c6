/** The mounts of a session: its volume at the root, then what a desktop needs of the host. */
import { MayflyError } from '../../errors.ts';
import { lookAt } from '../../linux/files.ts';
import type { Host } from '../../linux/host.ts';
import { mountCommand } from '../../linux/mount-program.ts';
import {
  detach,
  isMounted,
  isPlainDirectory,
  loopFiles,
  planMountOps,
  requireFileSystems,
  requireMountTargets,
  swapFiles,
} from '../../linux/mounts.ts';
import { refuseHostDevices } from '../../linux/processes.ts';
import type { Machine } from '../../state/machine.ts';
import { ensureMountRoot } from '../../state/mount-root.ts';
import { readPool } from '../../state/pool.ts';
import { readRunEntries } from '../../state/run-entries.ts';
import { type Session, writeSession } from '../../state/sessions.ts';
import { writeIdentity } from '../identity.ts';
import { linkRoot, namespaceOps } from '../mount-namespace.ts';
import { withRunEntries } from '../run-directory.ts';
import type { Step } from './step.ts';

export const mounts: Step = {
  name: 'mounts',
  async up(s, on) {
    const { host, paths, lockFds: fds } = on;
    await ensureMountRoot(on);
    host.mkdir(s.root, 0o755);
    const backend = on.backend(s.volume.backend);
    if (!s.volume.origin) throw new MayflyError('corrupt', `session "${s.id}" names no generation`);
    const base = backend.path(s.volume.origin);
    const run = `${s.root}/run`;
    const treeOps = planMountOps(await backend.mount(s.volume, s.root), s.mounts);
    const calls = [
      ...withRunEntries(treeOps, run, readRunEntries(host, paths, s.generation), s.mounts),
      ...namespaceOps(s.root, paths),
    ];
    try {
      // A device shows its tree only where it is mounted: in a dry run the host's own stands for it.
      await host.run({ ...mountCommand(calls, fds), simulate: view => view.mount(s.root, base ?? '/') });
    } catch (error) {
      if (error instanceof MayflyError && error.code === 'command') {
        await requireFileSystems(host, calls, error);
        requireMountTargets(host, base ?? s.root, calls);
      }
      throw error;
    }
    refuseHostDevice(host, s.root);
    await writeIdentity(on, s);
    host.mkdir(`${run}/lock`, 0o1777); // usually the host's is mounted there
    host.mkdir(`${run}/systemd`, 0o755);
    // If the configuration binds it, it is the host's own. In a dry run it is not there.
    const isForeign = host.lstat(`${run}/systemd`) && !isPlainDirectory(host, run, '/systemd');
    if (!isForeign) host.mkdir(`${run}/systemd/system`, 0o755);
    if (!host.lstat(`${run}/shm`)) host.mkdir(`${run}/shm`, 0o1777); // usually a symlink of the image's tmpfiles.d
    linkRoot(host, s, paths);
    return writeSession(host, paths, { ...s, devices: devicesOf(host, s) });
  },
  async down(s, on) {
    await releaseFiles(s, on);
    // No recorded devices: `up` may have died between the two calls that make a bind a slave, while it is still a
    // peer of the host's own mount.
    await detach(on.host, s.root, s.devices.length === 0, on.lockFds);
  },
};

/**
 * Detaches loop devices on files of the session, and takes its files out of use as swap space: after its tree is detached,
 * nothing would show whose they are. The pool's own image is usually the only one.
 */
async function releaseFiles(s: Session, { host, paths }: Machine): Promise<void> {
  const files = loopFiles(host);
  const swap = swapFiles(host);
  if (files.length + swap.length === 0 || !isMounted(host, s.root)) return;
  const { image } = readPool(host, paths) ?? {};
  if (swap.length === 0 && files.every(file => file === image)) return;
  const shown = devicesOf(host, s);
  // The login died before it recorded its devices: only the root itself is certain.
  const devices = new Set(
    s.devices.length > 0 ? shown.filter(d => s.devices.includes(d)) : shown.slice(0, 1),
  );
  refuseHostDevices(host, devices);
  const { releaseLoops, releaseSwap } = await import('../../linux/loops.ts');
  const shared = s.mounts.filter(m => m.type === 'none').map(m => m.target);
  const tree = { root: s.root, devices, shared };
  await releaseSwap(host, tree, swap);
  if (files.some(file => file !== image)) await releaseLoops(host, tree);
}

/** Throws `unsafe` if nothing is mounted at the root: it would then be the host's own file system. */
function refuseHostDevice(host: Host, root: string): void {
  if (!isMounted(host, root)) {
    throw new MayflyError('unsafe', `nothing is mounted at "${root}"`, { path: root });
  }
}

/**
 * st_dev of the file systems that only this session uses: its root and its tmpfs mounts. The root comes first. What root in
 * the session has made unreachable is left out.
 */
export function devicesOf(host: Host, s: Session): number[] {
  const own = [s.root, ...s.mounts.filter(m => m.type === 'tmpfs').map(m => m.target)];
  return [...new Set(own.map(path => lookAt(host, path)?.dev).filter(dev => dev !== undefined))];
}
