/** Counts what a refresh changed. */
import type { Machine } from '../state/machine.ts';
import type { Volume } from '../volume/backend.ts';
import { withMountedVolume } from './volume-tree.ts';

/** Caches, lists and logs, which differ after every check for updates. */
const IGNORED = [
  'lost+found', // belongs to the file system, not to the tree
  ...['etc/machine-id', 'var/lib/dbus/machine-id'], // not in a generation
  'var/cache',
  'var/log',
  'var/backups',
  'var/lib/apt/lists',
  'var/lib/apt/periodic',
  'var/lib/dpkg/lock',
  'var/lib/dpkg/lock-frontend',
  'var/lib/dpkg/status-old',
  'var/lib/dpkg/triggers/Lock',
  'var/tmp',
  'tmp',
  'run',
];

/**
 * Number of files and directories that differ between two volumes in type, mode, owner, size, modification time or
 * symlink target. For directories, size and time do not count. {@link IGNORED} paths are left out.
 */
export async function countDifferences(on: Machine, a: Volume, b: Volume): Promise<number> {
  const [before, after] = [
    await withMountedVolume(on, a, tree => entries(on, tree)),
    await withMountedVolume(on, b, tree => entries(on, tree)),
  ];
  const missing = [...before].filter(row => !after.has(row)).length;
  return Math.max(missing, [...after].filter(row => !before.has(row)).length);
}

async function entries(on: Machine, tree: string): Promise<Set<string>> {
  const prune = IGNORED.flatMap((path, i) => [...(i > 0 ? ['-o'] : []), '-path', `${tree}/${path}`]);
  // Without time and size: for a directory they show files that were created and removed again.
  const directory = ['-type', 'd', '-printf', '%P d %m %U %G\\n'];
  const other = ['-printf', '%P %y %m %U %G %s %T@ %l\\n'];
  const out = await on.host.run({
    file: 'find',
    args: [tree, '-xdev', '(', ...prune, ')', '-prune', '-o', ...directory, '-o', ...other],
    effect: 'read',
  });
  // Other numbers leave size and time as they are.
  const texts = ['etc/passwd', 'etc/group'].map(path => {
    const isFile = on.host.lstat(`${tree}/${path}`)?.kind === 'file';
    return `${path} ${isFile ? on.host.read(`${tree}/${path}`) : ''}`;
  });
  return new Set([...out.stdout.split('\n'), ...texts]);
}
