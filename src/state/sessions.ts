/** The records of sessions and of the logins attached to them. */
import { isErrno } from '../errors.ts';
import type { Group, User } from '../linux/accounts.ts';
import type { Host } from '../linux/host.ts';
import type { Mount } from '../linux/mount-program.ts';
import type { ProcessId } from '../linux/process-id.ts';
import { isSessionId, uidOfSession } from '../names.ts';
import type { Volume } from '../volume/backend.ts';
import { isVolumeOf } from '../volume/shape.ts';
import type { Paths } from './paths.ts';
import { hasFields, isProcessId } from './shape.ts';

/** Who has announced a login. `wrapper`: nobody; the session wrapper has let it in (see session/unannounced.ts). */
export type AdapterKind = 'gdm' | 'lightdm' | 'pam' | 'run' | 'wrapper';

/** One seat or display attached to a session. */
export interface Login {
  readonly adapter: AdapterKind;
  /** The X display, if the caller named one. */
  readonly display?: string;
  /**
   * The calling process: this session's worker (gdm), the program that uses PAM, the daemon (lightdm), us (run), or the
   * schroot that has let the login in (wrapper).
   */
  readonly caller: ProcessId;
  /** Milliseconds on the monotonic clock, because it is compared with the times of other logins and of logind. */
  readonly since: number;
  /** The cgroup v2 group of the caller before it was moved into the session's; it is moved back at logout. */
  readonly group?: string;
}

/** What an ending session waits for. Times are on the monotonic clock. */
export interface Saving {
  /** When the programs were told to end. */
  readonly asked: number;
  /** When the wait is over. */
  readonly until: number;
  readonly processes: readonly ProcessId[];
  /** When the user's service manager was told to end. */
  readonly manager?: number;
  /** For the administrator: "process 12 saver". */
  readonly who: string;
}

/**
 * Everything that teardown needs. Written before the first effect, so a later change of the configuration cannot
 * orphan it.
 */
export interface Session {
  readonly id: string;
  readonly kind: 'login' | 'run';
  readonly user: User;
  /** The user's groups on the host at login. */
  readonly groups: readonly Group[];
  readonly generation: number;
  /** It gets that generation because it is stable; undefined if it is for that generation whichever is stable. */
  readonly fromStable?: true;
  readonly volume: Volume;
  readonly root: string;
  readonly mounts: readonly Mount[];
  readonly boot: string;
  readonly starter: ProcessId;
  /**
   * Milliseconds since the epoch, to be shown. Not an ISO date: formatting one makes V8 load the time zone, a third of
   * a millisecond.
   */
  readonly created: number;
  /** The same moment on the monotonic clock; undefined in records of earlier versions. */
  readonly since?: number;
  readonly state: 'starting' | 'live' | 'ending';
  /** st_dev of every file system that only this session uses; empty until they are mounted. */
  readonly devices: readonly number[];
  readonly logins: readonly Login[];
  /** Whether what enters gets a mount namespace of its own; otherwise it is in a chroot, where sandboxes fail. */
  readonly namespace?: boolean;
  /** Numbers of the user and of their groups that are in use in the generation without a name. */
  readonly unnamed?: { readonly users: readonly number[]; readonly groups: readonly number[] };
  /** An ending session waits for what works on ending. */
  readonly saving?: Saving;
  /** Why the last teardown stopped, as text for the administrator. */
  readonly stuck?: string;
  /** When the first one did, on the monotonic clock. */
  readonly stuckSince?: number;
}

/** The directories that may have records: a reader looks in all of them. See `old-records.ts` for the second. */
export function recordDirectories(host: Pick<Host, 'exists'>, paths: Paths): string[] {
  return host.exists(paths.oldSessions) ? [paths.sessions, paths.oldSessions] : [paths.sessions];
}

/** Where the record of a session is, or belongs: on disk while the directory of earlier versions is there. */
export function recordPath(host: Pick<Host, 'exists'>, paths: Paths, id: string): string {
  const path = `${paths.sessions}/${id}.json`;
  return !host.exists(path) && host.exists(paths.oldSessions) ? `${paths.oldSessions}/${id}.json` : path;
}

/**
 * Writes a record and returns it. After a power cut no session lives and no record is there: `recover` finds what is left
 * of sessions by listing the pool and the entries of schroot.
 */
export function writeSession(host: Host, paths: Paths, session: Session): Session {
  const text = (): string => `${JSON.stringify(session)}\n`;
  const write = (): void => host.write(recordPath(host, paths, session.id), text, { mode: 0o600 });
  try {
    write();
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || host.exists(paths.oldSessions)) throw error;
    write(); // the directory of earlier versions has just been removed
  }
  return session;
}

export function deleteSession(host: Host, paths: Paths, id: string): void {
  for (const directory of recordDirectories(host, paths)) host.unlink(`${directory}/${id}.json`);
}

/** A record; undefined if there is none, or if it is corrupt (`recover` then works from its name). */
export function readSession(host: Host, paths: Paths, id: string): Session | undefined {
  if (!isSessionId(id)) return undefined;
  const path = recordPath(host, paths, id);
  const text = host.lstat(path)?.kind === 'file' ? host.read(path) : undefined;
  if (text === undefined) return undefined;
  try {
    const session: unknown = JSON.parse(text);
    return isRecordOf(id, `${paths.roots}/${id}`, session) ? session : undefined;
  } catch {
    return undefined;
  }
}

/** The fields that records had in every version. */
const FIELDS = {
  id: 'text',
  kind: 'text',
  user: 'record',
  groups: 'list',
  generation: 'number',
  volume: 'record',
  root: 'text',
  mounts: 'list',
  boot: 'text',
  starter: 'record',
  created: 'number',
  state: 'text',
  devices: 'list',
  logins: 'list',
} as const;
const USER = {
  name: 'text',
  uid: 'number',
  gid: 'number',
  gecos: 'text',
  home: 'text',
  shell: 'text',
} as const;
const SAVING = { asked: 'number', until: 'number', processes: 'list', who: 'text' } as const;
const LOGIN = { adapter: 'text', caller: 'record', since: 'number' } as const;

/**
 * Whether a value is the whole record of session `id`, and names only what belongs to it. Only root can write records
 * (0700), and they are renamed into place complete; this tells a damaged or foreign one from ours.
 */
function isRecordOf(id: string, root: string, value: unknown): value is Session {
  if (!hasFields(value, FIELDS, { since: 'number', stuck: 'text', stuckSince: 'number', saving: 'record' }))
    return false;
  const s = value as Session;
  return (
    s.id === id &&
    s.root === root &&
    isVolumeOf(s.volume, 'session', id) &&
    hasFields(s.user, USER) &&
    s.user.uid === uidOfSession(id) &&
    isProcessId(s.starter) &&
    (s.saving === undefined ||
      (hasFields(s.saving, SAVING, { manager: 'number' }) && s.saving.processes.every(isProcessId))) &&
    s.devices.every(dev => typeof dev === 'number') &&
    s.logins.every(l => hasFields(l, LOGIN, { display: 'text', group: 'text' }) && isProcessId(l.caller)) &&
    s.mounts.every(m => hasFields(m, { target: 'text', type: 'text' })) &&
    s.groups.every(g => hasFields(g, { name: 'text', gid: 'number' }))
  );
}

/** IDs of all records, corrupt ones included; with `uid`, of that user only. */
export function sessionIds(host: Host, paths: Paths, uid?: number): string[] {
  const names = recordDirectories(host, paths).flatMap(directory => host.list(directory));
  return [...new Set(names)]
    .filter(name => name.endsWith('.json'))
    .map(name => name.slice(0, -'.json'.length))
    .filter(name => isSessionId(name) && (uid === undefined || name.startsWith(`u${uid}-`)));
}

/** All records that are not corrupt; with `uid`, of that user only, so that a login does not read every record. */
export function readSessions(host: Host, paths: Paths, uid?: number): Session[] {
  return sessionIds(host, paths, uid)
    .map(id => readSession(host, paths, id))
    .filter(s => s !== undefined);
}
