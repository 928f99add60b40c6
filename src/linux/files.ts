/** Small helpers over files: JSON that may be corrupt, temporary files that a death left, empty directories. */
import { isErrno, MayflyError } from '../errors.ts';
import type { Host } from './host.ts';
import { identify } from './process-id.ts';

/** `hint` is what to type where the text is not whole. */

export function parseJson<T>(path: string, text: string, hint: string): T {
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new MayflyError('corrupt', `"${path}" is not whole`, { path, hint });
  }
}

/** Removes temporary files that a death between writing and renaming left in `directory`. */
export function sweepTemporary(host: Host, directory: string, prefix = ''): void {
  for (const name of host.list(directory)) {
    if (!name.startsWith(`.${prefix}`) || !/\.\d+\.tmp$/.test(name)) continue;
    const pid = Number(/\.(\d+)\.tmp$/.exec(name)?.[1]);
    if (identify(host, pid) && pid !== host.pid) continue; // its writer may be about to rename it
    try {
      host.unlink(`${directory}/${name}`);
    } catch (error) {
      if (!isErrno(error, 'EISDIR', 'EPERM')) throw error; // a directory under our pattern is not ours
    }
  }
}

/** Removes a directory. One that holds something, or is the administrator's own mount point, stays. */
export function removeIfEmpty(host: Host, path: string): void {
  if (host.lstat(path)?.kind !== 'dir' || host.list(path).length > 0) return;
  try {
    host.rmdir(path);
  } catch (error) {
    if (!isErrno(error, 'EBUSY', 'ENOTEMPTY')) throw error;
  }
}
