/**
 * UUIDs of subvolumes. Only the UUID distinguishes a subvolume from its replacement: inode number, timestamps and device
 * number of a snapshot equal those of an earlier snapshot of the same source (measured).
 *
 * Reading it takes a process (`btrfs subvolume show`, 3 ms), and a login must not start another one. The UUIDs of
 * generations are therefore cached for as long as the ctime of their directory is unchanged (40 µs): every creation,
 * removal and rename in a directory updates it, and no program can set it.
 */
import { isErrno, MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Volume } from './backend.ts';

/** The content of the cache file. */
interface Known {
  /** The directory's device, inode and ctime. */
  readonly directory: string;
  /** By the number of the generation. */
  readonly uuids: Readonly<Record<string, string>>;
}

/**
 * Returns a function that reads the UUID of a volume's subvolume at `path`; it throws `internal` if btrfs(8) prints
 * none. `memory` is the cache file; without it every UUID is read.
 */
export function subvolumeUuids(
  host: Host,
  memory: string | undefined,
): (v: Volume, path: string) => Promise<string> {
  return async (v, path) => {
    const file = v.role === 'generation' ? memory : undefined;
    const s = host.lstat(path.slice(0, path.lastIndexOf('/')));
    const directory = `${s?.dev} ${s?.ino} ${s?.ctimeMs}`;
    const known = file === undefined ? {} : read(host, file, directory);
    const uuid = known[v.name] ?? (await ask(host, path));
    if (file !== undefined && known[v.name] === undefined)
      write(host, file, { directory, uuids: { ...known, [v.name]: uuid } });
    return uuid;
  };
}

async function ask(host: Host, path: string): Promise<string> {
  const { stdout } = await host.run({
    file: 'btrfs',
    args: ['subvolume', 'show', '--', path],
    effect: 'read',
  });
  const uuid = /^\s*UUID:\s+([0-9a-f-]{36})$/m.exec(stdout)?.[1];
  if (uuid === undefined)
    throw new MayflyError('internal', `unexpected output from "btrfs": no UUID of "${path}"`, { path });
  return uuid;
}

function read(host: Host, file: string, directory: string): Known['uuids'] {
  try {
    const known = JSON.parse(host.read(file) ?? '{}') as Partial<Known>;
    return known.directory === directory ? (known.uuids ?? {}) : {};
  } catch {
    return {}; // truncated, for example on a full disk
  }
}

/** Writes the cache if there is space; otherwise the UUID is read again next time. */
function write(host: Host, file: string, known: Known): void {
  try {
    host.write(file, JSON.stringify(known), { mode: 0o600, cache: true });
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS', 'ENOENT')) throw error;
  }
}
