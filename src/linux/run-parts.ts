/** The administrator's own scripts in a directory, as run-parts(8) chooses them. */
import { MayflyError } from '../errors.ts';
import type { Host } from './host.ts';

/** Others are passed over, so that what an editor or a package leaves beside a script is not run. */
export function isScriptName(name: string): boolean {
  return /^[a-zA-Z0-9_-]+$/.test(name);
}

/**
 * Paths of the scripts, in order of name. One that somebody other than root could have written is refused: it would
 * run as root.
 */
export function scriptsIn(host: Host, directory: string): string[] {
  const own = host.stat(directory);
  if (own && (own.uid !== 0 || (own.mode & 0o022) !== 0)) {
    const words = `"${directory}" can be changed by others than root, so nothing in it is run`;
    throw new MayflyError('unsafe', words, { path: directory });
  }
  return host
    .list(directory)
    .filter(isScriptName)
    .map(name => `${directory}/${name}`)
    .filter(path => {
      const there = host.stat(path);
      if (there?.kind !== 'file' || (there.mode & 0o111) === 0) return false;
      if (there.uid !== 0 || (there.mode & 0o022) !== 0) {
        throw new MayflyError('unsafe', `"${path}" can be changed by others than root, so it is not run`, {
          path,
        });
      }
      return true;
    });
}
