/** A look of the service at the records and at logind. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { logTo } from '../../src/linux/log.ts';
import type { LogindSession } from '../../src/linux/logind.ts';
import { discards } from '../../src/service/discards.ts';
import { hostChanges } from '../../src/service/host-changes.ts';
import { isQuiet, POLL_INTERVAL, type ServiceState, scanSessions } from '../../src/service/scan.ts';
import { watchTargets } from '../../src/service/service.ts';
import { login } from '../../src/session/session.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

interface Ears {
  readonly answer: () => Promise<readonly LogindSession[]>;
  readonly said: string[];
  readonly taken: number[];
}

/** The state of a service that has just begun. */
function stateOf(w: World, { answer, said, taken }: Ears): ServiceState {
  return {
    on: { ...w.machine(), log: logTo((level, words) => void (level !== 'debug' && said.push(words))) },
    o: {
      ...{ file: '/etc/mayfly/mayfly.toml', program: '', env: {}, onSignal: () => undefined },
      logind: { directory: '/run/systemd/sessions', sessions: answer },
    },
    reaper: {
      take: (_on, over) => void taken.push(over.length),
      next: () => undefined,
      busy: () => false,
      drain: async () => undefined,
    },
    ...{ notify: () => undefined, bindings: {}, watched: [], dirSnapshot: '', scanDue: 0, configKey: '' },
    ...{ choresDue: 0, spaceLevel: 0, snapshotAlerts: new Map(), sweepDue: 600_000, sweeping: undefined },
    discards: discards(),
    hostChanges: hostChanges(),
    ...{ leftovers: new Set(), unresolved: new Set(), watchFailed: false, logindSilent: false },
    stopping: false,
  };
}

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
  const state = stateOf(w, { answer: () => answer(), said, taken });
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

describe.each(['sessions', 'oldSessions'] as const)('the directory %s', where => {
  const nothing: Ears = { answer: async () => [], said: [], taken: [] };

  it('is watched, and a change in it whose event was lost causes a scan', async () => {
    const w = preparedWorld();
    const { paths } = w.machine();
    w.makeDirs(paths[where]);
    const state = stateOf(w, nothing);
    expect(watchTargets(paths, state.o).map(t => t.directory)).toContain(paths[where]);
    await scanSessions(state);
    expect(isQuiet(state)).toBe(true);
    const { stat } = w.host;
    const host = {
      ...w.host,
      stat: (path: string) => {
        const at = stat(path);
        return at && path === paths[where] ? { ...at, mtimeMs: at.mtimeMs + 1 } : at;
      },
    };
    state.on = { ...state.on, host };
    expect(isQuiet(state)).toBe(false);
  });

  it('has a record that is incomplete: recover looks at it at once', async () => {
    const w = preparedWorld();
    const { paths } = w.machine();
    w.makeDirs(paths[where]);
    w.put(`${paths[where]}/u1001-0000000a.json`, '{"id":');
    const state = stateOf(w, nothing);
    await scanSessions(state);
    expect([state.sweepDue, [...state.leftovers]]).toEqual([0, ['u1001-0000000a.json']]);
  });
});
