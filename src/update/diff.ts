/** Whether a refresh changed anything that people would see. */
import type { Machine } from '../state/machine.ts';
import type { Volume } from '../volume/backend.ts';
import { withMountedVolume } from './volume-tree.ts';

/** Caches, lists and logs: they differ after every look for updates. */
const NOISE = [
  'lost+found', // of a file system, not of the tree in it
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

/** The number of files and directories that differ between two trees in kind, mode, owner, size, time or target. */
export async function countDifferences(on: Machine, a: Volume, b: Volume): Promise<number> {
  const [before, after] = [
    await withMountedVolume(on, a, tree => entries(on, tree)),
    await withMountedVolume(on, b, tree => entries(on, tree)),
  ];
  const missing = [...before].filter(row => !after.has(row)).length;
  return Math.max(missing, [...after].filter(row => !before.has(row)).length);
}

async function entries(on: Machine, tree: string): Promise<Set<string>> {
  const prune = NOISE.flatMap((path, i) => [...(i > 0 ? ['-o'] : []), '-path', `${tree}/${path}`]);
  // A directory's time and size tell of files that came and went.
  const directory = ['-type', 'd', '-printf', '%P d %m %U %G\\n'];
  const other = ['-printf', '%P %y %m %U %G %s %T@ %l\\n'];
  const out = await on.host.run({
    file: 'find',
    args: [tree, '-xdev', '(', ...prune, ')', '-prune', '-o', ...directory, '-o', ...other],
    effect: 'read',
  });
  return new Set(out.stdout.split('\n'));
}
