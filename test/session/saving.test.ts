/** Programs that work on ending have time, and nobody waits for them who need not. */
import { describe, expect, it } from 'vitest';
import type { Host } from '../../src/linux/host.ts';
import { type Fields, logTo } from '../../src/linux/log.ts';
import { reaper } from '../../src/service/reaper.ts';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSession, readSessions, type Session } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

interface Desk {
  readonly w: World;
  readonly on: Machine;
  readonly s: Session;
  /** The program that works on ending. */
  readonly saver: number;
  readonly signals: string[];
  readonly said: [string, Fields][];
}

/** Alice is logged in, and has a program that has saved so many milliseconds after it was told to end. */
async function deskWith(takes: number): Promise<Desk> {
  const w = preparedWorld();
  const signals: string[] = [];
  const said: [string, Fields][] = [];
  let done = Number.POSITIVE_INFINITY;
  const saved = (): void => {
    if (w.host.monotonic() >= done) w.processes.delete(saver);
  };
  const host: Host = {
    ...w.host,
    pid: w.pid,
    kill: (pid, signal) => {
      signals.push(`${signal} ${pid}`);
      if (pid === saver && signal === 'SIGTERM') done = w.host.monotonic() + takes;
      return w.host.kill(pid, signal);
    },
    sleep: async ms => {
      await w.host.sleep(ms);
      saved();
    },
  };
  const log = logTo((level, words, fields) => void (level === 'warning' && said.push([words, fields])));
  const on: Machine = { ...w.machine(), host, log };
  const s = await login(on, callOf(w, 'alice', ':0'));
  if (!s) throw new Error('out of scope');
  const saver = w.enter(s.root, false, true);
  return { w, on, s, saver, signals, said };
}

const left = ({ w, on }: Desk): string[] => readSessions(w.host, on.paths).map(s => s.id);

describe('a program that works on ending', () => {
  it.each([
    ['is waited for', 3000, 3000, 3400, []],
    ['is killed when its time is over, and that is told', 60_000, 10_000, 10_500, ['SIGKILL']],
  ])('%s', async (_, takes, atLeast, atMost, killed) => {
    const desk = await deskWith(takes);
    const began = desk.w.host.monotonic();
    await end(desk.on, desk.s.id);
    const took = desk.w.host.monotonic() - began;
    expect(took).toBeGreaterThanOrEqual(atLeast);
    expect(took).toBeLessThanOrEqual(atMost);
    expect(left(desk)).toEqual([]);
    const { saver } = desk;
    expect(desk.signals).toEqual([`SIGTERM ${saver}`, ...killed.map(signal => `${signal} ${saver}`)]); // told once
    expect(desk.said).toEqual(
      killed.map(() => [
        `${desk.s.id} of alice: killed while still at work on ending: process ${saver} xterm`,
        expect.objectContaining({ session: desk.s.id, user: 'alice', killed: `process ${saver} xterm` }),
      ]),
    );
  });

  it('is waited for by recover, too', async () => {
    const desk = await deskWith(3000);
    await logout(desk.on, callOf(desk.w, 'alice', ':0'), async () => undefined);
    expect(await recover(desk.on)).toEqual({ ended: [desk.s.id], swept: [], stuck: [] });
    expect(left(desk)).toEqual([]);
    expect(desk.signals).toEqual([`SIGTERM ${desk.saver}`]);
  });

  it('does not keep a boot waiting, and nothing is stuck', async () => {
    const desk = await deskWith(3000);
    await logout(desk.on, callOf(desk.w, 'alice', ':0'), async () => undefined);
    expect(await recover(desk.on, false)).toEqual({ ended: [], swept: [], stuck: [] });
    expect(left(desk)).toEqual([desk.s.id]);
    expect(readSession(desk.w.host, desk.on.paths, desk.s.id)).toMatchObject({
      state: 'ending',
      saving: { processes: [{ pid: desk.saver }], who: `process ${desk.saver} xterm` },
    });
    expect(readSession(desk.w.host, desk.on.paths, desk.s.id)?.stuck).toBeUndefined();
  });

  it('does not keep the next login of the user waiting, which gets another session', async () => {
    const desk = await deskWith(3000);
    await logout(desk.on, callOf(desk.w, 'alice', ':0'), async () => undefined);
    const began = desk.w.host.monotonic();
    const handed: string[] = [];
    const finish = async (s: Session): Promise<void> => void handed.push(s.id);
    for (const display of [':0', ':1']) {
      const next = await login(desk.on, callOf(desk.w, 'alice', display), finish);
      expect(next?.id).not.toBe(desk.s.id);
    }
    expect(handed).toEqual([desk.s.id, desk.s.id]);
    expect(desk.w.host.monotonic() - began).toBeLessThan(500);
    expect(left(desk)).toHaveLength(2);
    expect(desk.w.processes.has(desk.saver)).toBe(true);
    await end(desk.on, desk.s.id);
    expect(left(desk)).toHaveLength(1);
    expect(desk.signals).toEqual([`SIGTERM ${desk.saver}`]);
  });

  it('is left to whoever waits for it, by the service, until its time is over', async () => {
    const desk = await deskWith(60_000);
    const { w, on, s } = desk;
    await logout(on, callOf(w, 'alice', ':0'), async () => undefined);
    const ending = (): Session => readSession(w.host, on.paths, s.id) ?? s;
    await expect(stop(on, ending())).rejects.toMatchObject({ code: 'saving' });
    const ends = reaper(1500, () => undefined);
    const over = async () => ({ because: 'it ends', left: [] });
    const until = ending().saving?.until ?? 0;
    ends.take(on, [ending()], over);
    expect(ends.next()).toBe(until + 1500);
    await w.host.sleep(until + 1500 - w.host.monotonic());
    ends.take(on, [ending()], over);
    await ends.drain();
    expect(left(desk)).toEqual([]);
    expect(desk.signals).toEqual([`SIGTERM ${desk.saver}`, `SIGKILL ${desk.saver}`]);
  });

  it('is waited for by the service where nobody else does', async () => {
    const desk = await deskWith(3000);
    const { w, on } = desk;
    await logout(on, callOf(w, 'alice', ':0'), async () => undefined);
    const ends = reaper(1500, () => undefined);
    const over = async () => ({ because: 'it ends', left: [] });
    for (let round = 0; left(desk).length > 0 && round < 10; round++) {
      ends.take(on, readSessions(w.host, on.paths), over);
      await ends.drain();
      await on.host.sleep(1500);
    }
    expect(left(desk)).toEqual([]);
    expect(desk.signals).toEqual([`SIGTERM ${desk.saver}`]);
    expect(desk.said).toEqual([]);
  });
});

describe('without room for what a session waits for', () => {
  /** No record can be written. */
  async function fullDesk(takes: number): Promise<Desk> {
    const desk = await deskWith(takes);
    const { on } = desk;
    const host: Host = {
      ...on.host,
      write(path, text, o) {
        if (path.startsWith('/run/')) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
        on.host.write(path, text, o);
      },
    };
    return { ...desk, on: { ...on, host } };
  }

  it.each([
    ['a program has its time', 3000, []],
    ['a program is killed when its time is over', 60_000, ['SIGKILL']],
  ])('%s', async (_, takes, killed) => {
    const desk = await fullDesk(takes);
    const { w, on, s, saver } = desk;
    const began = w.host.monotonic();
    await expect(stop(on, s)).rejects.toMatchObject({ code: 'saving' });
    expect(w.processes.has(saver)).toBe(true);
    expect(readSession(w.host, on.paths, s.id)).toMatchObject({ state: 'ending' });
    await end(on, s.id);
    expect(w.host.monotonic() - began).toBeGreaterThanOrEqual(Math.min(takes, 10_000));
    expect(left(desk)).toEqual([]);
    expect(desk.signals.slice(2)).toEqual(killed.map(signal => `${signal} ${saver}`));
  });

  it('the service remembers until when it waits', async () => {
    const desk = await fullDesk(60_000);
    const { w, on, s, saver } = desk;
    const ends = reaper(1500, () => undefined);
    const began = w.host.monotonic();
    for (let round = 0; left(desk).length > 0 && round < 20; round++) {
      ends.take(on, [readSession(w.host, on.paths, s.id) ?? s], async () => ({
        because: 'it ends',
        left: [],
      }));
      await ends.drain();
      await w.host.sleep(1500);
    }
    expect(left(desk)).toEqual([]);
    expect(desk.signals).toEqual([`SIGTERM ${saver}`, `SIGKILL ${saver}`]);
    expect(w.host.monotonic() - began).toBeGreaterThanOrEqual(10_000);
  });
});
