/**
 * Watches directories with chokidar. For a directory that does not exist yet, its nearest existing parent is watched.
 * Events only cause a scan, which reads from the files what has changed.
 */

import { type FSWatcher, watch } from 'chokidar';
import { reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';

/** A directory, and the names in it that matter. */
export interface WatchTarget {
  readonly directory: string;
  readonly matters: (name: string) => boolean;
}

/**
 * What to watch now, by directory: each target, and its nearest existing parent, to notice when the target is created or
 * removed.
 */
export function planWatches(
  host: Pick<Host, 'pathType'>,
  places: readonly WatchTarget[],
): Map<string, WatchTarget[]> {
  const plan = new Map<string, WatchTarget[]>();
  const add = (place: WatchTarget): void => {
    plan.set(place.directory, [...(plan.get(place.directory) ?? []), place]);
  };
  for (const place of places) {
    if (host.pathType(place.directory) === 'dir') add(place);
    for (let directory = place.directory; directory !== '/'; ) {
      const own = baseName(directory);
      directory = directory.slice(0, directory.lastIndexOf('/')) || '/';
      if (host.pathType(directory) !== 'dir') continue;
      add({ directory, matters: name => name === own });
      break;
    }
  }
  return plan;
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export interface Watches {
  /** Updates the watches for directories that were created, removed or replaced. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

interface Open {
  readonly watcher: FSWatcher;
  readonly inode: number | undefined;
  readonly places: number;
}

/** `onEvent` is called for each change, and when a new watch is active; `onError` with the reason if watching fails. */
export function openWatches(
  host: Host,
  places: readonly WatchTarget[],
  onEvent: () => void,
  onError: (reason: string) => void,
): Watches {
  const open = new Map<string, Open>();
  const stale = new Set<string>();
  const begin = (directory: string, wanted: readonly WatchTarget[]): FSWatcher => {
    const matters = (path: string): boolean => wanted.some(w => w.matters(baseName(path)));
    return (
      watch(directory, {
        depth: 0,
        ignoreInitial: true,
        atomic: false, // otherwise events of removed files are delayed
        ignored: path => path !== directory && !matters(path),
      })
        .on('all', (event, path) => {
          // A new directory of the same name often gets the same inode number.
          if (event.endsWith('Dir')) stale.add(path);
          onEvent();
        })
        // The kernel's events: if a file is replaced twice within milliseconds, "all" misses the second time.
        .on('raw', (_event, path: unknown) => {
          if (typeof path !== 'string' || matters(path)) onEvent();
        })
        .on('ready', onEvent) // there are no events for earlier changes
        .on('error', error => onError(reasonOf(error)))
    );
  };
  return {
    async refresh() {
      const plan = planWatches(host, places);
      for (const [directory, o] of [...open]) {
        const same = o.inode === host.stat(directory)?.ino && o.places === plan.get(directory)?.length;
        if (same && !stale.has(directory)) continue;
        open.delete(directory);
        await o.watcher.close();
      }
      stale.clear();
      for (const [directory, wanted] of plan) {
        if (open.has(directory)) continue;
        const inode = host.stat(directory)?.ino;
        open.set(directory, { watcher: begin(directory, wanted), inode, places: wanted.length });
      }
    },
    async close() {
      await Promise.all([...open.values()].map(({ watcher }) => watcher.close()));
      open.clear();
    },
  };
}
