/** The paths of one Mayfly instance, and creating its directories. */
import type { Config } from '../config/config.ts';
import type { Host } from '../linux/host.ts';

/** All paths of one instance; two instances with different directories do not interfere. */
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
  /** Exists while logins are blocked; holds the reason. */
  readonly loginBlock: string;
  /** Prefix of the names of our sessions' control groups. */
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
    bindings: `${run}/sightings.json`,
    health: `${run}/health`,
    history: `${state}/update.json`,
    runningUpdate: `${run}/update.json`,
    cgroup: run === SYSTEM_RUN ? 'mayfly' : `mayfly${run.replaceAll('/', '.')}`,
  };
}

/** Creates the directories below the state and run directories. Safe to repeat; everything that writes calls it. */
export function makeDirectories(host: Host, paths: Paths): void {
  // Usually all exist. These are the ones created last and the one that `destroy` removes first.
  if ([paths.sessions, paths.locks, paths.roots].every(path => host.pathType(path) === 'dir')) return;
  for (const path of [paths.state, paths.generations, paths.sessions]) host.mkdir(path, 0o700);
  for (const path of [paths.run, paths.users]) host.mkdir(path, 0o755);
  for (const path of [paths.roots, paths.locks]) host.mkdir(path, 0o700);
}

/**
 * The directory that a user's session wrapper may read: the session's ID or why there is none, and the services'
 * root.
 */
export function userDirectory(paths: Paths, uid: number): string {
  return `${paths.users}/${uid}`;
}
