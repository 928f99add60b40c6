/**
 * Watching directories, with chokidar. A directory that is not there yet is waited for in the nearest one that is.
 * Events only say "look": what has happened is read from the files.
 */

import { type FSWatcher, watch } from 'chokidar';
import { reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';

/** A directory, and which names in it matter. */
export interface WatchTarget {
  readonly directory: string;
  readonly matters: (name: string) => boolean;
}

/**
 * What to watch now, by directory: each place, and where it hangs, or would, for its own coming and going.
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
  /** Follows directories that came, went or were replaced. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

interface Open {
  readonly watcher: FSWatcher;
  readonly inode: number | undefined;
  readonly places: number;
}

/** `onEvent` is called for each change, and when a new watch is in place; `onError` where watching does not work. */
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
        atomic: false, // it would hold back the news of a file that went
        ignored: path => path !== directory && !matters(path),
      })
        .on('all', (event, path) => {
          // The next directory of the same name may well get the same inode.
          if (event.endsWith('Dir')) stale.add(path);
          onEvent();
        })
        // As the kernel says it: of a file that is replaced twice within milliseconds, "all" loses the second time.
        .on('raw', (_event, path: unknown) => {
          if (typeof path !== 'string' || matters(path)) onEvent();
        })
        .on('ready', onEvent) // what happened before is not told
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
