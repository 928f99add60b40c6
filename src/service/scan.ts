/** One scan of the service: reads the session records and logind's sessions, and finds those that are over. */
import { reasonOf } from '../errors.ts';
import type { LogindSession, LogindSource } from '../linux/logind.ts';
import { identify, isAlive, type ProcessId } from '../linux/process-id.ts';
import type { Machine } from '../state/machine.ts';
import { readSessions, recordDirectories, type Session } from '../state/sessions.ts';
import type { Discards } from './discards.ts';
import { type HostChanges, hostSnapshot } from './host-changes.ts';
import {
  bindLogins,
  END_GRACE,
  findEnded,
  type LoginBindings,
  watchedProcesses,
  writeBindings,
} from './liveness.ts';
import type { Reaper } from './reaper.ts';
import type { AlertsSent } from './snapshot-alerts.ts';
import type { SpaceLevel } from './space-alerts.ts';

/** How often to check processes whose death causes no event, in milliseconds. */
export const POLL_INTERVAL = 2_000;

export interface ServiceOptions {
  /** The configuration file, absolute. */
  readonly file: string;
  readonly logind: LogindSource;
  /** The file that the hooks run. */
  readonly program: string;
  /** The environment, with NOTIFY_SOCKET and WATCHDOG_USEC. */
  readonly env: NodeJS.ProcessEnv;
  /** Registers a function for requests to stop and to reload the configuration. */
  readonly onSignal: (tell: (what: 'stop' | 'reload') => void) => void;
}

/** The state of the service's loop. */
export interface ServiceState {
  on: Machine;
  readonly o: ServiceOptions;
  readonly reaper: Reaper;
  readonly notify: () => void;
  bindings: LoginBindings;
  /** Live processes whose death is a reason to scan. */
  watched: readonly ProcessId[];
  /** The modification times of the directories at the last scan, and the state of the host. */
  dirSnapshot: string;
  /** When to scan if no event comes before, on the monotonic clock. */
  scanDue: number;
  configKey: string;
  choresDue: number;
  spaceLevel: SpaceLevel;
  /** The alerts that were sent about sessions whose snapshot fills up. */
  readonly snapshotAlerts: AlertsSent;
  readonly discards: Discards;
  readonly hostChanges: HostChanges;
  sweepDue: number;
  sweeping: Promise<void> | undefined;
  /** Incomplete records for which a sweep was requested. */
  leftovers: ReadonlySet<string>;
  /** What the last sweep could not fix, so that it is logged once. */
  unresolved: ReadonlySet<string>;
  /** Watching directories has failed. */
  watchFailed: boolean;
  /** logind did not answer at the last scan; logged once. */
  logindSilent: boolean;
  stopping: boolean;
}

/** Whether no watched process has died and no directory has changed. This finds changes whose event was lost. */
export function isQuiet(state: ServiceState): boolean {
  const { host } = state.on;
  return state.watched.every(mark => isAlive(host, mark)) && state.dirSnapshot === takeDirSnapshot(state);
}

function takeDirSnapshot({ on, o }: ServiceState): string {
  const directories = [...recordDirectories(on.host, on.paths), o.logind.directory];
  const changed = directories.map(path => String(on.host.stat(path)?.mtimeMs));
  return [...changed, hostSnapshot(on)].join();
}

/** logind's sessions of the users of `sessions`; undefined without logind, and if it does not answer. */
async function askLogind(
  state: ServiceState,
  sessions: readonly Session[],
): Promise<readonly LogindSession[] | undefined> {
  const { host, log } = state.on;
  try {
    const shown = await state.o.logind.sessions(host, new Set(sessions.map(s => s.user.uid)));
    state.logindSilent = false;
    return shown;
  } catch (error) {
    if (!state.logindSilent) log('warning', `logind does not answer: ${reasonOf(error)}`);
    state.logindSilent = true;
    return undefined;
  }
}

/** Finds sessions and logins that are over, passes them to the reaper, and sets the time of the next scan. */
export async function scanSessions(state: ServiceState): Promise<void> {
  const { on, reaper: ends } = state;
  const { host, paths, log } = on;
  state.dirSnapshot = takeDirSnapshot(state);
  const sessions = readSessions(host, paths);
  const before = state.bindings;
  const shown = await askLogind(state, sessions);
  state.bindings = bindLogins(host, before, sessions, shown);
  try {
    writeBindings(host, paths, before, state.bindings);
  } catch (error) {
    log('debug', `cannot write the login bindings: ${reasonOf(error)}`);
  }
  const over: Session[] = [];
  for (const s of sessions) if (await findEnded(host, s, state.bindings, shown)) over.push(s);
  ends.take(on, over, async s => {
    const now = await askLogind(state, [s]);
    return findEnded(host, s, bindLogins(host, state.bindings, [s], now), now);
  });
  state.watched = watchedProcesses(sessions, state.bindings).filter(mark => isAlive(host, mark));
  const graceEnds = Object.values(state.bindings).map(s => (s.missing ?? Number.NaN) + END_GRACE);
  const retry = state.logindSilent ? host.monotonic() + POLL_INTERVAL : state.scanDue;
  const dues = [ends.next() ?? state.scanDue, retry, ...graceEnds.filter(due => due > host.monotonic())];
  state.scanDue = Math.min(state.scanDue, ...dues);
  if (!(await state.hostChanges.apply(on, sessions, hostSnapshot(on))))
    state.scanDue = Math.min(state.scanDue, host.monotonic() + POLL_INTERVAL);
  watchLeftovers(state, new Set(sessions.map(s => `${s.id}.json`)));
}

/** Requests one sweep for each incomplete record that no process is writing. `complete`: names of complete records. */
function watchLeftovers(state: ServiceState, complete: ReadonlySet<string>): void {
  const { host, paths } = state.on;
  const isLeftover = (name: string): boolean => !complete.has(name) && /^\.?u\d/.test(name);
  const isBeingWritten = (name: string): boolean =>
    identify(host, Number(/\.(\d+)\.tmp$/.exec(name)?.[1] ?? 0)) !== undefined;
  const found = recordDirectories(host, paths).flatMap(path => host.list(path).filter(isLeftover));
  if (found.length > 0) state.scanDue = Math.min(state.scanDue, host.monotonic() + POLL_INTERVAL);
  const leftovers = found.filter(name => !isBeingWritten(name));
  if (leftovers.some(name => !state.leftovers.has(name))) state.sweepDue = 0;
  state.leftovers = new Set(leftovers);
}
