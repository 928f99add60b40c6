/** Helpers for files: JSON that may be corrupt, leftover temporary files, empty directories. */
import { isErrno, MayflyError } from '../errors.ts';
import type { Host } from './host.ts';
import { identify } from './process-id.ts';

/** Parses the text of the file `path`. Throws `corrupt` with `hint`, the command that fixes it. */
export function parseJson<T>(path: string, text: string, hint: string): T {
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new MayflyError('corrupt', `"${path}" is corrupt`, { path, hint });
  }
}

/** Removes temporary files from `directory` whose writer died before renaming them. */
export function sweepTemporary(host: Host, directory: string, prefix = ''): void {
  for (const name of host.list(directory)) {
    if (!name.startsWith(`.${prefix}`) || !/\.\d+\.tmp$/.test(name)) continue;
    const pid = Number(/\.(\d+)\.tmp$/.exec(name)?.[1]);
    if (identify(host, pid) && pid !== host.pid) continue; // the writer may be about to rename it
    try {
      host.unlink(`${directory}/${name}`);
    } catch (error) {
      if (!isErrno(error, 'EISDIR', 'EPERM')) throw error; // a directory with such a name is not ours
    }
  }
}

/** Removes a directory if it is empty. One that is a mount point stays. */
export function removeIfEmpty(host: Host, path: string): void {
  if (host.lstat(path)?.kind !== 'dir' || host.list(path).length > 0) return;
  try {
    host.rmdir(path);
  } catch (error) {
    if (!isErrno(error, 'EBUSY', 'ENOTEMPTY')) throw error;
  }
}
