/** One look of the service: at the records and at logind, and what is over by them. */
import { reasonOf } from '../errors.ts';
import type { LogindSession, LogindSource } from '../linux/logind.ts';
import { identify, isAlive, type ProcessId } from '../linux/process-id.ts';
import type { Machine } from '../state/machine.ts';
import { readSessions, type Session } from '../state/sessions.ts';
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

/** How often processes are looked at whose death nothing tells of. Milliseconds. */
export const POLL_INTERVAL = 2_000;

export interface ServiceOptions {
  /** The configuration file, absolute. */
  readonly file: string;
  readonly logind: LogindSource;
  /** For NOTIFY_SOCKET and WATCHDOG_USEC. */
  readonly env: NodeJS.ProcessEnv;
  /** Registers who is told to stop, or to read the configuration again. */
  readonly onSignal: (tell: (what: 'stop' | 'reload') => void) => void;
}

/** What the service's loop knows. */
export interface ServiceState {
  on: Machine;
  readonly o: ServiceOptions;
  readonly reaper: Reaper;
  readonly notify: () => void;
  bindings: LoginBindings;
  /** Living processes whose death is a reason to look. */
  watched: readonly ProcessId[];
  /** The directories as they were at the last look. */
  dirSnapshot: string;
  /** When there will be a reason to look, if nothing happens before; milliseconds since the epoch. */
  scanDue: number;
  configKey: string;
  choresDue: number;
  spaceLevel: SpaceLevel;
  /** What was said of sessions whose store fills up. */
  readonly snapshotAlerts: AlertsSent;
  sweepDue: number;
  sweeping: Promise<void> | undefined;
  /** Half-written records that a sweep was asked for. */
  leftovers: ReadonlySet<string>;
  /** What the last sweep could not fix: said once. */
  unresolved: ReadonlySet<string>;
  /** Where watching does not work. */
  watchFailed: boolean;
  /** logind did not answer the last time. */
  logindSilent: boolean;
  stopping: boolean;
}

/** Whether neither a process has died nor a directory has changed; should an event be lost, this finds it out. */
export function isQuiet(state: ServiceState): boolean {
  const { host } = state.on;
  return state.watched.every(mark => isAlive(host, mark)) && state.dirSnapshot === takeDirSnapshot(state);
}

function takeDirSnapshot({ on, o }: ServiceState): string {
  return [on.paths.sessions, o.logind.directory].map(path => String(on.host.stat(path)?.mtimeMs)).join();
}

/** What logind shows of whoever has a session; undefined where nothing can be said, which proves nothing. */
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

/** Sessions and logins that are over. */
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
    log('debug', `what logind showed could not be written down: ${reasonOf(error)}`);
  }
  const over = sessions.filter(s => findEnded(host, s, state.bindings, shown) !== undefined);
  ends.take(on, over, async s => {
    const now = await askLogind(state, [s]);
    return findEnded(host, s, bindLogins(host, state.bindings, [s], now), now);
  });
  state.watched = watchedProcesses(sessions, state.bindings).filter(mark => isAlive(host, mark));
  const settle = Object.values(state.bindings).map(s => (s.missing ?? Number.NaN) + END_GRACE);
  const again = state.logindSilent ? host.now() + POLL_INTERVAL : state.scanDue;
  const dues = [ends.next() ?? state.scanDue, again, ...settle.filter(due => due > host.now())];
  state.scanDue = Math.min(state.scanDue, ...dues);
  watchLeftovers(state, new Set(sessions.map(s => `${s.id}.json`)));
}

/** What was half written and stays so is a thing for the sweep, once. */
function watchLeftovers(state: ServiceState, whole: ReadonlySet<string>): void {
  const { host, paths } = state.on;
  const isLitter = (name: string): boolean => !whole.has(name) && /^\.?u\d/.test(name);
  const isBeingWritten = (name: string): boolean =>
    identify(host, Number(/\.(\d+)\.tmp$/.exec(name)?.[1] ?? 0)) !== undefined;
  const found = host.list(paths.sessions).filter(isLitter);
  if (found.length > 0) state.scanDue = Math.min(state.scanDue, host.now() + POLL_INTERVAL);
  const litter = found.filter(name => !isBeingWritten(name));
  if (litter.some(name => !state.leftovers.has(name))) state.sweepDue = 0;
  state.leftovers = new Set(litter);
}
