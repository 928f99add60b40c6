/** All places of one Mayfly, and making its directories. */
import { type Config, SYSTEM_RUN } from '../config/config.ts';
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
  /** What this machine's service has seen of logins, for its next run. */
  readonly bindings: string;
  /** One line for monitoring. */
  readonly health: string;
  readonly history: string;
  /** The update at work. */
  readonly runningUpdate: string;
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
    bindings: `${run}/sightings.json`,
    health: `${run}/health`,
    history: `${state}/update.json`,
    runningUpdate: `${run}/update.json`,
    cgroup: run === SYSTEM_RUN ? 'mayfly' : `mayfly${run.replaceAll('/', '.')}`,
  };
}

/** Where display managers look for our desktops; a data directory. */
export const GREETER_DIRECTORY = `${SYSTEM_RUN}/greeter`;

/** Whether this is the instance that the system's own hooks and units are of. */
export function isSystemInstance({ run }: Pick<Paths, 'run'>): boolean {
  return run === SYSTEM_RUN;
}

/** Makes the directories of the state and of /run. Safe to repeat; called by everything that writes. */
export function makeDirectories(host: Host, paths: Paths): void {
  // The ones made last, and the one `destroy` takes away first: where they are, all are, as nearly always.
  if ([paths.sessions, paths.locks, paths.roots].every(path => host.pathType(path) === 'dir')) return;
  for (const path of [paths.state, paths.generations, paths.sessions]) host.mkdir(path, 0o700);
  for (const path of [paths.run, paths.users]) host.mkdir(path, 0o755);
  for (const path of [paths.roots, paths.locks]) host.mkdir(path, 0o700);
}

/** What the person's own wrapper may read, and where their services run. */
export interface UserFiles {
  readonly directory: string;
  /** The id of their session. */
  readonly session: string;
  /** Why there is none. */
  readonly reason: string;
  /** That the host is theirs, for a moment. */
  readonly host: string;
  /** A symlink to the root of their service manager. */
  readonly root: string;
}

export function userFiles({ users }: Pick<Paths, 'users'>, uid: number | string): UserFiles {
  const directory = `${users}/${uid}`;
  const at = (name: string): string => `${directory}/${name}`;
  return { directory, session: at('session'), reason: at('reason'), host: at('host'), root: at('root') };
}
