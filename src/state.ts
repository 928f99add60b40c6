/** What we know and where it is written: places, the pool, records of sessions. Generations: generations.ts. */
import type { Config } from './config.ts';
import { isErrno, MayflyError } from './errors.ts';
import type { Host } from './host.ts';
import { isSessionId } from './ids.ts';
import type { Mount } from './mounts.ts';
import type { Group } from './users.ts';
import type { BackendKind, FileSystem, Volume } from './volume/backend.ts';

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

/** Where the volumes are; written by `init`, believed over the configuration afterwards. */
export interface Pool {
  readonly backend: BackendKind;
  readonly path: string;
  /** LVM: what its volumes are formatted with. */
  readonly fs?: FileSystem;
  /** A file with a file system in it that is mounted at `path`; the embedded pool of `init --backend btrfs`. */
  readonly image?: string;
}

/** A process that cannot be confused with a later one of the same number. */
export interface ProcessId {
  readonly pid: number;
  /** Start time in clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly start: string;
}

export type AdapterKind = 'gdm' | 'lightdm' | 'pam' | 'run';

/** One seat or display attached to a session. */
export interface Login {
  readonly adapter: AdapterKind;
  /** X display, where the caller told us. */
  readonly display?: string;
  /** Who called: the worker of this session (gdm; PAM's caller), the daemon (lightdm), ourselves (run). */
  readonly caller: ProcessId;
  /** Milliseconds since the epoch: making a Date text has V8 load the time zone, a third of a millisecond. */
  readonly since: number;
  /** v2 cgroup the caller was in before we moved it into the session's; it goes back there at logout. */
  readonly group?: string;
}

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly gecos: string;
  readonly home: string;
  readonly shell: string;
}

/** Everything teardown needs, written before the first effect: no later change of configuration can orphan it. */
export interface Session {
  readonly id: string;
  readonly kind: 'login' | 'run';
  readonly user: User;
  /** Groups on the host at login. */
  readonly groups: readonly Group[];
  readonly generation: number;
  readonly volume: Volume;
  readonly root: string;
  readonly mounts: readonly Mount[];
  readonly boot: string;
  readonly starter: ProcessId;
  /** Milliseconds since the epoch. */
  readonly created: number;
  readonly state: 'starting' | 'live' | 'ending';
  /** st_dev of every file system that is the session's alone; known once it is mounted. */
  readonly devices: readonly number[];
  readonly logins: readonly Login[];
  /** Why the last teardown stopped, for people. */
  readonly stuck?: string;
}

export function bootId(host: Host): string {
  return (host.read('/proc/sys/kernel/random/boot_id') ?? 'unknown').trim();
}

/** The mark of a living process; undefined where it is gone. */
export function identify(host: Host, pid: number): ProcessId | undefined {
  const start = statOf(host, pid)?.[19];
  return start === undefined ? undefined : { pid, start };
}

/** proc_pid_stat(5) from field 3 on. */
function statOf(host: Host, pid: number): string[] | undefined {
  const text = host.read(`/proc/${pid}/stat`);
  // The name in field 2 may hold blanks and parentheses: count from the last one.
  return text?.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** The children of a process. */
export function childrenOf(host: Host, pid: number): ProcessId[] {
  return host.list('/proc').flatMap(name => {
    const child = Number(name);
    const stat = Number.isInteger(child) ? statOf(host, child) : undefined;
    return stat?.[1] === String(pid) && stat[19] !== undefined ? [{ pid: child, start: stat[19] }] : [];
  });
}

export function isAlive(host: Host, mark: ProcessId): boolean {
  return identify(host, mark.pid)?.start === mark.start;
}

/** Makes the directories of the state and of /run. Safe to repeat; called by everything that writes. */
export function makeDirectories(host: Host, paths: Paths): void {
  // The ones made last, and the one `destroy` takes away first: where they are, all are, as nearly always.
  if ([paths.sessions, paths.locks, paths.roots].every(path => host.pathType(path) === 'dir')) return;
  for (const path of [paths.state, paths.generations, paths.sessions]) host.mkdir(path, 0o700);
  for (const path of [paths.run, paths.users]) host.mkdir(path, 0o755);
  for (const path of [paths.roots, paths.locks]) host.mkdir(path, 0o700);
}

/** `hint` is what to type where the text is not whole. */
export function parseJson<T>(path: string, text: string, hint: string): T {
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new MayflyError('corrupt', `"${path}" is not whole`, { path, hint });
  }
}

export function readPool(host: Host, paths: Paths): Pool | undefined {
  const text = host.read(paths.poolFile);
  return text === undefined ? undefined : parseJson<Pool>(paths.poolFile, text, 'mayfly recover');
}

export function writePool(host: Host, paths: Paths, pool: Pool): void {
  host.write(paths.poolFile, `${JSON.stringify(pool, null, 2)}\n`, { mode: 0o600, durable: true });
}

/**
 * Writes a record. Not fsynced: after a power cut no session lives, and `recover` finds what it left in the pool by
 * asking the pool, so a lost or cut record loses nothing; an fsync would cost every login a disk's latency.
 */
export function writeSession(host: Host, paths: Paths, session: Session): Session {
  const text = (): string => `${JSON.stringify(session)}\n`;
  host.write(`${paths.sessions}/${session.id}.json`, text, { mode: 0o600 });
  return session;
}

export function deleteSession(host: Host, paths: Paths, id: string): void {
  host.unlink(`${paths.sessions}/${id}.json`);
}

/** A record, or undefined where there is none or it is not whole (then `recover` works from its name). */
export function readSession(host: Host, paths: Paths, id: string): Session | undefined {
  if (!isSessionId(id)) return undefined;
  const path = `${paths.sessions}/${id}.json`;
  const text = host.lstat(path)?.kind === 'file' ? host.read(path) : undefined;
  if (text === undefined) return undefined;
  try {
    const session = JSON.parse(text) as Partial<Session>;
    // A record is written whole or not at all, by root, below 0700: this tells a cut or foreign one from ours.
    const whole = session.id === id && session.volume?.name === id && session.root === `${paths.roots}/${id}`;
    return whole && session.user && session.logins && session.devices ? (session as Session) : undefined;
  } catch {
    return undefined;
  }
}

/** What the person's own wrapper may read: the session's id, or why there is none; and where their services run. */
export function userDirectory(paths: Paths, uid: number): string {
  return `${paths.users}/${uid}`;
}

/** Names of all records, whole or not; of one person's only, where `uid` is given. */
export function sessionIds(host: Host, paths: Paths, uid?: number): string[] {
  return host
    .list(paths.sessions)
    .filter(name => name.endsWith('.json'))
    .map(name => name.slice(0, -'.json'.length))
    .filter(name => isSessionId(name) && (uid === undefined || name.startsWith(`u${uid}-`)));
}

/** All whole records, or one person's: a login must not read those of a full room. */
export function readSessions(host: Host, paths: Paths, uid?: number): Session[] {
  return sessionIds(host, paths, uid)
    .map(id => readSession(host, paths, id))
    .filter(s => s !== undefined);
}

/** Removes temporary files that a death between writing and renaming left in `directory`. */
export function sweepTemporary(host: Host, directory: string, prefix = ''): void {
  for (const name of host.list(directory)) {
    if (!name.startsWith(`.${prefix}`) || !/\.\d+\.tmp$/.test(name)) continue;
    const pid = Number(/\.(\d+)\.tmp$/.exec(name)?.[1]);
    if (identify(host, pid) && pid !== host.pid) continue; // its writer may be about to rename it
    try {
      host.unlink(`${directory}/${name}`);
    } catch (error) {
      if (!isErrno(error, 'EISDIR', 'EPERM')) throw error; // a directory under our pattern is not ours
    }
  }
}

/** Removes a directory. One that holds something, or is the administrator's own mount point, stays. */
export function removeIfEmpty(host: Host, path: string): void {
  if (host.lstat(path)?.kind !== 'dir' || host.list(path).length > 0) return;
  try {
    host.rmdir(path);
  } catch (error) {
    if (!isErrno(error, 'EBUSY', 'ENOTEMPTY')) throw error;
  }
}
