/**
 * Directories in the source of the first tree that cp(1) and tar(1) pass over without a word, because they stay in one
 * file system: nested subvolumes of btrfs, which belong to the tree, and mounts, which do not.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';

export interface SourceTrees {
  /** Paths in the tree, each before those below it; "/data". */
  readonly subvolumes: readonly string[];
  readonly mounts: readonly string[];
}

/** The mount points of this process. In /proc, blanks and backslashes of a path are octal. */
function mountPoints(host: Host): Set<string> {
  const lines = (host.read('/proc/self/mountinfo') ?? '').split('\n');
  const plain = (path: string): string =>
    path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return new Set(lines.map(line => plain(line.split(' ')[4] ?? '')));
}

/** The path without symlinks. */
export async function realPath(host: Host, path: string): Promise<string> {
  const { stdout } = await host.run({ file: 'realpath', args: ['-z', '--', path], effect: 'read' });
  return stdout.replace(/\0$/, '');
}

/**
 * The directories below `root` on other devices than their parents, that is, subvolumes and mounts. Those of which
 * `isLeftOut` says so, and what is below a mount, are left out. Throws `refused` for a subvolume that no path of Node.js
 * leads to.
 */
export async function sourceTrees(
  host: Host,
  root: string,
  isLeftOut: (path: string) => boolean,
): Promise<SourceTrees> {
  const mounted = mountPoints(host);
  const real = root === '' ? '' : await realPath(host, root); // as the kernel names mounts
  const subvolumes: string[] = [];
  const mounts: string[] = [];
  const pending = [''];
  for (let at = pending.shift(); at !== undefined; at = pending.shift()) {
    const args = [`${root}${at}/`, '-xdev', '-type', 'd', '-printf', '%D %P\\0'];
    const { stdout } = await host.run({ file: 'find', args, effect: 'read', okCodes: [0, 1] }); // 1: a directory has vanished
    const [top, ...below] = stdout.split('\0').map(row => /^(\d+) (.*)$/s.exec(row));
    for (const row of below) {
      const path = `${at}/${row?.[2]}`;
      if (!row || row[1] === top?.[1] || isLeftOut(path)) continue;
      const isMount = mounted.has(real + path);
      if (!isMount && path.includes('\ufffd')) {
        const what = `the name of the subvolume "${root}${path}" is not valid UTF-8: its files would not be copied`;
        throw new MayflyError('refused', what, { path: root + path, hint: 'rename it' });
      }
      (isMount ? mounts : subvolumes).push(path);
      if (!isMount) pending.push(path);
    }
  }
  return { subvolumes, mounts };
}
