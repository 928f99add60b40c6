/**
 * The stable generation against the modules of the running kernel, and what helps where they differ. The host gets a new
 * driver at another time than the image: then no desktop starts that needs it, until the image has the libraries of it.
 */
import { hasCode } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { readableGeneration, stableNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readHistory } from '../state/update-history.ts';
import { loadedVersions, mismatches, moduleFiles, type PairVersions, treeVersions } from './kernel-pairs.ts';
import { packagesOf } from './packages.ts';
import { lastAttemptOf } from './schedule.ts';
import { withUpdateLock } from './update-lock.ts';
import { withMountedVolume } from './volume-tree.ts';

export interface KernelMatch {
  readonly loaded: PairVersions;
  readonly tree: PairVersions;
  /** What the host itself has installed: the running kernel may be older. */
  readonly installed: PairVersions;
}

/** A pair that differs. With `reboot`, the tree matches what the host has installed, and a restart of the host helps. */
interface Mismatch {
  readonly words: string;
  readonly isStrict: boolean;
  readonly remedy: 'reboot' | 'update';
}

/** What differs, and what helps. Pure. */
export function judgePairs(m: KernelMatch): Mismatch[] {
  return mismatches(m.loaded, m.tree).map(({ name, words, isStrict }) => {
    const alike =
      mismatches(m.installed, m.tree).every(other => other.name !== name) && m.installed.has(name);
    return { words, isStrict, remedy: alike ? 'reboot' : 'update' };
  });
}

function versionsIn(host: Host, root: string): PairVersions {
  const packages = packagesOf(host, root);
  return treeVersions(host, root, name => packages.get(name)?.version);
}

/** The versions that count for a tree. */
export const matchOf = (host: Host, tree: string, loaded: PairVersions): KernelMatch => ({
  loaded,
  tree: versionsIn(host, tree),
  installed: versionsIn(host, ''),
});

/** Milliseconds after a failed attempt, such as one without a network, until the next one. */
const RETRY_AFTER = 3_000_000;

/**
 * Whether there was an attempt since the kernel was started, which is when it got another driver. It may have found no
 * libraries that match in the archive: then the next night tries again.
 */
function wasTried(on: Machine): boolean {
  const { host, paths } = on;
  const now = host.now();
  const last = lastAttemptOf(on);
  const uptime = Number((host.read('/proc/uptime') ?? '').split(' ')[0]) * 1000;
  if (last === undefined || last > now || last < now - uptime) return false;
  const result = readHistory(host, paths)?.result;
  return !((result === 'failed' || result === 'interrupted') && last < now - RETRY_AFTER);
}

/**
 * Why an update of the image must not wait for its night: the running kernel has a driver that does not work with the
 * libraries of the stable generation. Undefined if there is no reason, and if an update was tried for it already.
 */
export async function driverReason(on: Machine): Promise<string | undefined> {
  const { host, paths } = on;
  const loaded = new Map([...loadedVersions(host)].filter(([name]) => moduleFiles(name).length > 0));
  const stable = stableNumber(host, paths);
  const volume = stable === undefined ? undefined : readableGeneration(host, paths, stable)?.volume;
  if (loaded.size === 0 || !volume || wasTried(on)) return undefined;
  const look = async (tree: string): Promise<string | undefined> =>
    judgePairs(matchOf(host, tree, loaded)).find(m => m.isStrict && m.remedy === 'update')?.words;
  const isDirectory = on.backend(volume.backend).path(volume) !== undefined;
  const act = () => withMountedVolume(on, volume, look);
  try {
    return isDirectory ? await act() : await withUpdateLock(on, 'a look at the stable generation', act);
  } catch (error) {
    if (hasCode(error, 'locked', 'held')) return undefined; // an update is running, or the machine restarts
    throw error;
  }
}

/**
 * Why the host must be restarted for its driver: the libraries are those of a module that is on disk, and the kernel
 * still runs the one before. No package says so in `/run/reboot-required`.
 */
export async function restartForDriver(host: Host): Promise<string | undefined> {
  const loaded = loadedVersions(host);
  if (loaded.size === 0) return undefined;
  const installed = versionsIn(host, '');
  for (const { name, isStrict } of mismatches(loaded, installed)) {
    if (!isStrict) continue;
    // If the new module was not built for this kernel, a restart would change nothing, night after night.
    const args = ['-F', 'version', ...moduleFiles(name)];
    const found = await host.run({ file: 'modinfo', args, effect: 'read', okCodes: [0, 1] });
    const onDisk = found.stdout.split('\n').filter(Boolean);
    if (onDisk.some(version => installed.get(name)?.includes(version)))
      return `the driver of ${name} was updated to ${onDisk[0]}`;
  }
  return undefined;
}
