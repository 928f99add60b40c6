/** All places of one Mayfly, and making its directories. */
import type { Config } from '../config/config.ts';
import type { Host } from '../linux/host.ts';

/** All places of one Mayfly; two with different directories do not meet. */
export interface Paths {
  readonly state: string;
  readonly run: string;
  readonly schroot: string;
  readonly generations: string;
  readonly sessions: string;
  readonly stable: string;
  readonly poolFile: string;
  readonly roots: string;
  readonly users: string;
  readonly locks: string;
  /** While it is there nobody logs in; it holds the reason. */
  readonly loginBlock: string;
  /** What the names of our sessions' cgroups begin with. */
  readonly cgroup: string;
}

export function pathsOf(directories: Config['directories']): Paths {
  const { state, run, schroot } = directories;
  return {
    state,
    run,
    schroot,
    generations: `${state}/generations`,
    sessions: `${state}/sessions`,
    stable: `${state}/stable`,
    poolFile: `${state}/pool.json`,
    roots: `${run}/roots`,
    users: `${run}/users`,
    locks: `${run}/locks`,
    loginBlock: `${run}/hold`,
    cgroup: run === '/run/mayfly' ? 'mayfly' : `mayfly${run.replaceAll('/', '.')}`,
  };
}

/** Makes the directories of the state and of /run. Safe to repeat; called by everything that writes. */
export function makeDirectories(host: Host, paths: Paths): void {
  // The ones made last, and the one `destroy` takes away first: where they are, all are, as nearly always.
  if ([paths.sessions, paths.locks, paths.roots].every(path => host.pathType(path) === 'dir')) return;
  for (const path of [paths.state, paths.generations, paths.sessions]) host.mkdir(path, 0o700);
  for (const path of [paths.run, paths.users]) host.mkdir(path, 0o755);
  for (const path of [paths.roots, paths.locks]) host.mkdir(path, 0o700);
}

/** What the person's own wrapper may read: the session's id, or why there is none; and where their services run. */
export function userDirectory(paths: Paths, uid: number): string {
  return `${paths.users}/${uid}`;
}
