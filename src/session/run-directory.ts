/** What is made in the /run of a session besides the mounts of the host: what a boot of its tree would make there. */
import type { Mount, MountOp } from '../linux/mount-program.ts';
import type { RunEntry } from '../state/run-entries.ts';

/**
 * Adds the operations that make `entries` to those that mount the session's tree: after its /run is mounted, and before
 * the host's directories are mounted in it. Left out is what would be in the way of these. Pure.
 */
export function withRunEntries(
  calls: readonly MountOp[],
  run: string,
  entries: readonly RunEntry[],
  mounts: readonly Pick<Mount, 'target'>[],
): MountOp[] {
  const at = calls.findIndex(c => c.op === 'mount' && c.target === run && c.type === 'tmpfs');
  if (at < 0) return [...calls]; // the configuration binds all of /run
  const inRun = mounts.map(m => m.target).filter(path => path.startsWith(`${run}/`));
  const made = entries.flatMap((entry): MountOp[] => {
    const target = `${run}/${entry.path}`;
    const isHosts = inRun.some(path => target === path || target.startsWith(`${path}/`));
    const isOnTheWay = entry.type !== 'd' && inRun.some(path => path.startsWith(`${target}/`));
    return isHosts || isOnTheWay ? [] : [{ op: 'make', target, entry }];
  });
  return [...calls.slice(0, at + 1), ...made, ...calls.slice(at + 1)];
}
