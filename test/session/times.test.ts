/** The durations of the steps of logins, logouts and updates in the log. */

import { describe, expect, it } from 'vitest';
import { dryRunLog } from '../../src/linux/dry-run.ts';
import { type Fields, logTo } from '../../src/linux/log.ts';
import { stopwatch } from '../../src/linux/stopwatch.ts';
import { end } from '../../src/session/end.ts';
import type { HookCall } from '../../src/session/hook-call.ts';
import { startRunSession } from '../../src/session/run-session.ts';
import { login } from '../../src/session/session.ts';
import { steps } from '../../src/session/steps.ts';
import type { Machine } from '../../src/state/machine.ts';
import { update } from '../../src/update/update.ts';
import { masterOf } from '../../src/volume/backend.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

/** A machine that records what is logged, and on which each command takes a second. */
function slow(w: World): {
  on: Machine;
  said: [string, string, Fields][];
  call: (display: string) => HookCall;
} {
  const said: [string, string, Fields][] = [];
  const on = w.machine();
  const log = logTo((...entry) => entry[0] !== 'debug' && said.push(entry));
  const host = {
    ...on.host,
    run: async (c: Parameters<typeof on.host.run>[0]) => {
      await on.host.sleep(1000);
      return on.host.run(c);
    },
  };
  return { on: { ...on, log, host }, said, call: display => callOf(w, 'alice', display) };
}

const laps = (words: string): Record<string, number> =>
  Object.fromEntries(
    [...words.matchAll(/(?<=[(\s])(\w+) (\d+)(?=[,)])/g)].map(([, step = '', ms]) => [step, Number(ms)]),
  );
const total = (words: string): number => Number(/(?:in|after) (\d+) ms/.exec(words)?.[1]);
const sum = (all: Record<string, number>): number => Object.values(all).reduce((a, b) => a + b, 0);
const names = steps.map(s => s.name);

describe('the log', () => {
  it('has one line per login with the duration of each step and of what precedes them', async () => {
    const { on, said, call } = slow(preparedWorld());
    const s = await login(on, call(':0'));
    expect(said).toEqual([['info', expect.any(String), { session: s?.id, user: 'alice', step: 'login' }]]);
    const words = said[0]?.[1] ?? '';
    expect(words).toMatch(/^u1001-\w+: alice logged in to generation 1 in \d+ ms \(/);
    expect(Object.keys(laps(words))).toEqual(['user', 'lock', 'join', ...names]);
    expect(laps(words)).toMatchObject({ lock: 1000, mounts: 3000, home: 0 }); // a command, and three
    expect(sum(laps(words))).toBe(total(words));
  });

  it('has the duration of a login that joins a session', async () => {
    const { on, said, call } = slow(preparedWorld());
    await login(on, call(':0'));
    await login(on, call(':1'));
    expect(said[1]?.[1]).toMatch(/: alice joined the session in \d+ ms \(user \d+, lock \d+, join \d+\)$/);
  });

  it('names the step in which a login failed, and its duration', async () => {
    const w = preparedWorld();
    w.failing.add('perl');
    const { on, said, call } = slow(w);
    await expect(login(on, call(':0'))).rejects.toThrow();
    expect(said[0]).toMatchObject([
      'info',
      expect.stringMatching(
        /: login of alice failed in "mounts" after \d+ ms \(.*volume \d+, mounts 3000\)$/,
      ),
      { user: 'alice', step: 'mounts' },
    ]);
  });

  it('has one line per logout with the duration of each step, in the order of the teardown', async () => {
    const { on, said, call } = slow(preparedWorld());
    const s = await login(on, call(':0'));
    await end(on, s?.id ?? '');
    expect(said[1]).toEqual([
      'info',
      expect.stringMatching(/: session of alice ended in \d+ ms \(/),
      { session: s?.id, user: 'alice', step: 'logout' },
    ]);
    expect(Object.keys(laps(said[1]?.[1] ?? ''))).toEqual([...names].reverse());
  });

  it('has no durations of a run session at level info', async () => {
    const { on, said, call } = slow(preparedWorld());
    const caller = { adapter: 'run' as const, caller: call(':0').caller, since: 0 };
    await end(on, (await startRunSession(on, 'alice', caller)).id);
    expect(said).toEqual([]);
  });

  it('has no durations of a dry run', async () => {
    const { on, said, call } = slow(preparedWorld());
    await login({ ...on, log: dryRunLog(on.log) }, call(':0'));
    expect(said).toEqual([]);
  });

  it('has one line per phase of an update with its duration, also for the phase that fails', async () => {
    const w = preparedWorld();
    const pool = { backend: 'overlay' as const, path: '/var/lib/mayfly/pool' };
    await w.backend().fork({ ...masterOf(pool), role: 'generation', name: '1' }, masterOf(pool));
    const { on } = slow(w);
    const said: [string, Fields | undefined][] = [];
    const say = (line: string, detail?: boolean, fields?: Fields) => {
      if (!detail) said.push([line, fields]);
    };
    const change = async () => {
      await on.host.sleep(2500);
      throw new Error('no');
    };
    await expect(update(on, { what: 'an update', origin: 'x', say, change })).rejects.toThrow(/"refresh"/);
    expect(said).toEqual([
      [expect.stringMatching(/^prepare took \d+ ms$/), { step: 'prepare' }],
      [expect.stringMatching(/^fork took \d+ ms$/), { step: 'fork' }],
      [expect.stringMatching(/^refresh failed after [23]\d\d\d ms$/), { step: 'refresh' }],
    ]);
  });

  it('has durations in whole milliseconds by a monotonic clock', () => {
    let now = 5;
    const watch = stopwatch({ monotonic: () => now });
    expect(watch.enter('a')).toBeUndefined();
    now += 1.4;
    expect(watch.enter('b')).toEqual({ step: 'a', took: 1 });
    now += 10;
    expect([watch.step, watch.words()]).toEqual(['b', '11 ms (a 1)']);
    expect(watch.enter()).toEqual({ step: 'b', took: 10 });
    expect([watch.step, watch.words()]).toEqual([undefined, '11 ms (a 1, b 10)']);
  });
});

it('everything that a step logs has the session, the user and the step as fields', async () => {
  const w = preparedWorld();
  const said: [string, Fields][] = [];
  const on = { ...w.machine(), log: logTo((_, message, fields) => said.push([message, fields])) };
  const s = await login(on, callOf(w, 'alice', ':0'));
  for (const name of names)
    expect(said).toContainEqual([`${s?.id}: ${name}`, { session: s?.id, user: 'alice', step: name }]);
});
