/**
 * The session monitor: ends sessions whose logout no hook reported, retries stuck ones, and watches the pool's space and
 * the configuration. Hooks and timers work without it; it only does sooner what they and `recover` would do.
 *
 * One loop scans the whole state and acts on it. Events and timers only cause an earlier scan, so a lost or duplicate
 * event changes nothing.
 */

import { limitsOf } from '../config/config.ts';
import { cacheKey } from '../config/load.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { isProven } from '../session/proof.ts';
import { endProbation, probation } from '../state/generations.ts';
import { type Lock, takeLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories, type Paths } from '../state/paths.ts';
import { readPool } from '../state/pool.ts';
import { readSessions } from '../state/sessions.ts';
import { writeHealth } from '../update/health.ts';
import { poolUsage } from '../update/pool-usage.ts';
import { agentKeeper } from './agent-process.ts';
import { discards } from './discards.ts';
import { hostChanges } from './host-changes.ts';
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

// All times are in milliseconds, on the monotonic clock.

/** The longest time between two scans. */
const SCAN_INTERVAL = 30_000;

/** The shortest time between two scans, because some directories change all the time. */
const MIN_SCAN_GAP = 100;

/** How often to look for leftovers without a session. */
const SWEEP_INTERVAL = 600_000;

/** How long to wait for a hook or mayfly-end@.service that has begun to end a session. */
const HANDOVER_WAIT = 1_500;

/** How long ending sessions may take after a request to stop; `recover` completes an interrupted one. */
const LAST_WAIT = 20_000;

/** Runs until a request to stop. Throws `locked` if another service is running. */
export async function serve(first: Machine, o: ServiceOptions): Promise<void> {
  const { host, paths, log } = first;
  makeDirectories(host, paths);
  const lock = await takeServiceLock(first);
  const wakeup = makeWakeup(host);
  const manager = serviceManager(host, o.env, log);
  const ends = reaper(HANDOVER_WAIT, changed => {
    if (changed) state.sweepDue = 0; // if ending was interrupted before, there may be leftovers that no record names
    wakeup.notify();
  });
  const state: ServiceState = {
    ...{
      on: first,
      o,
      reaper: ends,
      notify: wakeup.notify,
      bindings: readBindings(host, paths),
      watched: [],
      dirSnapshot: '',
    },
    configKey: '', // read the configuration at once: the machine may have been opened with the last valid one
    ...{ scanDue: 0, choresDue: 0, sweepDue: 0, sweeping: undefined, spaceLevel: 0 },
    ...{
      leftovers: new Set(),
      unresolved: new Set(),
      watchFailed: false,
      logindSilent: false,
      stopping: false,
      snapshotAlerts: new Map(),
      discards: discards(),
      hostChanges: hostChanges(),
    },
  };
  o.onSignal(what => {
    if (what === 'stop') state.stopping = true;
    else state.configKey = '';
    wakeup.notify();
  });
  const watches = openWatches(host, watchTargets(paths, o), wakeup.notify, reason => {
    if (!state.watchFailed)
      log('warning', `cannot watch for changes (${reason}); polling every ${POLL_INTERVAL / 1000} s`);
    state.watchFailed = true;
  });
  const agent = agentKeeper(o.program, o.file);
  let status: string | undefined;
  let pingDue = manager.pingEvery === undefined ? Number.POSITIVE_INFINITY : 0;
  const ping = async (): Promise<void> => {
    if (host.monotonic() < pingDue) return;
    pingDue = host.monotonic() + (manager.pingEvery ?? 0);
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
    agent.keep(state.on);
    await watches.refresh();
    await round(state);
    const text = statusOf(state);
    if (text !== status) await manager.tell(...(status === undefined ? ['READY=1'] : []), `STATUS=${text}`);
    if (status === undefined) log('info', `the service is ready: ${text}`);
    status = text;
    await ping();
    while (!state.stopping && host.monotonic() < state.scanDue && isQuiet(state)) {
      const mustLook = state.watched.length > 0 || state.watchFailed || state.hostChanges.hasSessions();
      const interval = mustLook ? POLL_INTERVAL : SCAN_INTERVAL;
      if (await wakeup.wait(Math.min(state.scanDue - host.monotonic(), interval, pingDue - host.monotonic())))
        break;
      await ping();
    }
    await host.sleep(MIN_SCAN_GAP);
  }
  agent.close();
  await manager.tell('STOPPING=1', 'STATUS=waiting for sessions that are ending');
  await Promise.race([Promise.allSettled([ends.drain(), state.sweeping]), host.sleep(LAST_WAIT)]);
  await watches.close();
  lock.release();
  log('info', 'the service has stopped');
}

/** One scan with everything that follows from it. Never rejects: the cause of an error may be gone at the next scan. */
async function round(state: ServiceState): Promise<void> {
  const { host, log } = state.on;
  state.scanDue = host.monotonic() + SCAN_INTERVAL;
  try {
    await scanSessions(state);
    if (host.monotonic() >= state.choresDue) {
      state.choresDue = host.monotonic() + SCAN_INTERVAL;
      await chores(state);
    }
    if (host.monotonic() >= state.sweepDue && !state.sweeping && !state.reaper.busy()) {
      state.sweepDue = host.monotonic() + SWEEP_INTERVAL;
      state.sweeping = sweep(state).finally(() => {
        state.sweeping = undefined;
      });
    }
  } catch (error) {
    state.watched = []; // a dead process among them would cause another scan at once
    log('err', `scan failed: ${reasonOf(error)}`);
  }
}

/** Done every half minute in addition to scanning sessions: the health file, discarded volumes, alerts about space. */
async function chores(state: ServiceState): Promise<void> {
  await endProvenProbation(state.on);
  await writeHealth(state.on);
  const { host, paths, config, log } = state.on;
  const pool = readPool(host, paths);
  if (pool) void state.discards.erase(state.on, pool);
  const usage = pool && (await poolUsage(state.on, pool));
  if (!pool || !usage) return;
  const {
    scarcity: newLevel,
    level,
    words,
  } = spaceAlert(state.spaceLevel, usage, pool.path, limitsOf(config, pool.backend));
  state.spaceLevel = newLevel;
  if (level && words) log(level, words);
  await alertSnapshots(state.on, pool, state.snapshotAlerts);
}

/** A generation is proven as soon as a session of it has lasted, not only when that ends. */
async function endProvenProbation(on: Machine): Promise<void> {
  const p = probation(on.host, on.paths);
  if (p && isProven(on, p.number)) endProbation(on.host, on.paths);
}

/** Removes leftovers without a session, and ends sessions that only `recover` can recognize as over. */
async function sweep(state: ServiceState): Promise<void> {
  const { on } = state;
  try {
    if (!on.host.exists(on.paths.poolFile)) return; // before init and after destroy, `recover` would only create directories
    const { swept, stuck } = await recover(on, false); // {@link chores} erases
    if (swept.length > 0) on.log('notice', `removed leftovers: ${swept.join(', ')}`);
    for (const what of stuck) if (!state.unresolved.has(what)) on.log('warning', `stuck: ${what}`);
    state.unresolved = new Set(stuck);
  } catch (error) {
    on.log('err', `recovery failed: ${reasonOf(error)}`);
  }
  state.notify();
}

/** The status line for `systemctl status`. */
function statusOf({ on }: ServiceState): string {
  const { host, paths } = on;
  const sessions = readSessions(host, paths);
  const stuck = sessions.filter(s => s.stuck !== undefined).length;
  return `${sessions.length} session${sessions.length === 1 ? '' : 's'}${stuck > 0 ? `, ${stuck} stuck` : ''}`;
}

/** The directories in which a change is a reason to scan. */
export function watchTargets(paths: Paths, o: Pick<ServiceOptions, 'file' | 'logind'>): WatchTarget[] {
  const directory = o.file.slice(0, o.file.lastIndexOf('/')) || '/';
  const name = o.file.slice(o.file.lastIndexOf('/') + 1);
  return [
    { directory: paths.sessions, matters: () => true },
    { directory: paths.oldSessions, matters: () => true },
    { directory, matters: n => n === name || n === 'conf.d' },
    { directory: `${directory}/conf.d`, matters: n => n.endsWith('.toml') },
    { directory: o.logind.directory, matters: n => !n.includes('.') },
  ];
}

/** Takes the lock of the service, which it holds until it exits. Throws `locked`. */
async function takeServiceLock({ host, paths }: Machine): Promise<Lock> {
  try {
    return await takeLock(host, paths, 'service', 0);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'locked') throw error;
    throw new MayflyError('locked', 'another "mayfly service" is running', { lock: 'service' });
  }
}
