/** A login to a full pool waits while the volumes of ended sessions are being erased, but not for ever. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { login } from '../../src/session/session.ts';
import { noRoom } from '../../src/session/space-being-freed.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

/** A full pool with a volume that is being erased. */
function fullWorld(): World {
  const w = preparedWorld();
  const fs = w.volumes.values().next().value;
  if (fs) w.discarded.set('/var/lib/mayfly/pool/session/u1002-0000000a.1', fs);
  const [full, empty] = [2 ** 40, 0].map(used => ({
    ...{ total: 2 ** 40, used, free: 2 ** 40 - used, inodes: 0, freeInodes: 0, type: 0 },
  }));
  w.space = () => (w.discarded.size > 0 ? full : empty) ?? w.host.space('/');
  return w;
}

describe('a login to a full pool', () => {
  it('waits for what is being erased', async () => {
    const w = fullWorld();
    const on = w.machine();
    let sleeps = 0;
    const sleep = async (ms: number): Promise<void> => {
      sleeps += 1;
      if (sleeps === 3) w.discarded.clear();
      await w.host.sleep(ms);
    };
    const s = await login({ ...on, host: { ...on.host, sleep } }, callOf(w, 'alice', ':0'));
    expect([s?.state, sleeps]).toEqual(['live', 3]);
  });

  it('is refused, with what is being erased, when its time is over', async () => {
    const w = fullWorld();
    const began = w.host.monotonic();
    await expect(login(w.machine(), callOf(w, 'alice', ':0'))).rejects.toMatchObject({
      code: 'full',
      message: expect.stringMatching(
        /is 100 % full; .*; being freed: 1 volume of ended sessions being erased$/,
      ),
    });
    expect(w.host.monotonic() - began).toBeLessThan(15_000);
    expect(readSessions(w.host, w.machine().paths)).toEqual([]);
  });

  it('is refused at once if nothing is', async () => {
    const w = fullWorld();
    w.discarded.clear();
    w.space = () => ({ total: 1, used: 1, free: 0, inodes: 0, freeInodes: 0, type: 0 });
    const began = w.host.monotonic();
    await expect(login(w.machine(), callOf(w, 'alice', ':0'))).rejects.toMatchObject({ code: 'full' });
    expect(w.host.monotonic()).toBe(began);
  });
});

describe('a login without room for its records', () => {
  const free = { total: 2 ** 30, used: 0, free: 2 ** 30, inodes: 1000, freeInodes: 900, type: 0 };
  const none = { ...free, free: 4096 };
  const noInodes = { ...free, freeInodes: 0 };
  it.each([
    ['in /run', none, free, 'there is no space left in "/run/mayfly"'],
    ['in the state', free, none, 'there is no space left in "/var/lib/mayfly"'],
    ['of which /run has no inodes', noInodes, free, 'there are no inodes left in "/run/mayfly"'],
    ['for a quota, which only the error tells', { ...free, inodes: 0, freeInodes: 0 }, free, 'EDQUOT: quota'],
  ])('%s is refused with that', (_what, run, state, words) => {
    const w = preparedWorld();
    w.space = path => (path.startsWith('/run') ? run : state);
    const error = noRoom(w.machine(), new Error('EDQUOT: quota'));
    expect(error).toBeInstanceOf(MayflyError);
    expect([error.code, error.message, error.facts.hint]).toEqual(['full', words, 'df -h; df -i']);
  });
});
