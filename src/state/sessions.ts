/** The records of sessions and of the logins attached to them. */
import type { Group, User } from '../linux/accounts.ts';
import type { Host } from '../linux/host.ts';
import type { Mount } from '../linux/mount-program.ts';
import type { ProcessId } from '../linux/process-id.ts';
import { isSessionId } from '../names.ts';
import type { Volume } from '../volume/backend.ts';
import type { Paths } from './paths.ts';

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
