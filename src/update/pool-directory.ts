/** The directory of a new pool: where it may be, and creating it. */
import { MayflyError } from '../errors.ts';
import { openParents } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';

/**
 * Longest path of a pool. mount(8) passes each option of an overlay to fsconfig(2), which takes 255 characters; the
 * longest is "POOL/sessions/u4294967295-00000000/upper". mount(2) takes a page for all options together, which is more.
 */
export const MAX_POOL_PATH = 255 - '/sessions/u4294967295-00000000/upper'.length;

/**
 * Creates the directory of a pool, and its parents. Throws `refused` if its path is too long, and `unsafe` if it exists
 * and is not a directory, or if users other than root could exchange it or the state directory.
 */
export function makePoolDirectory(host: Host, path: string, state: string): void {
  if (path.length > MAX_POOL_PATH) {
    const what = `the path of the pool has ${path.length} characters; mount(8) allows at most ${MAX_POOL_PATH}`;
    throw new MayflyError('refused', `${what}: "${path}"`, { path, hint: 'set a shorter "pool.path"' });
  }
  for (const place of [path, state]) requireRootParents(host, place);
  const parts = path.split('/').slice(1, -1);
  parts.reduce((above, part) => {
    if (host.stat(`${above}/${part}`) === undefined) host.mkdir(`${above}/${part}`, 0o755);
    return `${above}/${part}`;
  }, '');
  host.mkdir(path, 0o700);
}

/** What is in these directories runs as root. */
function requireRootParents(host: Host, path: string): void {
  const parent = openParents(host, path)[0]?.path;
  if (parent === undefined) return;
  const what = `users other than root own "${parent}" or can write to it, so they could exchange "${path}"`;
  const hint = `chown root: ${parent} && chmod go-w ${parent}`;
  throw new MayflyError('unsafe', what, { path: parent, hint });
}
