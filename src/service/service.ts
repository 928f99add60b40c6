/**
 * The resident service: ends the sessions whose login died without a hook, tries the stuck ones again, watches the
 * pool's space and the configuration. Hooks and timers do without it; it only makes sooner what they and `recover`
 * would do.
 *
 * One loop looks at everything there is and acts on that. Events and timers only make it look sooner, so an event
 * that is lost or doubled changes nothing.
 */
import { limitsOf } from '../config/config.ts';
import { cacheKey } from '../config/load.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { type Lock, takeLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories, type Paths } from '../state/paths.ts';
import { readPool } from '../state/pool.ts';
import { readSessions } from '../state/sessions.ts';
import { writeHealth } from '../update/health.ts';
import { poolUsage } from '../update/pool-usage.ts';
import { readBindings } from './liveness.ts';
import { reaper } from './reaper.ts';
import { recover } from './recover.ts';
import { reload } from './reload.ts';
import { isQuiet, POLL_INTERVAL, type ServiceOptions, type ServiceState, scanSessions } from './scan.ts';
import { serviceManager } from './sd-notify.ts';
import { alertSnapshots } from './snapshot-alerts.ts';
import { spaceAlert } from './space-alerts.ts';
import { makeWakeup } from './wakeup.ts';
import { openWatches, type WatchTarget } from './watch.ts';

/** How often everything is looked at without a reason. These are all milliseconds. */
const SCAN_INTERVAL = 30_000;

/** At least between two looks, whatever happens: some things never come to rest. */
const MIN_SCAN_GAP = 100;

/** How often what lies around in no session's name is looked for. */
const SWEEP_INTERVAL = 600_000;

/** How long an end that somebody has begun (a hook, mayfly-end@.service) is left to them. */
const HANDOVER_WAIT = 1_500;

/** How long a teardown may go on after we were told to stop; one cut short is recovered from. */
const LAST_WAIT = 20_000;

/** Runs until it is told to stop. Rejects with `locked` where another one runs. */
export async function serve(first: Machine, o: ServiceOptions): Promise<void> {
  const { host, paths, log } = first;
  makeDirectories(host, paths);
  const lock = await takeServiceLock(first);
  const bell = makeWakeup(host);
  const manager = serviceManager(host, o.env, log);
  const ends = reaper(HANDOVER_WAIT, changed => {
    if (changed) state.sweepDue = 0; // what was interrupted may have left something that is in no record
    bell.notify();
  });
  const state: ServiceState = {
    ...{
      on: first,
      o,
      reaper: ends,
      notify: bell.notify,
      bindings: readBindings(host, paths),
      watched: [],
      dirSnapshot: '',
    },
    configKey: '', // so that it is read now: the machine may have been opened with the last good one
    ...{ scanDue: 0, choresDue: 0, sweepDue: 0, sweeping: undefined, spaceLevel: 0 },
    ...{
      leftovers: new Set(),
      unresolved: new Set(),
      watchFailed: false,
      logindSilent: false,
      stopping: false,
      snapshotAlerts: new Map(),
    },
  };
  o.onSignal(what => {
    if (what === 'stop') state.stopping = true;
    else state.configKey = '';
    bell.notify();
  });
  const watches = openWatches(host, watchTargets(paths, o), bell.notify, reason => {
    if (!state.watchFailed)
      log('warning', `changes are not told (${reason}): looking every ${POLL_INTERVAL / 1000} s`);
    state.watchFailed = true;
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
    while (!state.stopping && host.now() < state.scanDue && isQuiet(state)) {
      const pulse = state.watched.length > 0 || state.watchFailed ? POLL_INTERVAL : SCAN_INTERVAL;
      if (await bell.wait(Math.min(state.scanDue - host.now(), pulse, pingDue - host.now()))) break;
      await ping();
    }
    await host.sleep(MIN_SCAN_GAP);
  }
  await manager.tell('STOPPING=1', 'STATUS=finishing what was begun');
  await Promise.race([Promise.allSettled([ends.drain(), state.sweeping]), host.sleep(LAST_WAIT)]);
  await watches.close();
  lock.release();
  log('info', 'the service has stopped');
}

/** One look at everything, and what follows from it. Never rejects: the next one may find it mended. */
async function round(state: ServiceState): Promise<void> {
  const { host, log } = state.on;
  state.scanDue = host.now() + SCAN_INTERVAL;
  try {
    await scanSessions(state);
    if (host.now() >= state.choresDue) {
      state.choresDue = host.now() + SCAN_INTERVAL;
      await chores(state);
    }
    if (host.now() >= state.sweepDue && !state.sweeping && !state.reaper.busy()) {
      state.sweepDue = host.now() + SWEEP_INTERVAL;
      state.sweeping = sweep(state).finally(() => {
        state.sweeping = undefined;
      });
    }
  } catch (error) {
    state.watched = []; // a dead one among them would have us look again at once
    log('err', `something could not be looked at: ${reasonOf(error)}`);
  }
}

/** What is done every half minute besides looking at sessions. */
async function chores(state: ServiceState): Promise<void> {
  await writeHealth(state.on);
  const { host, paths, config, log } = state.on;
  const pool = readPool(host, paths);
  const usage = pool && (await poolUsage(state.on, pool));
  if (!pool || !usage) return;
  const { scarcity, level, words } = spaceAlert(
    state.spaceLevel,
    usage,
    pool.path,
    limitsOf(config, pool.backend),
  );
  state.spaceLevel = scarcity;
  if (level && words) log(level, words);
  await alertSnapshots(state.on, pool, state.snapshotAlerts);
}

/** What lies around in no session's name, and sessions that `recover` knows more of than we do. */
async function sweep(state: ServiceState): Promise<void> {
  const { on } = state;
  try {
    if (!on.host.exists(on.paths.poolFile)) return; // there is nothing yet, or no more: `recover` would make directories
    const { swept, stuck } = await recover(on);
    if (swept.length > 0) on.log('notice', `removed what was left: ${swept.join(', ')}`);
    for (const what of stuck) if (!state.unresolved.has(what)) on.log('warning', `stuck: ${what}`);
    state.unresolved = new Set(stuck);
  } catch (error) {
    on.log('err', `recovery failed: ${reasonOf(error)}`);
  }
  state.notify();
}

/** For `systemctl status`. */
function statusOf({ on }: ServiceState): string {
  const { host, paths } = on;
  const sessions = readSessions(host, paths);
  const stuck = sessions.filter(s => s.stuck !== undefined).length;
  return `${sessions.length} session${sessions.length === 1 ? '' : 's'}${stuck > 0 ? `, ${stuck} stuck` : ''}`;
}

function watchTargets(paths: Paths, o: ServiceOptions): WatchTarget[] {
  const directory = o.file.slice(0, o.file.lastIndexOf('/')) || '/';
  const name = o.file.slice(o.file.lastIndexOf('/') + 1);
  return [
    { directory: paths.sessions, matters: () => true },
    { directory, matters: n => n === name || n === 'conf.d' },
    { directory: `${directory}/conf.d`, matters: n => n.endsWith('.toml') },
    { directory: o.logind.directory, matters: n => !n.includes('.') },
  ];
}

/** Held for as long as we live. */
async function takeServiceLock({ host, paths }: Machine): Promise<Lock> {
  try {
    return await takeLock(host, paths, 'service', 0);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'locked') throw error;
    throw new MayflyError('locked', 'another "mayfly service" is running', { lock: 'service' });
  }
}
