/**
 * A pool whose file system the kernel has made read-only. It does so with a btrfs in an image if the disk that holds the
 * image is full, and with any file system after an error of its disk. Nothing can be written or removed in it, and what is
 * mounted from it stays so: only once all of it is unmounted can it be mounted again.
 */
import { REMEDY } from '../advice.ts';
import type { Host } from '../linux/host.ts';
import { isMounted } from '../linux/mounts.ts';
import type { Pool, Problem } from '../volume/backend.ts';

interface MountedAt {
  readonly device: string;
  readonly path: string;
  readonly readOnly: boolean;
}

/** What mountinfo says of each mount; `readOnly` is that of the file system, and not of the mount alone. */
function readMounts(host: Host): MountedAt[] {
  return (host.read('/proc/self/mountinfo') ?? '').split('\n').flatMap(line => {
    const fields = line.split(' ');
    const rest = fields.indexOf('-');
    if (rest < 0) return [];
    const options = (fields[rest + 3] ?? '').split(',');
    return [{ device: fields[2] ?? '', path: fields[4] ?? '', readOnly: options.includes('ro') }];
  });
}

/** The mount in which `path` is: the last one at the longest path. */
function mountOf(all: readonly MountedAt[], path: string): MountedAt | undefined {
  return all
    .filter(m => m.path === '/' || `${path}/`.startsWith(`${m.path}/`))
    .reduce<MountedAt | undefined>(
      (best, m) => (best && best.path.length > m.path.length ? best : m),
      undefined,
    );
}

/** What is wrong with a pool in directories whose file system is read-only; undefined if it is not. */
export function readOnlyProblem(host: Host, pool: Pick<Pool, 'path' | 'image'>): Problem | undefined {
  const all = readMounts(host);
  const own = mountOf(all, pool.path);
  if (!own?.readOnly) return undefined;
  const what = `the file system of the pool "${pool.path}" has become read-only, as it does after an error of its disk`;
  if (pool.image === undefined)
    return { what, fix: `dmesg; umount ${own.path}; mount ${own.path} && mayfly recover` };
  const isUsed = all.some(m => m.device === own.device && m.path !== own.path);
  const cause = `${what} or if that is full`;
  return isUsed
    ? { what: `${cause}; sessions are in it`, fix: REMEDY.endSessions }
    : { what: cause, fix: REMEDY.recover };
}

/** Whether a pool in an image is mounted and stays so. Read-only, it is unmounted if nothing else of it is mounted. */
export async function staysMounted(host: Host, pool: Pool): Promise<boolean> {
  if (!isMounted(host, pool.path)) return false;
  const all = readMounts(host);
  const own = mountOf(all, pool.path);
  if (pool.image === undefined || own?.path !== pool.path || !own.readOnly) return true;
  if (all.filter(m => m.device === own.device).length > 1) return true;
  await host.run({ file: 'umount', args: ['--', pool.path], effect: 'write' });
  return false;
}
