/** One look of the service: at the records and at logind, and what is over by them. */
import { reasonOf } from './errors.ts';
import { shownSessions } from './logind.ts';
import type { Reaper } from './reap.ts';
import type { Scarcity } from './room.ts';
import { judge, keepSightings, marksOf, observe, SETTLE, type Sightings } from './sight.ts';
import { isAlive, markOf, type ProcessMark, readSessions } from './state.ts';
import type { Machine } from './steps.ts';
import type { Told } from './strain.ts';

/** How often processes are looked at whose death nothing tells of. Milliseconds. */
export const PULSE = 2_000;

export interface ServiceOptions {
  /** The configuration file, absolute. */
  readonly file: string;
  /** Where logind keeps its session files. */
  readonly logind: string;
  /** For NOTIFY_SOCKET and WATCHDOG_USEC. */
  readonly env: NodeJS.ProcessEnv;
  /** Registers who is told to stop, or to read the configuration again. */
  readonly onSignal: (tell: (what: 'stop' | 'reload') => void) => void;
}

/** What the service's loop knows. */
export interface State {
  on: Machine;
  readonly o: ServiceOptions;
  readonly ends: Reaper;
  readonly ring: () => void;
  sightings: Sightings;
  /** Living processes whose death is a reason to look. */
  marks: readonly ProcessMark[];
  /** The directories as they were at the last look. */
  trace: string;
  /** When there will be a reason to look, if nothing happens before; milliseconds since the epoch. */
  lookDue: number;
  configKey: string;
  choresDue: number;
  scarcity: Scarcity;
  /** What was said of sessions whose store fills up. */
  readonly stores: Told;
  sweepDue: number;
  sweeping: Promise<void> | undefined;
  /** Half-written records that a sweep was asked for. */
  litter: ReadonlySet<string>;
  /** What the last sweep could not mend: said once. */
  unmended: ReadonlySet<string>;
  /** Where watching does not work. */
  blind: boolean;
  stopping: boolean;
}

/** Whether neither a process has died nor a directory has changed; should an event be lost, this finds it out. */
export function isQuiet(state: State): boolean {
  const { host } = state.on;
  return state.marks.every(mark => isAlive(host, mark)) && state.trace === traceOf(state);
}

function traceOf({ on, o }: State): string {
  return [on.paths.sessions, o.logind].map(path => String(on.host.stat(path)?.mtimeMs)).join();
}

/** Sessions and logins that are over. */
export function look(state: State): void {
  const { on, o, ends } = state;
  const { host, paths, log } = on;
  state.trace = traceOf(state);
  const sessions = readSessions(host, paths);
  const before = state.sightings;
  const shown = shownSessions(host, o.logind);
  state.sightings = observe(host, before, sessions, shown);
  try {
    keepSightings(host, paths, before, state.sightings);
  } catch (error) {
    log('debug', `what logind showed could not be written down: ${reasonOf(error)}`);
  }
  const over = sessions.filter(s => judge(host, s, state.sightings, shown) !== undefined);
  ends.take(on, over, s => {
    const now = shownSessions(host, o.logind);
    return judge(host, s, observe(host, state.sightings, [s], now), now);
  });
  state.marks = marksOf(sessions, state.sightings).filter(mark => isAlive(host, mark));
  const settle = Object.values(state.sightings).map(s => (s.missing ?? Number.NaN) + SETTLE);
  const dues = [ends.next() ?? state.lookDue, ...settle.filter(due => due > host.now())];
  state.lookDue = Math.min(state.lookDue, ...dues);
  watchLitter(state, new Set(sessions.map(s => `${s.id}.json`)));
}

/** What was half written and stays so is a thing for the sweep, once. */
function watchLitter(state: State, whole: ReadonlySet<string>): void {
  const { host, paths } = state.on;
  const isLitter = (name: string): boolean => !whole.has(name) && /^\.?u\d/.test(name);
  const isBeingWritten = (name: string): boolean =>
    markOf(host, Number(/\.(\d+)\.tmp$/.exec(name)?.[1] ?? 0)) !== undefined;
  const found = host.list(paths.sessions).filter(isLitter);
  if (found.length > 0) state.lookDue = Math.min(state.lookDue, host.now() + PULSE);
  const litter = found.filter(name => !isBeingWritten(name));
  if (litter.some(name => !state.litter.has(name))) state.sweepDue = 0;
  state.litter = new Set(litter);
}
