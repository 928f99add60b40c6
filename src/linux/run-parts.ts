/** The administrator's own scripts in a directory, as run-parts(8) chooses them. */
import { MayflyError } from '../errors.ts';
import type { Host } from './host.ts';

/** Whether run-parts(8) would run a file with this name. Files that an editor or a package leaves there are ignored. */
export function isScriptName(name: string): boolean {
  return /^[a-zA-Z0-9_-]+$/.test(name);
}

/**
 * The paths of the executable scripts in `directory`, sorted by name. They run as root, so it throws `unsafe` if the
 * directory or a script is writable by another user.
 */
export function scriptsIn(host: Host, directory: string): string[] {
  const own = host.stat(directory);
  if (own && (own.uid !== 0 || (own.mode & 0o022) !== 0)) {
    const message = `"${directory}" is writable by users other than root; its scripts are not run`;
    throw new MayflyError('unsafe', message, { path: directory });
  }
  return host
    .list(directory)
    .filter(isScriptName)
    .map(name => `${directory}/${name}`)
    .filter(path => {
      const there = host.stat(path);
      if (there?.kind !== 'file' || (there.mode & 0o111) === 0) return false;
      if (there.uid !== 0 || (there.mode & 0o022) !== 0) {
        throw new MayflyError('unsafe', `"${path}" is writable by users other than root; it is not run`, {
          path,
        });
      }
      return true;
    });
}
