/** Whether values that were read from a record are pools and volumes. */
import type { BackendKind, Pool, Role, Volume } from './backend.ts';

const KINDS: readonly unknown[] = ['overlay', 'btrfs', 'lvm-thin', 'lvm'] satisfies BackendKind[];

/** Whether a record names a place for volumes: one that a program without a fault has written. */
function isPlace(backend: unknown, path: unknown, fs: unknown): boolean {
  const isPath = typeof path === 'string' && path.startsWith('/') && !path.includes('\0');
  return KINDS.includes(backend) && isPath && (fs === undefined || fs === 'ext4' || fs === 'xfs');
}

/** Whether a value is a whole record of a pool. */
export function isPool(value: unknown): value is Pool {
  const pool = value as Partial<Pool> | null;
  return (
    isPlace(pool?.backend, pool?.path, pool?.fs) &&
    [pool?.mountPoint, pool?.id].every(is => is === undefined || typeof is === 'string')
  );
}

/** Whether a value is the whole record of the volume with this role and name: nothing is done to any other. */
export function isVolumeOf(value: unknown, role: Role, name: string): value is Volume {
  const v = value as Partial<Volume> | null | undefined;
  return isPlace(v?.backend, v?.pool, v?.fs) && v?.role === role && v.name === name;
}
