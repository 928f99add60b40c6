/** The decisions of the service: which sessions are over, when to retry, and alerts for space and configuration. */
import { describe, expect, it } from 'vitest';
import { endIfThere } from '../../src/cli/end.ts';
import { type Config, limitsOf } from '../../src/config/config.ts';
import { logTo, noLog } from '../../src/linux/log.ts';
import { type LogindSession, shownSessions } from '../../src/linux/logind.ts';
import { identify } from '../../src/linux/process-id.ts';
import {
  bindLogins,
  END_GRACE,
  findEnded,
  type LoginBindings,
  readBindings,
  watchedProcesses,
  writeBindings,
} from '../../src/service/liveness.ts';
import { pauseAfter, reap, reaper } from '../../src/service/reaper.ts';
import { changedOptions, reload } from '../../src/service/reload.ts';
import { serviceManager } from '../../src/service/sd-notify.ts';
import { type SpaceLevel, spaceAlert } from '../../src/service/space-alerts.ts';
import { planWatches } from '../../src/service/watch.ts';
import { login, logout } from '../../src/session/session.ts';
import type { Machine } from '../../src/state/machine.ts';
import { deleteSession, readSessions, type Session, writeSession } from '../../src/state/sessions.ts';
import { preparedWorld, type World } from '../world.ts';

const DAEMON = 50; // lightdm in every world
const WORKER = 60; // a worker of gdm
const LEADER = 61;
const OTHER_LEADER = 62;

const PLAIN = { comm: 'lightdm', ignoresTerm: true, cgroup: '' };

function process(w: World, pid: number): void {
  w.processes.set(pid, { ...PLAIN, start: String(pid), dev: w.rootDev });
}

/** A process that lightdm started for a login before it ran the hook. */
const CHILD = 70;

function child(w: World, start: number, comm = 'lightdm'): void {
  w.processes.set(CHILD, { ...PLAIN, start: String(start), dev: w.rootDev, comm, parent: DAEMON });
}

function worldWithLeaders(): World {
  const w = preparedWorld();
  for (const pid of [LEADER, OTHER_LEADER]) process(w, pid);
  return w;
}

async function arrive(
  w: World,
  adapter: 'lightdm' | 'gdm' | 'pam',
  display?: string,
  pid = DAEMON,
): Promise<Session> {
  const caller = identify(w.host, pid);
  if (!caller) throw new Error('no display manager');
  const s = await login(w.machine(), { adapter, user: 'alice', caller, ...(display ? { display } : {}) });
  if (!s) throw new Error('out of scope');
  return s;
}

const shows = (o: Partial<LogindSession> = {}): LogindSession => ({
  id: 'c1',
  uid: 1001,
  state: 'active',
  class: 'user',
  service: 'lightdm',
  display: ':0',
  leader: LEADER,
  began: 3_601_000, // a second after the world begins,
  ...o,
});

/** Binds logins to a series of states of logind, each {@link END_GRACE} after the previous one. */
async function looks(
  w: World,
  pictures: readonly (readonly LogindSession[] | undefined)[],
): Promise<LoginBindings> {
  let sightings: LoginBindings = {};
  for (const shown of pictures) {
    sightings = bindLogins(w.host, sightings, readSessions(w.host, w.machine().paths), shown);
    await w.host.sleep(END_GRACE);
  }
  return sightings;
}

describe('a login of lightdm', () => {
  const dead = (w: World): void => void w.processes.delete(LEADER);
  type Row = [string, boolean, (LogindSession[] | undefined)[], boolean];
  it.each<Row>([
    ['is over if it was shown and is gone', true, [[shows()], []], true],
    ['is over if it was shown and is closing', true, [[shows()], [shows({ state: 'closing' })]], true],
    [
      'is over if it was shown and only a greeter is left',
      true,
      [[shows()], [shows({ class: 'greeter', uid: 1 })]],
      true,
    ],
    [
      'is over if it was shown and only an ssh login is left',
      true,
      [[shows()], [shows({ id: '9', service: 'sshd' })]],
      true,
    ],
    [
      'is over if it was shown and only another user is left',
      true,
      [[shows()], [shows({ id: '9', uid: 1002 })]],
      true,
    ],
    [
      'is over if it was shown and one on another display is left',
      true,
      [[shows()], [shows({ id: '9', display: ':7' })]],
      true,
    ],
    ['is not over while it is shown', true, [[shows()], [shows()]], false],
    [
      'is not over while it is shown without a manager',
      true,
      [[shows({ class: 'user-light' })], [shows({ class: 'user-light' })]],
      false,
    ],
    ['is over if one without a manager is gone', true, [[shows({ class: 'user-light' })], []], true],
    ['is not over while its home is locked', true, [[shows({ class: 'user-incomplete' })], [shows()]], false],
    ['is not over if it is in the background', true, [[shows()], [shows({ state: 'online' })]], false],
    ['is not over if it is gone but its leader runs', false, [[shows()], []], false],
    ['is not over if another one may be it', true, [[shows()], [], [shows({ id: 'c2' })]], false],
    [
      'is not over if another one without a display may be it',
      true,
      [[shows()], [shows({ id: 'c2', display: '' })]],
      false,
    ],
    [
      'is not over if another one is being opened',
      true,
      [[shows()], [shows({ id: 'c2', state: 'opening' })]],
      false,
    ],
    ['is not over if it is shown with another display', true, [[shows()], [shows({ display: ':9' })]], false],
    ['is not over if logind is gone', true, [[shows()], undefined], false],
    ['is not over if it is gone together with logind', true, [[shows()], [], undefined], false],
    ['is not over if it was never shown', true, [[], []], false],
    ['is not over without logind', true, [undefined, undefined], false],
    ['is not over if one that began before it ends', true, [[shows({ began: 5 })], []], false],
    ['is not over if one without a start time ends', true, [[shows({ began: 0 })], []], false],
    ['is not over if one that was already closing ends', true, [[shows({ state: 'closing' })], []], false],
    ['is not over if an ssh login ends', true, [[shows({ service: 'sshd' })], []], false],
    [
      'is not over if a user manager ends',
      true,
      [[shows({ class: 'manager', service: 'systemd-user' })], []],
      false,
    ],
    ['is not over if two that could be it end', true, [[shows(), shows({ id: 'c2' })], []], false],
  ])('%s', async (_what, leaderDied, pictures, over) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const [first, ...rest] = pictures;
    let sightings = bindLogins(w.host, {}, [s], first);
    if (leaderDied) dead(w);
    for (const shown of rest) {
      sightings = bindLogins(w.host, sightings, [s], shown);
      await w.host.sleep(END_GRACE);
    }
    expect(await findEnded(w.host, s, sightings, undefined)).toEqual(
      over ? { because: 'the login has ended according to logind', left: [] } : undefined,
    );
  });

  it('is left to its hook for a short time', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const seen = bindLogins(w.host, {}, [s], [shows()]);
    dead(w);
    const gone = bindLogins(w.host, seen, [s], []);
    expect(await findEnded(w.host, s, gone, undefined)).toBeUndefined();
    await w.host.sleep(END_GRACE - 1);
    expect(await findEnded(w.host, s, bindLogins(w.host, gone, [s], []), undefined)).toBeUndefined();
    await w.host.sleep(1);
    expect(await findEnded(w.host, s, bindLogins(w.host, gone, [s], []), undefined)).toBeDefined();
  });

  it('is not confused with an earlier one on the same display', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const old = await looks(w, [[shows()]]);
    dead(w);
    // The logout hook was lost. The next login is in PAM, and logind shows the old one closing, then nothing.
    await w.host.sleep(5000);
    const next = await arrive(w, 'lightdm', ':0');
    let sightings = old;
    for (const shown of [[shows({ state: 'closing' })], [], []]) {
      sightings = bindLogins(w.host, sightings, [next], shown);
      await w.host.sleep(END_GRACE);
      expect(await findEnded(w.host, next, sightings, undefined)).toBeUndefined();
    }
    expect(s.id).not.toBe(next.id);
  });

  it('on one of two displays is dropped, and the other is kept', async () => {
    const w = worldWithLeaders();
    await arrive(w, 'lightdm', ':0');
    const s = await arrive(w, 'lightdm', ':1');
    expect(s.logins).toHaveLength(2);
    const second = shows({ id: 'c2', display: ':1', leader: OTHER_LEADER });
    const seen = await looks(w, [[shows(), second]]);
    w.processes.delete(OTHER_LEADER);
    const gone = bindLogins(w.host, seen, [s], [shows()]);
    await w.host.sleep(END_GRACE);
    expect((await findEnded(w.host, s, gone, undefined))?.left).toMatchObject([{ display: ':0' }]);
  });

  it('without a display cannot be distinguished from another one', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const twice = {
      ...s,
      logins: s.logins.flatMap(({ display: _, ...l }) => [l, { ...l, since: l.since + 1 }]),
    };
    const seen = bindLogins(w.host, {}, [twice], [shows({ display: '' })]);
    expect(seen).toEqual({});
  });

  it.each([
    ['a starting session', { state: 'starting' }],
    ['a session of mayfly run', { kind: 'run' }],
  ] as const)('is not bound to logind for %s', async (_what, change) => {
    const w = worldWithLeaders();
    const s = { ...(await arrive(w, 'lightdm', ':0')), ...change };
    expect(bindLogins(w.host, {}, [{ ...s, starter: s.logins[0]?.caller ?? s.starter }], [shows()])).toEqual(
      {},
    );
  });
});

describe('a login of lightdm that logind never showed', () => {
  const MINUTE = 60_000;
  const old = (w: World, s: Session): void => child(w, Number(s.starter.start) - 1);
  type Row = [string, (w: World, s: Session) => void, LogindSession[] | undefined, boolean];
  it.each<Row>([
    ['is over if the session and lightdm have no process of it', () => undefined, [], true],
    [
      'is over if lightdm only has the next greeter',
      (w, s) => child(w, Number(s.starter.start) + 1),
      [],
      true,
    ],
    ['is over if only its X server runs', (w, s) => child(w, Number(s.starter.start) - 1, 'Xorg'), [], true],
    ['is over if it is closing and has no process', () => undefined, [shows({ state: 'closing' })], true],
    ['is over if the same user has only an ssh login', () => undefined, [shows({ service: 'sshd' })], true],
    ['is not over while it is in PAM', old, [], false],
    ['is not over while a process is in its session', (w, s) => void w.enter(s.root), [], false],
    ['is not over if logind shows it after all', () => undefined, [shows()], false],
    ['is not over while it is being opened', () => undefined, [shows({ state: 'opening' })], false],
    ['is not over if one that began before it may be its own', () => undefined, [shows({ began: 5 })], false],
    ['is not over without logind', () => undefined, undefined, false],
  ])('%s', async (_what, prepare, shown, over) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    prepare(w, s);
    const look = () => findEnded(w.host, s, {}, shown);
    await w.host.sleep(MINUTE - 1);
    expect(await look()).toBeUndefined();
    await w.host.sleep(1);
    expect(await look()).toEqual(
      over ? { because: 'its login ended before logind listed it', left: [] } : undefined,
    );
  });

  it.each<[string, (s: Session) => Session, (s: Session) => LoginBindings]>([
    ['it was shown once', s => s, s => bindLogins(worldWithLeaders().host, {}, [s], [shows()])],
    ['the session has two logins', s => ({ ...s, logins: [...s.logins, ...s.logins] }), () => ({})],
    [
      'the login is later than the session',
      s => ({ ...s, logins: s.logins.map(l => ({ ...l, since: (s.since ?? 0) + 1 })) }),
      () => ({}),
    ],
    ['the session is one of mayfly run', s => ({ ...s, kind: 'run' }), () => ({})],
    [
      'the session is starting',
      s => ({ ...s, state: 'starting', starter: s.logins[0]?.caller ?? s.starter }),
      () => ({}),
    ],
    [
      'it is one of gdm whose worker lives',
      s => ({ ...s, logins: s.logins.map(l => ({ ...l, adapter: 'gdm' })) }),
      () => ({}),
    ],
  ])('is not over if %s', async (_what, change, sightings) => {
    const w = worldWithLeaders();
    const s = change(await arrive(w, 'lightdm', ':0'));
    await w.host.sleep(MINUTE);
    expect(await findEnded(w.host, s, sightings(s), [])).toBeUndefined();
  });
});

describe('a login of gdm', () => {
  it.each([
    [
      'the session of its own worker',
      shows({ service: 'gdm-password', leader: WORKER, began: 0, display: '' }),
      true,
    ],
    ['no session of another worker', shows({ service: 'gdm-password', leader: LEADER, display: '' }), false],
  ])('is bound to %s', async (_what, shown, bound) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'gdm', undefined, WORKER);
    expect(Object.values(bindLogins(w.host, {}, [s], [shown]))).toHaveLength(bound ? 1 : 0);
  });

  it('is dropped when its worker dies, and over if it was the last', async () => {
    const w = worldWithLeaders();
    process(w, 63);
    await arrive(w, 'gdm', undefined, WORKER);
    const s = await arrive(w, 'gdm', undefined, 63);
    w.processes.delete(63);
    expect((await findEnded(w.host, s, {}, undefined))?.left).toMatchObject([{ caller: { pid: WORKER } }]);
    w.processes.delete(WORKER);
    expect(await findEnded(w.host, s, {}, undefined)).toEqual({
      because: 'its display manager is gone',
      left: [],
    });
  });
});

describe('a login by PAM', () => {
  it.each([
    [
      'the session that its process opened, with any service',
      shows({ service: 'greetd', leader: WORKER, display: '' }),
      true,
    ],
    ['no other session', shows({ service: 'sshd', leader: LEADER, display: '' }), false],
  ])('is bound to %s', async (_what, shown, bound) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'pam', undefined, WORKER);
    expect(Object.values(bindLogins(w.host, {}, [s], [shown]))).toHaveLength(bound ? 1 : 0);
  });

  it('is the same login as gdm’s script in the same worker', async () => {
    const w = worldWithLeaders();
    const first = await arrive(w, 'pam', undefined, WORKER);
    const again = await arrive(w, 'gdm', undefined, WORKER);
    expect(again).toEqual(first);
    expect(again.logins).toHaveLength(1);
  });

  it('that gdm opens for a running desktop is another login until it closes', async () => {
    const w = worldWithLeaders();
    process(w, 63);
    await arrive(w, 'pam', undefined, WORKER);
    const both = await arrive(w, 'pam', undefined, 63);
    expect(both.logins).toHaveLength(2);
    const caller = identify(w.host, 63);
    if (!caller) throw new Error('no worker');
    const ended = await logout(w.machine(), { adapter: 'pam', user: 'alice', caller }, async () => undefined);
    expect(ended).toBe('others remain');
    expect(readSessions(w.host, w.machine().paths)).toMatchObject([
      { logins: [{ caller: { pid: WORKER } }] },
    ]);
  });
});

describe('the record of bindings', () => {
  it('survives a restart of the service but not a reboot', async () => {
    const w = worldWithLeaders();
    await arrive(w, 'lightdm', ':0');
    const { paths } = w.machine();
    const seen = await looks(w, [[shows()]]);
    writeBindings(w.host, paths, {}, seen);
    expect(readBindings(w.host, paths)).toEqual(seen);
    w.boot = 'boot-9';
    expect(readBindings(w.host, paths)).toEqual({});
    writeBindings(w.host, paths, seen, {});
    expect(w.host.lstat(`${paths.run}/sightings.json`)).toBeUndefined();
  });
  it('is empty if its file is truncated', () => {
    const w = preparedWorld();
    w.put('/run/mayfly/sightings.json', '{"boot":"boot-1","sigh');
    expect(readBindings(w.host, w.machine().paths)).toEqual({});
  });
  it('determines the processes to watch: callers, starters, and leaders of missing sessions', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const seen = bindLogins(w.host, {}, [s], [shows()]);
    const pids = (of: Session, sightings: LoginBindings): number[] =>
      watchedProcesses([of], sightings).map(m => m.pid);
    expect(pids(s, seen)).toEqual([DAEMON]);
    expect(pids(s, bindLogins(w.host, seen, [s], []))).toEqual([DAEMON, LEADER]);
    expect(pids({ ...s, state: 'starting' }, {})).toEqual([s.starter.pid]);
    expect(pids({ ...s, state: 'ending' }, {})).toEqual([]);
  });
  it('is made from the directory of logind, and from nothing without it', () => {
    const w = preparedWorld();
    expect(shownSessions(w.host)).toBeUndefined();
    w.makeDirs('/run/systemd/sessions');
    expect(shownSessions(w.host)).toEqual([]);
    w.put('/run/systemd/sessions/c1', 'UID=1001\nSERVICE=lightdm\nLEADER=61\nMONOTONIC=1000000\n');
    w.put('/run/systemd/sessions/c1.ref', '');
    expect(shownSessions(w.host)).toMatchObject([{ id: 'c1', uid: 1001, leader: 61, began: 1000 }]);
  });
});

/** A machine that collects its log messages. */
function logging(w: World): { on: Machine; said: string[] } {
  const said: string[] = [];
  return {
    on: {
      ...w.machine(),
      log: logTo((level, words) => level !== 'debug' && said.push(`${level}: ${words}`)),
    },
    said,
  };
}

describe('the reaper', () => {
  it('ends a session that is over', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const { on, said } = logging(w);
    expect(await reap(on, s, () => ({ because: 'told so', left: [] }))).toBe(true);
    expect(readSessions(w.host, on.paths)).toEqual([]);
    expect(said).toEqual([
      `notice: ${s.id} of alice is over: told so`,
      expect.stringMatching(
        `^info: ${s.id}: session of alice ended in \\d+ ms \\(access \\d+, .*, record \\d+\\)$`,
      ),
    ]);
  });

  it('keeps a session that has a live login', async () => {
    const w = worldWithLeaders();
    await arrive(w, 'lightdm', ':0');
    const s = await arrive(w, 'lightdm', ':1');
    const left = s.logins.slice(0, 1);
    const { on, said } = logging(w);
    await reap(on, s, () => ({ because: 'told so', left }));
    expect(readSessions(w.host, on.paths)).toMatchObject([{ id: s.id, state: 'live', logins: left }]);
    expect(said).toEqual([`notice: ${s.id} of alice: told so; 1 of 2 logins remain`]);
  });

  it('does nothing if the user logged in again while it waited for the lock', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const before = w.picture();
    expect(await reap(w.machine(), s, () => undefined)).toBe(false);
    expect(w.picture()).toBe(before);
  });

  it('retries after 10 s, 30 s, 1 min, and then every 5 min', () => {
    expect([1, 2, 3, 4, 5, 99].map(pauseAfter)).toEqual([10e3, 30e3, 60e3, 300e3, 300e3, 300e3]);
  });

  it('logs a failure once, retries on time, and never runs twice at once', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    w.failing.add('perl');
    const { on, said } = logging(w);
    const changes: boolean[] = [];
    const ends = reaper(0, changed => changes.push(changed));
    const over = () => ({ because: 'told so', left: [] });
    const take = async (): Promise<void> => {
      ends.take(on, readSessions(w.host, on.paths), over);
      ends.take(on, readSessions(w.host, on.paths), over);
      await ends.drain();
    };
    await take();
    expect(changes).toEqual([false]);
    expect(said.at(-1)).toMatch(/^err: cannot end u1001-\S+ of alice: "perl" failed.*next attempt in 10 s$/);
    expect(ends.next()).toBe(w.host.monotonic() + 10_000);
    await take();
    expect(changes).toEqual([false]);
    await w.host.sleep(10_000);
    const before = said.length;
    await take();
    expect(said.slice(before)).toEqual([]);
    expect(ends.next()).toBe(w.host.monotonic() + 30_000);
    w.failing.clear();
    await w.host.sleep(30_000);
    await take();
    expect(changes).toEqual([false, false, true]);
    expect(readSessions(w.host, on.paths)).toEqual([]);
    ends.take(on, [], over);
    expect(ends.next()).toBeUndefined();
    expect(s.state).toBe('live');
  });

  it('leaves a teardown that another process began to it for a while', async () => {
    const w = worldWithLeaders();
    const { on } = logging(w);
    const s = await arrive(w, 'lightdm', ':0');
    writeSession(w.host, on.paths, { ...s, state: 'ending' });
    const ends = reaper(1500, () => undefined);
    const over = (now: Session) => findEnded(w.host, now, {}, undefined);
    ends.take(on, readSessions(w.host, on.paths), over);
    expect([ends.busy(), ends.next()]).toEqual([false, w.host.monotonic() + 1500]);
    await w.host.sleep(1500);
    ends.take(on, readSessions(w.host, on.paths), over);
    await ends.drain();
    expect(readSessions(w.host, on.paths)).toEqual([]);
  });

  it('ends only a few sessions at a time', async () => {
    const w = preparedWorld();
    const { on } = logging(w);
    const s = await arrive(w, 'lightdm', ':0');
    const many = Array.from({ length: 9 }, (_, i) => ({ ...s, id: `u1001-0000000${i}` }));
    const ends = reaper(0, () => undefined);
    ends.take(on, many, () => undefined);
    expect(ends.next()).toBeUndefined(); // the loop is woken up as soon as one is done
    await ends.drain();
    expect(ends.next()).toBeDefined();
  });
});

describe('mayfly-end@.service', () => {
  const locked =
    (times: number) =>
    (on: Machine): Machine => {
      let asked = 0;
      const run: Machine['host']['run'] = async c =>
        c.file === 'flock' && asked++ < times ? { code: 75, stdout: '', stderr: '' } : on.host.run(c);
      return { ...on, host: { ...on.host, run } };
    };
  const gone = (w: World, s: Session): void => deleteSession(w.host, w.machine().paths, s.id);
  const still = () => undefined;
  /** How long it took is logged, and nothing else. */
  const times = [
    expect.stringMatching(/^info: u1001-\w+: (session of alice ended in|logout of alice failed in)/),
  ];
  it.each<[string, (w: World, s: Session) => void, (on: Machine) => Machine, RegExp?]>([
    ['ends a session', still, on => on],
    ['succeeds if the session is gone', gone, on => on],
    ['waits for another process that holds the lock', still, locked(3)],
    ['succeeds if that process has ended the session', gone, locked(3)],
    ['fails if the lock is never released', still, locked(99), /is locked by another mayfly/],
    ['fails if the teardown fails', w => void w.failing.add('perl'), on => on, /"perl" failed/],
  ])('%s', async (_what, prepare, change, error) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    prepare(w, s);
    const { on, said } = logging(w);
    const done = endIfThere(change(on), s.id);
    if (error) await expect(done).rejects.toThrow(error);
    else await done;
    const tried = prepare !== gone && !error?.source.includes('locked');
    expect(said).toEqual(tried ? times : []);
    expect(readSessions(w.host, on.paths)).toHaveLength(error ? 1 : 0);
  });
});

describe('space alerts', () => {
  const config = { admission: { max_used_percent: 95 }, update: { max_used_percent: 85 } } as Config;
  const at = (percent: number, before: SpaceLevel) =>
    spaceAlert(
      before,
      { total: 2 ** 40, free: 3.25 * 2 ** 30, percent },
      '/pool',
      limitsOf(config, 'overlay'),
    );
  it.each<[number, SpaceLevel, SpaceLevel, string?]>([
    [50, 0, 0],
    [85, 0, 0],
    [86.5, 0, 1, 'warning: the pool "/pool" is 86 % full, 3.3 GiB free: new logins are refused above 95 %'],
    [90, 1, 1],
    [96, 1, 2, 'warning: the pool "/pool" is 96 % full, 3.3 GiB free: new logins are refused'],
    [96, 0, 2, 'warning: the pool "/pool" is 96 % full, 3.3 GiB free: new logins are refused'],
    [99, 2, 2],
    [94.5, 2, 2], // not yet, so that it does not flap
    [93, 2, 1, 'notice: the pool "/pool" is 93 % full, 3.3 GiB free: logins are allowed again'],
    [84.5, 1, 1],
    [60, 1, 0, 'notice: the pool "/pool" is 60 % full, 3.3 GiB free: there is enough space again'],
    [60, 2, 0, 'notice: the pool "/pool" is 60 % full, 3.3 GiB free: there is enough space again'],
  ])('at %d %% change the level from %i to %i', (percent, before, after, words) => {
    const { scarcity, level, ...said } = at(percent, before);
    expect(scarcity).toBe(after);
    expect(level && `${level}: ${said.words}`).toBe(words);
  });
});

describe('the configuration', () => {
  const of = (w: World) => w.machine().config;
  it('names the options that changed as in the file', () => {
    const config = of(preparedWorld());
    const other = { ...config, files: ['x'], exclude: ['@staff'], logout: { ...config.logout, grace: 9 } };
    expect(changedOptions(config, other)).toEqual(['exclude', 'logout.grace']);
    expect(changedOptions(config, config)).toEqual([]);
  });

  it.each<[string, string, string[], boolean]>([
    [
      'is used if it is valid',
      '[logout]\ngrace = 9\n',
      ['notice: the configuration has changed: logout.grace'],
      true,
    ],
    [
      'is not used if it is invalid',
      '\n[logout]\ngrace = "no"\n',
      [
        expect.stringMatching(
          /^err: keeping the previous configuration: \/etc\/mayfly\/mayfly\.toml:3: .*\(.*\)$/,
        ),
      ],
      false,
    ],
    [
      'is used without a change of directories',
      '[directories]\nrun = "/run/elsewhere"\n[logout]\ngrace = 9\n',
      [
        'warning: directories.run changed; the service uses the old value until it is restarted',
        'notice: the configuration has changed: logout.grace',
      ],
      true,
    ],
    ['is not reported if nothing changed', '# nothing\n', [], false],
  ])('%s', async (_what, text, words, taken) => {
    const w = preparedWorld();
    const { on, said } = logging(w);
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', text);
    const after = await reload(on, '/etc/mayfly/mayfly.toml');
    expect(said).toEqual(words);
    expect(after.config.logout.grace === 9).toBe(taken);
    expect(after.config.invalid !== undefined).toBe(/keeping/.test(said[0] ?? ''));
    expect(changedOptions(after.config, { ...after.config, invalid: 'x' })).toEqual([]);
    expect(after.config.directories).toEqual(on.config.directories);
  });
});

describe('the plan of file watches', () => {
  const plan = (there: readonly string[], ...directories: string[]) =>
    [
      ...planWatches(
        { pathType: path => (path === '/' || there.includes(path) ? 'dir' : undefined) },
        directories.map(directory => ({ directory, matters: (n: string) => n.endsWith('.json') })),
      ),
    ].map(([path, places]) => [path, ['a.json', 'b', 'run'].filter(n => places.some(p => p.matters(n)))]);
  it.each<[string, string[], string[], unknown]>([
    [
      'has the directory and its name in the parent',
      ['/run', '/run/b'],
      ['/run/b'],
      [
        ['/run/b', ['a.json']],
        ['/run', ['b']],
      ],
    ],
    ['has the parent if the directory does not exist', ['/run'], ['/run/b'], [['/run', ['b']]]],
    ['has the nearest existing ancestor', [], ['/run/b'], [['/', ['run']]]],
    [
      'combines two watches of one directory',
      ['/run'],
      ['/run', '/run/b'],
      [
        ['/run', ['a.json', 'b']],
        ['/', ['run']],
      ],
    ],
  ])('%s', (_what, there, directories, expected) => {
    expect(plan(there, ...directories)).toEqual(expected);
  });
});

describe('the service manager', () => {
  it.each([
    [{}, undefined],
    [{ NOTIFY_SOCKET: '/s' }, undefined],
    [{ NOTIFY_SOCKET: '/s', WATCHDOG_USEC: '120000000' }, 60_000],
    [{ NOTIFY_SOCKET: '/s', WATCHDOG_USEC: '120000000', WATCHDOG_PID: '7' }, undefined],
    [{ WATCHDOG_USEC: '120000000' }, undefined],
  ])('with %j gets a ping every %s ms', (env, every) => {
    expect(serviceManager(preparedWorld().host, env, noLog).pingEvery).toBe(every);
  });

  it('is notified by systemd-notify, with arguments', async () => {
    const ran: string[][] = [];
    const host = {
      ...preparedWorld().host,
      run: async (c: { file: string; args: readonly string[] }) => {
        ran.push([c.file, ...c.args]);
        return { code: 0, stdout: '', stderr: '' };
      },
    };
    await serviceManager(host, {}, noLog).tell('READY=1');
    await serviceManager(host, { NOTIFY_SOCKET: '@x y' }, noLog).tell('READY=1', 'STATUS=a b; c');
    expect(ran).toEqual([['env', 'NOTIFY_SOCKET=@x y', 'systemd-notify', 'READY=1', 'STATUS=a b; c']]);
  });
});
