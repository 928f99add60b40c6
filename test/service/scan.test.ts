/** A look of the service at logind that does not answer. */
import { expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { logTo } from '../../src/linux/log.ts';
import type { LogindSession } from '../../src/linux/logind.ts';
import { discards } from '../../src/service/discards.ts';
import { hostChanges } from '../../src/service/host-changes.ts';
import { POLL_INTERVAL, type ServiceState, scanSessions } from '../../src/service/scan.ts';
import { login } from '../../src/session/session.ts';
import { callOf, preparedWorld } from '../world.ts';

it('logind that does not answer ends nothing, is told of once and asked again soon', async () => {
  const w = preparedWorld();
  w.processes.set(61, { start: '61', dev: w.rootDev, comm: 'lightdm', ignoresTerm: false, cgroup: '' });
  await login(w.machine(), callOf(w, 'alice', ':0'));
  const shown: LogindSession = {
    ...{ id: 'c1', uid: 1001, state: 'active', class: 'user', service: 'lightdm', display: ':0' },
    ...{ leader: 61, began: w.host.monotonic() + 1000 },
  };
  let answer: () => Promise<readonly LogindSession[]> = async () => [shown];
  const said: string[] = [];
  const taken: number[] = [];
  const state: ServiceState = {
    on: { ...w.machine(), log: logTo((level, words) => void (level !== 'debug' && said.push(words))) },
    o: {
      ...{ file: '/etc/mayfly/mayfly.toml', program: '', env: {}, onSignal: () => undefined },
      logind: { directory: '/run/systemd/sessions', sessions: () => answer() },
    },
    reaper: {
      take: (_on, over) => void taken.push(over.length),
      next: () => undefined,
      busy: () => false,
      drain: async () => undefined,
    },
    ...{ notify: () => undefined, bindings: {}, watched: [], dirSnapshot: '', scanDue: 0, configKey: '' },
    ...{ choresDue: 0, spaceLevel: 0, snapshotAlerts: new Map(), sweepDue: 0, sweeping: undefined },
    discards: discards(),
    hostChanges: hostChanges(),
    ...{ leftovers: new Set(), unresolved: new Set(), watchFailed: false, logindSilent: false },
    stopping: false,
  };
  const scan = async (): Promise<number> => {
    state.scanDue = w.host.monotonic() + 30_000;
    await scanSessions(state);
    return taken.at(-1) ?? -1;
  };
  expect(await scan()).toBe(0);
  expect(Object.values(state.bindings)).toHaveLength(1);
  w.processes.delete(61);
  answer = () => Promise.reject(new MayflyError('command', 'no answer'));
  for (const _ of [1, 2, 3]) {
    expect(await scan()).toBe(0);
    expect(state.scanDue).toBe(w.host.monotonic() + POLL_INTERVAL);
    await w.host.sleep(POLL_INTERVAL);
  }
  expect(said).toEqual(['logind does not answer: no answer']);
  answer = async () => [];
  expect(await scan()).toBe(0); // the hook of the logout may be at work
  await w.host.sleep(POLL_INTERVAL);
  expect(await scan()).toBe(1);
});
