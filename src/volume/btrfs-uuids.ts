/**
 * The UUIDs of subvolumes. Nothing else tells a subvolume from one that was put in its place: the inode, the times and
 * the device number of a snapshot are those of the snapshot of the same source that stood there before (measured).
 *
 * It takes a process to ask for one, and a login must not start one more; so what generations answered is kept, for as
 * long as their directory is as it was. Whatever comes, goes or is renamed in a directory changes its ctime, and nobody
 * can set that back.
 */
import { isErrno, MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { Volume } from './backend.ts';

/** What is in the file. */
interface Known {
  /** The state that the directory was in. */
  readonly directory: string;
  /** By the number of the generation. */
  readonly uuids: Readonly<Record<string, string>>;
}

/** `memory` is the file for the answers; without one, each question is asked. */
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
    throw new MayflyError('internal', `"btrfs" does not say what UUID "${path}" has`, { path });
  return uuid;
}

function read(host: Host, file: string, directory: string): Known['uuids'] {
  try {
    const known = JSON.parse(host.read(file) ?? '{}') as Partial<Known>;
    return known.directory === directory ? (known.uuids ?? {}) : {};
  } catch {
    return {}; // cut by a full disk
  }
}

/** One that cannot be written is asked again. */
function write(host: Host, file: string, known: Known): void {
  try {
    host.write(file, JSON.stringify(known), { mode: 0o600, cache: true });
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS', 'ENOENT')) throw error;
  }
}
