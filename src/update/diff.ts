/** In what generations and working copies differ: how much a refresh changed, and what is new in a generation. */
import { MayflyError } from '../errors.ts';
import {
  type Difference,
  differenceCommand,
  listDifferencesCommand,
  parseDifferences,
} from '../linux/tree-difference.ts';
import { readGeneration } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Volume } from '../volume/backend.ts';
import { MARK } from '../volume/seal-files.ts';
import { type PackageChange, packageChanges, packagesOf } from './packages.ts';
import { withMountedVolume } from './volume-tree.ts';

/** What is no news: caches, lists, logs and stamps, which differ after every check for updates. */
const IGNORED = [
  MARK, // of each generation another
  'lost+found', // belongs to the file system, not to the tree
  ...['etc/machine-id', 'var/lib/dbus/machine-id'], // not in a generation
  ...['run', 'tmp', 'var/tmp', 'var/cache', 'var/log', 'var/backups', 'var/crash', 'root/.cache'],
  ...['var/spool/anacron', 'var/lib/logrotate', 'var/lib/systemd/timers', 'var/lib/systemd/random-seed'],
  ...['var/lib/apt/lists', 'var/lib/apt/periodic', 'var/lib/apt/listchanges.db', 'var/lib/apt/daily_lock'],
  ...['var/lib/dpkg/lock', 'var/lib/dpkg/lock-frontend', 'var/lib/dpkg/triggers/Lock'],
  // The database before its last change.
  ...['status-old', 'available', 'available-old', 'diversions-old', 'statoverride-old'].map(
    name => `var/lib/dpkg/${name}`,
  ),
  ...['var/lib/aptitude/pkgstates.old', 'var/lib/ucf/hashfile.0', 'var/lib/ucf/registry.0'],
  // Made from the lists of apt by its hooks.
  ...[
    'command-not-found',
    'app-info',
    'swcatalog',
    'apt-xapian-index',
    'debtags',
    'packagekit',
    'PackageKit',
  ].map(name => `var/lib/${name}`),
  ...['update-notifier', 'update-manager', 'unattended-upgrades', 'apt-show-versions', 'fwupd'].map(
    name => `var/lib/${name}`,
  ),
  ...['var/lib/mlocate', 'var/lib/plocate'],
];

/** Made from the files beside it, which count. */
const DERIVED = ['__pycache__', 'icon-theme.cache', 'mimeinfo.cache'];

/**
 * Number of files and directories in which the volume `after`, a copy of `before` at the time `since`, differs. What is in
 * {@link IGNORED} and {@link DERIVED} does not count.
 */
export async function countDifferences(
  on: Machine,
  before: Volume,
  after: Volume,
  since: number,
): Promise<number> {
  const out = await withMountedVolume(on, before, old =>
    withMountedVolume(on, after, tree =>
      on.host.run(differenceCommand(old, tree, since, { derived: DERIVED, ignored: IGNORED })),
    ),
  );
  return Number(out.stdout);
}

export interface GenerationDiff {
  readonly packages: readonly PackageChange[];
  readonly files: readonly Difference[];
}

/**
 * In what two generations differ, without caches, lists and logs. Files of the same size and time count as the same.
 * Throws `no-generation` if there is none with such a number. The caller holds the lock `update`.
 */
export async function diffGenerations(on: Machine, from: number, to: number): Promise<GenerationDiff> {
  const { host, paths } = on;
  const [before, after] = [from, to].map(number => {
    const g = readGeneration(host, paths, number);
    if (!g)
      throw new MayflyError('no-generation', `there is no generation ${number}`, { generation: number });
    return g.volume;
  }) as [Volume, Volume];
  return withMountedVolume(on, before, old =>
    withMountedVolume(on, after, async now => {
      const { stdout } = await host.run(
        listDifferencesCommand(old, now, { derived: DERIVED, ignored: IGNORED }),
      );
      return {
        packages: packageChanges(packagesOf(host, old), packagesOf(host, now)),
        files: parseDifferences(stdout),
      };
    }),
  );
}
