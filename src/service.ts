/**
 * The resident service: ends the sessions whose login died without a hook, tries the stuck ones again, watches the
 * pool's space and the configuration. Hooks and timers do without it; it only makes sooner what they and `recover`
 * would do.
 *
 * One loop looks at everything there is and acts on that. Events and timers only make it look sooner, so an event
 * that is lost or doubled changes nothing.
 */
import { bellOf } from './bell.ts';
import { cacheKey, limitsOf } from './config.ts';
import { MayflyError, reasonOf } from './errors.ts';
import { writeHealth } from './health.ts';
import { type Lock, takeLock } from './locks.ts';
import { isQuiet, look, PULSE, type ServiceOptions, type State } from './lookout.ts';
import { managerOf } from './notify.ts';
import { reaper } from './reap.ts';
import { recover } from './recover.ts';
import { reload } from './reload.ts';
import { roomOf, weigh } from './room.ts';
import { readSightings } from './sight.ts';
import { makeDirectories, type Paths, readPool, readSessions } from './state.ts';
import type { Machine } from './steps.ts';
import { watchStores } from './strain.ts';
import { openWatches, type Place } from './watch.ts';

/** How often everything is looked at without a reason. These are all milliseconds. */
const FULL_LOOK = 30_000;
/** At least between two looks, whatever happens: some things never come to rest. */
const PAUSE = 100;
/** How often what lies around in no session's name is looked for. */
const SWEEP = 600_000;
/** How long an end that somebody has begun (a hook, mayfly-end@.service) is left to them. */
const PATIENCE = 1_500;
/** How long a teardown may go on after we were told to stop; one cut short is recovered from. */
const LAST_WAIT = 20_000;

/** Runs until it is told to stop. Rejects with `locked` where another one runs. */
export async function serve(first: Machine, o: ServiceOptions): Promise<void> {
  const { host, paths, log } = first;
  makeDirectories(host, paths);
  const lock = await onlyOne(first);
  const bell = bellOf(host);
  const manager = managerOf(host, o.env, log);
  const ends = reaper(PATIENCE, changed => {
    if (changed) state.sweepDue = 0; // what was interrupted may have left something that is in no record
    bell.ring();
  });
  const state: State = {
    ...{ on: first, o, ends, ring: bell.ring, sightings: readSightings(host, paths), marks: [], trace: '' },
    configKey: '', // so that it is read now: the machine may have been opened with the last good one
    ...{ lookDue: 0, choresDue: 0, sweepDue: 0, sweeping: undefined, scarcity: 0 },
    ...{ litter: new Set(), unmended: new Set(), blind: false, stopping: false, stores: new Map() },
  };
  o.onSignal(what => {
    if (what === 'stop') state.stopping = true;
    else state.configKey = '';
    bell.ring();
  });
  const watches = openWatches(host, placesOf(paths, o), bell.ring, reason => {
    if (!state.blind) log('warning', `changes are not told (${reason}): looking every ${PULSE / 1000} s`);
    state.blind = true;
  });
  let status: string | undefined;
  let pingDue = manager.pingEvery === undefined ? Number.POSITIVE_INFINITY : 0;
  const ping = async (): Promise<void> => {
    if (host.now() < pingDue) return;
    pingDue = host.now() + (manager.pingEvery ?? 0);
    await manager.tell('WATCHDOG=1');
  };
  while (!state.stopping) {
    const key = cacheKey(host, o.file);
    if (key !== state.configKey) {
      state.configKey = key;
      state.choresDue = 0;
      if (status !== undefined) await manager.tell('RELOADING=1');
      state.on = await reload(state.on, o.file);
      if (status !== undefined) await manager.tell('READY=1');
    }
    await watches.refresh();
    await round(state);
    const words = statusOf(state);
    if (words !== status) await manager.tell(...(status === undefined ? ['READY=1'] : []), `STATUS=${words}`);
    if (status === undefined) log('info', `the service is ready: ${words}`);
    status = words;
    await ping();
    while (!state.stopping && host.now() < state.lookDue && isQuiet(state)) {
      const pulse = state.marks.length > 0 || state.blind ? PULSE : FULL_LOOK;
      if (await bell.rung(Math.min(state.lookDue - host.now(), pulse, pingDue - host.now()))) break;
      await ping();
    }
    await host.sleep(PAUSE);
  }
  await manager.tell('STOPPING=1', 'STATUS=finishing what was begun');
  await Promise.race([Promise.allSettled([ends.drain(), state.sweeping]), host.sleep(LAST_WAIT)]);
  await watches.close();
  lock.release();
  log('info', 'the service has stopped');
}

/** One look at everything, and what follows from it. Never rejects: the next one may find it mended. */
async function round(state: State): Promise<void> {
  const { host, log } = state.on;
  state.lookDue = host.now() + FULL_LOOK;
  try {
    look(state);
    if (host.now() >= state.choresDue) {
      state.choresDue = host.now() + FULL_LOOK;
      await chores(state);
    }
    if (host.now() >= state.sweepDue && !state.sweeping && !state.ends.busy()) {
      state.sweepDue = host.now() + SWEEP;
      state.sweeping = sweep(state).finally(() => {
        state.sweeping = undefined;
      });
    }
  } catch (error) {
    state.marks = []; // a dead one among them would have us look again at once
    log('err', `something could not be looked at: ${reasonOf(error)}`);
  }
}

/** What is done every half minute besides looking at sessions. */
async function chores(state: State): Promise<void> {
  await writeHealth(state.on);
  const { host, paths, config, log } = state.on;
  const pool = readPool(host, paths);
  const usage = pool && (await roomOf(state.on, pool));
  if (!pool || !usage) return;
  const { scarcity, level, words } = weigh(state.scarcity, usage, pool.path, limitsOf(config, pool.backend));
  state.scarcity = scarcity;
  if (level && words) log(level, words);
  await watchStores(state.on, pool, state.stores);
}

/** What lies around in no session's name, and sessions that `recover` knows more of than we do. */
async function sweep(state: State): Promise<void> {
  const { on } = state;
  try {
    if (!on.host.exists(on.paths.poolFile)) return; // there is nothing yet, or no more: `recover` would make directories
    const { swept, stuck } = await recover(on);
    if (swept.length > 0) on.log('notice', `removed what was left: ${swept.join(', ')}`);
    for (const what of stuck) if (!state.unmended.has(what)) on.log('warning', `stuck: ${what}`);
    state.unmended = new Set(stuck);
  } catch (error) {
    on.log('err', `recovery failed: ${reasonOf(error)}`);
  }
  state.ring();
}

/** For `systemctl status`. */
function statusOf({ on }: State): string {
  const { host, paths } = on;
  const sessions = readSessions(host, paths);
  const stuck = sessions.filter(s => s.stuck !== undefined).length;
  return `${sessions.length} session${sessions.length === 1 ? '' : 's'}${stuck > 0 ? `, ${stuck} stuck` : ''}`;
}

function placesOf(paths: Paths, o: ServiceOptions): Place[] {
  const directory = o.file.slice(0, o.file.lastIndexOf('/')) || '/';
  const name = o.file.slice(o.file.lastIndexOf('/') + 1);
  return [
    { directory: paths.sessions, matters: () => true },
    { directory, matters: n => n === name || n === 'conf.d' },
    { directory: `${directory}/conf.d`, matters: n => n.endsWith('.toml') },
    { directory: o.logind, matters: n => !n.includes('.') },
  ];
}

/** Held for as long as we live. */
async function onlyOne({ host, paths }: Machine): Promise<Lock> {
  try {
    return await takeLock(host, paths, 'service', 0);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'locked') throw error;
    throw new MayflyError('locked', 'another "mayfly service" is running', { lock: 'service' });
  }
}
