/** Helpers for files: JSON that may be corrupt, leftover temporary files, empty directories. */
import { isErrno, MayflyError } from '../errors.ts';
import type { Host, Stat } from './host.ts';
import { identify } from './process-id.ts';

/**
 * Parses the text of the file `path`. Throws `corrupt` with `hint`, the command that fixes it, if it is not JSON, or
 * not what `isWhole` accepts.
 */
export function parseJson<T>(path: string, text: string, hint: string, isWhole: (value: T) => boolean): T {
  try {
    const value = JSON.parse(text) as T;
    if (isWhole(value)) return value;
  } catch {
    // as one with another shape
  }
  throw new MayflyError('corrupt', `"${path}" is corrupt`, { path, hint });
}

/**
 * What is at `path`; undefined also if it cannot be looked at. In a tree of people, a look can fail in any way: a program
 * of theirs serves a file system (EACCES, ENOTCONN, EIO), its server is gone (ESTALE), and root in a session makes
 * symlinks that lead in a circle (ELOOP) or directories too deep for a path (ENAMETOOLONG). That must keep no session.
 */
export function lookAt(host: Pick<Host, 'lstat'>, path: string): Stat | undefined {
  try {
    return host.lstat(path);
  } catch {
    return undefined;
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

/**
 * The directories on the way to `path` whose owner, or others who can write to them, could exchange it; also those on
 * the way to the target of a symlink. In a directory with the sticky bit, such as /tmp, what belongs to root is safe.
 * The group root counts as others: its members, and programs that gave up only their user ID, are not root.
 */
export function openParents(host: Host, path: string): { path: string; stat: Stat }[] {
  const parts = path.split('/').slice(1, -1);
  return ['/', ...parts.map((_, i) => `/${parts.slice(0, i + 1).join('/')}`)].flatMap(at => {
    const stat = host.stat(at);
    if (!stat) return []; // root creates it
    const target = host.lstat(at)?.kind === 'link' ? host.readlink(at) : undefined;
    const above = at.slice(0, at.lastIndexOf('/'));
    const onTheWay =
      target === undefined ? [] : openParents(host, target.startsWith('/') ? target : `${above}/${target}`);
    const isOpen = stat.uid !== 0 || ((stat.mode & 0o022) !== 0 && (stat.mode & 0o1000) === 0);
    return isOpen ? [...onTheWay, { path: at, stat }] : onTheWay;
  });
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

/** The files at and below `path`, at most `depth` directories deep, and not in directories behind symlinks. */
export function filesBelow(host: Host, path: string, depth = 4): string[] {
  if (host.stat(path)?.kind === 'file') return [path];
  if (depth === 0 || host.lstat(path)?.kind !== 'dir') return [];
  return host.list(path).flatMap(name => filesBelow(host, `${path}/${name}`, depth - 1));
}

/** Reads a file that only informs. Undefined if it is missing or corrupt, which must not block anything. */
export function readJson<T>(
  host: Pick<Host, 'read'>,
  path: string,
  isWhole: (value: T) => boolean,
): T | undefined {
  try {
    const value = JSON.parse(host.read(path) ?? 'null') as T;
    return isWhole(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
