/** The paths of one Mayfly instance, and creating its directories. */
import { type Config, DEFAULT_CONFIG_FILE, SYSTEM_RUN } from '../config/config.ts';
import type { Host } from '../linux/host.ts';

/** All paths of one instance; two instances with different directories do not interfere. */
export interface Paths {
  readonly state: string;
  readonly run: string;
  readonly schroot: string;
  readonly generations: string;
  /** Records of sessions. No session outlives the kernel, so they are in memory; a disk would stall logins beside an update. */
  readonly sessions: string;
  /** Where earlier versions had them: see `old-records.ts`. */
  readonly oldSessions: string;
  readonly stable: string;
  readonly poolFile: string;
  readonly roots: string;
  readonly users: string;
  readonly locks: string;
  /** The FIFO of logins that fork the stable generation; see `promotion-lock.ts`. */
  readonly forks: string;
  /** Exists while the pointer is about to be moved. */
  readonly promotion: string;
  /** Exists while logins are blocked; holds the reason. */
  readonly loginBlock: string;
  /** The logins refused since the last one that succeeded. */
  readonly refused: string;
  /** Which logind session each login belongs to; kept for the next run of the service. */
  readonly bindings: string;
  /** One line for monitoring. */
  readonly health: string;
  readonly history: string;
  /** What came with generations that were demoted; see `held-back.ts`. */
  readonly heldBack: string;
  /** The update in progress. */
  readonly runningUpdate: string;
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
    sessions: `${run}/sessions`,
    oldSessions: `${state}/sessions`,
    stable: `${state}/stable`,
    poolFile: `${state}/pool.json`,
    roots: `${run}/roots`,
    users: `${run}/users`,
    locks: `${run}/locks`,
    forks: `${run}/locks/forks`,
    promotion: `${run}/promotion.json`,
    loginBlock: `${run}/hold`,
    refused: `${run}/refused.json`,
    bindings: `${run}/sightings.json`,
    health: `${run}/health`,
    history: `${state}/update.json`,
    heldBack: `${state}/held-back.json`,
    runningUpdate: `${run}/update.json`,
    cgroup: run === SYSTEM_RUN ? 'mayfly' : `mayfly${run.replaceAll('/', '.')}`,
  };
}

/**
 * The data directory in which display managers look for our entries. `enable` ensures that it is in the run
 * directory.
 */
export const GREETER_DIRECTORY = `${SYSTEM_RUN}/greeter`;

/** Whether this is the instance to which the system's own hooks and units belong. */
export function isSystemInstance({ run }: Pick<Paths, 'run'>): boolean {
  return run === SYSTEM_RUN;
}

/**
 * Where the socket of the agent is. The system's hooks look in a fixed place (hooks/run), wherever the configuration that they
 * use, which is the default one, has its directories.
 */
export const agentDirectory = (file: string, { run }: Pick<Paths, 'run'>): string =>
  `${file === DEFAULT_CONFIG_FILE ? SYSTEM_RUN : run}/agent`;

/** Creates the directories below the state and run directories. Safe to repeat; everything that writes calls it. */
export function makeDirectories(host: Host, paths: Paths): void {
  // Usually all exist. These are the ones created last and the one that `destroy` removes first.
  const last = [paths.generations, paths.locks, paths.roots];
  const records = host.lstat(paths.sessions);
  if (records?.kind === 'dir' && records.uid === 0 && last.every(path => host.pathType(path) === 'dir'))
    return;
  for (const path of [paths.state, paths.generations]) {
    host.mkdir(path, 0o700);
    host.own(path, 0o700); // the root of a file system of its own is usually open to all users
  }
  for (const path of [paths.run, paths.users]) host.mkdir(path, 0o755);
  for (const path of [paths.sessions, paths.roots, paths.locks]) host.mkdir(path, 0o700);
  host.own(paths.sessions, 0o700); // what its records say is believed
}

/** What a user's session wrapper may read. */
export interface UserFiles {
  readonly directory: string;
  /** The ID of the user's session. */
  readonly session: string;
  /** Why there is no session. */
  readonly reason: string;
  /** Allows a host session for one minute. */
  readonly host: string;
  /** A symlink to the root of the user's service manager. */
  readonly root: string;
}

export function userFiles({ users }: Pick<Paths, 'users'>, uid: number | string): UserFiles {
  const directory = `${users}/${uid}`;
  const at = (name: string): string => `${directory}/${name}`;
  return { directory, session: at('session'), reason: at('reason'), host: at('host'), root: at('root') };
}

/** Exists while a display manager uses Mayfly. Xsession checks it, and entries are only generated while it exists. */
export const ENABLED_MARKER = '/etc/mayfly/enabled';
