/** What the service decides: who is over, when to try again, what to say of space and configuration. */
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

const DAEMON = 50; // lightdm in the world
const WORKER = 60; // a worker of gdm
const LEADER = 61;
const OTHER_LEADER = 62;

const PLAIN = { comm: 'lightdm', ignoresTerm: true, cgroup: '' };

function process(w: World, pid: number): void {
  w.processes.set(pid, { ...PLAIN, start: String(pid), dev: w.rootDev });
}

/** What lightdm began for a login before it ran the hook. */
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
  began: Date.parse('2026-01-01T00:00:01Z'),
  ...o,
});

/** Looks at a series of pictures of logind, each longer after the last than an end must be seen for. */
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
    ['shown, then gone', true, [[shows()], []], true],
    ['shown, then closing', true, [[shows()], [shows({ state: 'closing' })]], true],
    [
      'shown, then on another seat’s greeter only',
      true,
      [[shows()], [shows({ class: 'greeter', uid: 1 })]],
      true,
    ],
    ['shown, then only an ssh login is left', true, [[shows()], [shows({ id: '9', service: 'sshd' })]], true],
    ['shown, then only somebody else’s', true, [[shows()], [shows({ id: '9', uid: 1002 })]], true],
    [
      'shown, then one on another display is left',
      true,
      [[shows()], [shows({ id: '9', display: ':7' })]],
      true,
    ],
    ['shown all the time', true, [[shows()], [shows()]], false],
    ['shown, switched away from', true, [[shows()], [shows({ state: 'online' })]], false],
    ['shown, gone, but its leader runs', false, [[shows()], []], false],
    ['shown, gone, and then another may be it', true, [[shows()], [], [shows({ id: 'c2' })]], false],
    ['shown, gone, another without a display', true, [[shows()], [shows({ id: 'c2', display: '' })]], false],
    ['shown, gone, another being opened', true, [[shows()], [shows({ id: 'c2', state: 'opening' })]], false],
    ['shown, changed display', true, [[shows()], [shows({ display: ':9' })]], false],
    ['shown, then logind is gone', true, [[shows()], undefined], false],
    ['shown, then gone with logind', true, [[shows()], [], undefined], false],
    ['never shown', true, [[], []], false],
    ['no logind', true, [undefined, undefined], false],
    ['only one that began before it, and goes', true, [[shows({ began: 5 })], []], false],
    ['only one that says not when it began', true, [[shows({ began: 0 })], []], false],
    ['only one that was closing already', true, [[shows({ state: 'closing' })], []], false],
    ['only an ssh login, and it goes', true, [[shows({ service: 'sshd' })], []], false],
    [
      'only a user manager, and it goes',
      true,
      [[shows({ class: 'manager', service: 'systemd-user' })], []],
      false,
    ],
    ['two that could be it, and both go', true, [[shows(), shows({ id: 'c2' })], []], false],
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
    expect(findEnded(w.host, s, sightings, undefined)).toEqual(
      over ? { because: 'logind says that the login has ended', left: [] } : undefined,
    );
  });

  it('is left to its hook for a moment', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const seen = bindLogins(w.host, {}, [s], [shows()]);
    dead(w);
    const gone = bindLogins(w.host, seen, [s], []);
    expect(findEnded(w.host, s, gone, undefined)).toBeUndefined();
    await w.host.sleep(END_GRACE - 1);
    expect(findEnded(w.host, s, bindLogins(w.host, gone, [s], []), undefined)).toBeUndefined();
    await w.host.sleep(1);
    expect(findEnded(w.host, s, bindLogins(w.host, gone, [s], []), undefined)).toBeDefined();
  });

  it('that follows another on the same display is not taken for it', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const old = await looks(w, [[shows()]]);
    dead(w);
    // The hook of the logout was lost; the next login is in PAM, and logind shows the old one closing, then nothing.
    await w.host.sleep(5000);
    const next = await arrive(w, 'lightdm', ':0');
    let sightings = old;
    for (const shown of [[shows({ state: 'closing' })], [], []]) {
      sightings = bindLogins(w.host, sightings, [next], shown);
      await w.host.sleep(END_GRACE);
      expect(findEnded(w.host, next, sightings, undefined)).toBeUndefined();
    }
    expect(s.id).not.toBe(next.id);
  });

  it('on one of two displays: that one is dropped, the other stays', async () => {
    const w = worldWithLeaders();
    await arrive(w, 'lightdm', ':0');
    const s = await arrive(w, 'lightdm', ':1');
    expect(s.logins).toHaveLength(2);
    const second = shows({ id: 'c2', display: ':1', leader: OTHER_LEADER });
    const seen = await looks(w, [[shows(), second]]);
    w.processes.delete(OTHER_LEADER);
    const gone = bindLogins(w.host, seen, [s], [shows()]);
    await w.host.sleep(END_GRACE);
    expect(findEnded(w.host, s, gone, undefined)?.left).toMatchObject([{ display: ':0' }]);
  });

  it('two without a display are never told apart', async () => {
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
    ['starting', { state: 'starting' }],
    ['a throw-away', { kind: 'run' }],
  ] as const)('%s session is not judged by logind', async (_what, change) => {
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
    ['nobody inside, nothing of lightdm’s', () => undefined, [], true],
    ['the greeter that follows it', (w, s) => child(w, Number(s.starter.start) + 1), [], true],
    ['its X server is there', (w, s) => child(w, Number(s.starter.start) - 1, 'Xorg'), [], true],
    ['closing, with nobody inside', () => undefined, [shows({ state: 'closing' })], true],
    ['an ssh login of the same person', () => undefined, [shows({ service: 'sshd' })], true],
    ['still in PAM', old, [], false],
    ['somebody inside', (w, s) => void w.enter(s.root), [], false],
    ['shown after all', () => undefined, [shows()], false],
    ['being opened', () => undefined, [shows({ state: 'opening' })], false],
    ['one that began before it may be its own', () => undefined, [shows({ began: 5 })], false],
    ['no logind', () => undefined, undefined, false],
  ])('%s', async (_what, prepare, shown, over) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    prepare(w, s);
    const look = () => findEnded(w.host, s, {}, shown);
    await w.host.sleep(MINUTE - 1);
    expect(look()).toBeUndefined();
    await w.host.sleep(1);
    expect(look()).toEqual(
      over ? { because: 'its login ended before logind showed it', left: [] } : undefined,
    );
  });

  it.each<[string, (s: Session) => Session, (s: Session) => LoginBindings]>([
    ['seen once', s => s, s => bindLogins(worldWithLeaders().host, {}, [s], [shows()])],
    ['two logins', s => ({ ...s, logins: [...s.logins, ...s.logins] }), () => ({})],
    [
      'a later login',
      s => ({ ...s, logins: s.logins.map(l => ({ ...l, since: s.created + 1 })) }),
      () => ({}),
    ],
    ['a throw-away', s => ({ ...s, kind: 'run' }), () => ({})],
    ['starting', s => ({ ...s, state: 'starting', starter: s.logins[0]?.caller ?? s.starter }), () => ({})],
    [
      'gdm, whose worker lives',
      s => ({ ...s, logins: s.logins.map(l => ({ ...l, adapter: 'gdm' })) }),
      () => ({}),
    ],
  ])('is not over: %s', async (_what, change, sightings) => {
    const w = worldWithLeaders();
    const s = change(await arrive(w, 'lightdm', ':0'));
    await w.host.sleep(MINUTE);
    expect(findEnded(w.host, s, sightings(s), [])).toBeUndefined();
  });
});

describe('a login of gdm', () => {
  it.each([
    [
      'its own worker’s session',
      shows({ service: 'gdm-password', leader: WORKER, began: 0, display: '' }),
      true,
    ],
    ['another worker’s', shows({ service: 'gdm-password', leader: LEADER, display: '' }), false],
  ])('is bound to %s', async (_what, shown, bound) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'gdm', undefined, WORKER);
    expect(Object.values(bindLogins(w.host, {}, [s], [shown]))).toHaveLength(bound ? 1 : 0);
  });

  it('whose worker died is dropped while another lives, and over when it was the last', async () => {
    const w = worldWithLeaders();
    process(w, 63);
    await arrive(w, 'gdm', undefined, WORKER);
    const s = await arrive(w, 'gdm', undefined, 63);
    w.processes.delete(63);
    expect(findEnded(w.host, s, {}, undefined)?.left).toMatchObject([{ caller: { pid: WORKER } }]);
    w.processes.delete(WORKER);
    expect(findEnded(w.host, s, {}, undefined)).toEqual({ because: 'its display manager is gone', left: [] });
  });
});

describe('a login by PAM', () => {
  it.each([
    [
      'the session its process opened, of any service',
      shows({ service: 'greetd', leader: WORKER, display: '' }),
      true,
    ],
    ['no other', shows({ service: 'sshd', leader: LEADER, display: '' }), false],
  ])('is bound to %s', async (_what, shown, bound) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'pam', undefined, WORKER);
    expect(Object.values(bindLogins(w.host, {}, [s], [shown]))).toHaveLength(bound ? 1 : 0);
  });

  it('and gdm’s script in the same worker is one login', async () => {
    const w = worldWithLeaders();
    const first = await arrive(w, 'pam', undefined, WORKER);
    const again = await arrive(w, 'gdm', undefined, WORKER);
    expect(again).toEqual(first);
    expect(again.logins).toHaveLength(1);
  });

  it('that gdm opens to find the desktop there is one more, until it closes', async () => {
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

describe('what is remembered', () => {
  it('survives a restart of the service, not of the machine', async () => {
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
  it('cut short is nothing', () => {
    const w = preparedWorld();
    w.put('/run/mayfly/sightings.json', '{"boot":"boot-1","sigh');
    expect(readBindings(w.host, w.machine().paths)).toEqual({});
  });
  it('the processes to look at: callers, starters, leaders of what is missing', async () => {
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
  it('reads logind’s directory, and nothing where there is none', () => {
    const w = preparedWorld();
    expect(shownSessions(w.host)).toBeUndefined();
    w.makeDirs('/run/systemd/sessions');
    expect(shownSessions(w.host)).toEqual([]);
    w.put('/run/systemd/sessions/c1', 'UID=1001\nSERVICE=lightdm\nLEADER=61\nREALTIME=1000000\n');
    w.put('/run/systemd/sessions/c1.ref', '');
    expect(shownSessions(w.host)).toMatchObject([{ id: 'c1', uid: 1001, leader: 61, began: 1000 }]);
  });
});

/** A machine that keeps what is logged. */
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

describe('ending', () => {
  it('takes down what is over', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const { on, said } = logging(w);
    expect(await reap(on, s, () => ({ because: 'told so', left: [] }))).toBe(true);
    expect(readSessions(w.host, on.paths)).toEqual([]);
    expect(said).toEqual([
      `notice: ${s.id} of alice is over: told so`,
      expect.stringMatching(
        `^info: ${s.id}: the session of alice ended in \\d+ ms \\(access \\d+, .*, record \\d+\\)$`,
      ),
    ]);
  });

  it('keeps a session some of whose logins live', async () => {
    const w = worldWithLeaders();
    await arrive(w, 'lightdm', ':0');
    const s = await arrive(w, 'lightdm', ':1');
    const left = s.logins.slice(0, 1);
    const { on, said } = logging(w);
    await reap(on, s, () => ({ because: 'told so', left }));
    expect(readSessions(w.host, on.paths)).toMatchObject([{ id: s.id, state: 'live', logins: left }]);
    expect(said).toEqual([`notice: ${s.id} of alice: told so; 1 of 2 logins are left`]);
  });

  it('does nothing where the person came back while the lock was waited for', async () => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    const before = w.picture();
    expect(await reap(w.machine(), s, () => undefined)).toBe(false);
    expect(w.picture()).toBe(before);
  });

  it('tries again after 10 s, 30 s, 1 min, and then every 5 min', () => {
    expect([1, 2, 3, 4, 5, 99].map(pauseAfter)).toEqual([10e3, 30e3, 60e3, 300e3, 300e3, 300e3]);
  });

  it('says why once, tries again when it is time, and never twice at once', async () => {
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
    expect(said.at(-1)).toMatch(
      /^err: u1001-\S+ of alice can not be ended: "perl" failed.*next attempt in 10 s$/,
    );
    expect(ends.next()).toBe(w.host.now() + 10_000);
    await take();
    expect(changes).toEqual([false]);
    await w.host.sleep(10_000);
    const before = said.length;
    await take();
    expect(said.slice(before)).toEqual([]);
    expect(ends.next()).toBe(w.host.now() + 30_000);
    w.failing.clear();
    await w.host.sleep(30_000);
    await take();
    expect(changes).toEqual([false, false, true]);
    expect(readSessions(w.host, on.paths)).toEqual([]);
    ends.take(on, [], over);
    expect(ends.next()).toBeUndefined();
    expect(s.state).toBe('live');
  });

  it('leaves an end that somebody else has begun to them for a while', async () => {
    const w = worldWithLeaders();
    const { on } = logging(w);
    const s = await arrive(w, 'lightdm', ':0');
    writeSession(w.host, on.paths, { ...s, state: 'ending' });
    const ends = reaper(1500, () => undefined);
    const over = (now: Session) => findEnded(w.host, now, {}, undefined);
    ends.take(on, readSessions(w.host, on.paths), over);
    expect([ends.busy(), ends.next()]).toEqual([false, w.host.now() + 1500]);
    await w.host.sleep(1500);
    ends.take(on, readSessions(w.host, on.paths), over);
    await ends.drain();
    expect(readSessions(w.host, on.paths)).toEqual([]);
  });

  it('is done for a few at a time', async () => {
    const w = preparedWorld();
    const { on } = logging(w);
    const s = await arrive(w, 'lightdm', ':0');
    const many = Array.from({ length: 9 }, (_, i) => ({ ...s, id: `u1001-0000000${i}` }));
    const ends = reaper(0, () => undefined);
    ends.take(on, many, () => undefined);
    expect(ends.next()).toBeUndefined(); // as soon as one is done, the loop is rung
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
  const times = [
    expect.stringMatching(/^info: u1001-\w+: the (session of alice ended in|end of alice's session failed)/),
  ];
  it.each<[string, (w: World, s: Session) => void, (on: Machine) => Machine, RegExp?]>([
    ['ends it, and says how long that took', still, on => on],
    ['has nothing to do where it is gone', gone, on => on],
    ['waits for whoever is at work on it', still, locked(3)],
    ['has nothing to do where they have ended it', gone, locked(3)],
    ['tells of a lock that never gets free', still, locked(99), /is held by another mayfly/],
    ['tells of a real failure', w => void w.failing.add('perl'), on => on, /"perl" failed/],
  ])('%s', async (_what, prepare, change, error) => {
    const w = worldWithLeaders();
    const s = await arrive(w, 'lightdm', ':0');
    prepare(w, s);
    const { on, said } = logging(w);
    const done = endIfThere(change(on), s.id);
    if (error) await expect(done).rejects.toThrow(error);
    else await done;
    const tried = prepare !== gone && !error?.source.includes('held');
    expect(said).toEqual(tried ? times : []); // and nothing besides
    expect(readSessions(w.host, on.paths)).toHaveLength(error ? 1 : 0);
  });
});

describe('space', () => {
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
    [
      86.5,
      0,
      1,
      'warning: the pool "/pool" is 86 % full, 3.3 GiB are left: new logins are refused above 95 %',
    ],
    [90, 1, 1],
    [96, 1, 2, 'warning: the pool "/pool" is 96 % full, 3.3 GiB are left: new logins are refused'],
    [96, 0, 2, 'warning: the pool "/pool" is 96 % full, 3.3 GiB are left: new logins are refused'],
    [99, 2, 2],
    [94.5, 2, 2], // not yet: it would go to and fro
    [93, 2, 1, 'notice: the pool "/pool" is 93 % full, 3.3 GiB are left: logins are let in again'],
    [84.5, 1, 1],
    [60, 1, 0, 'notice: the pool "/pool" is 60 % full, 3.3 GiB are left again'],
    [60, 2, 0, 'notice: the pool "/pool" is 60 % full, 3.3 GiB are left again'],
  ])('%d %% after scarcity %i is scarcity %i', (percent, before, after, words) => {
    const { scarcity, level, ...said } = at(percent, before);
    expect(scarcity).toBe(after);
    expect(level && `${level}: ${said.words}`).toBe(words);
  });
});

describe('the configuration', () => {
  const of = (w: World) => w.machine().config;
  it('tells what changed, by the names in the file', () => {
    const config = of(preparedWorld());
    const other = { ...config, files: ['x'], exclude: ['@staff'], logout: { ...config.logout, grace: 9 } };
    expect(changedOptions(config, other)).toEqual(['exclude', 'logout.grace']);
    expect(changedOptions(config, config)).toEqual([]);
  });

  it.each<[string, string, string[], boolean]>([
    ['valid', '[logout]\ngrace = 9\n', ['notice: the configuration has changed: logout.grace'], true],
    [
      'wrong',
      '\n[logout]\ngrace = "no"\n',
      [
        expect.stringMatching(
          /^err: the configuration stays as it was: \/etc\/mayfly\/mayfly\.toml:3: .*\(.*\)$/,
        ),
      ],
      false,
    ],
    [
      'moved',
      '[directories]\nrun = "/run/elsewhere"\n[logout]\ngrace = 9\n',
      [
        'warning: directories.run changed: restart the service; until then it stays with the old ones',
        'notice: the configuration has changed: logout.grace',
      ],
      true,
    ],
    ['the same', '# nothing\n', [], false],
  ])('that is %s', async (_what, text, words, taken) => {
    const w = preparedWorld();
    const { on, said } = logging(w);
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', text);
    const after = await reload(on, '/etc/mayfly/mayfly.toml');
    expect(said).toEqual(words);
    expect(after.config.logout.grace === 9).toBe(taken);
    expect(after.config.directories).toEqual(on.config.directories);
  });
});

describe('what is watched', () => {
  const plan = (there: readonly string[], ...directories: string[]) =>
    [
      ...planWatches(
        { pathType: path => (path === '/' || there.includes(path) ? 'dir' : undefined) },
        directories.map(directory => ({ directory, matters: (n: string) => n.endsWith('.json') })),
      ),
    ].map(([path, places]) => [path, ['a.json', 'b', 'run'].filter(n => places.some(p => p.matters(n)))]);
  it.each<[string, string[], string[], unknown]>([
    [
      'the directory itself, and its own name where it hangs',
      ['/run', '/run/b'],
      ['/run/b'],
      [
        ['/run/b', ['a.json']],
        ['/run', ['b']],
      ],
    ],
    ['its parent, for its name', ['/run'], ['/run/b'], [['/run', ['b']]]],
    ['the nearest that is there', [], ['/run/b'], [['/', ['run']]]],
    [
      'one directory for two',
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

describe('systemd', () => {
  it.each([
    [{}, undefined],
    [{ NOTIFY_SOCKET: '/s' }, undefined],
    [{ NOTIFY_SOCKET: '/s', WATCHDOG_USEC: '120000000' }, 60_000],
    [{ NOTIFY_SOCKET: '/s', WATCHDOG_USEC: '120000000', WATCHDOG_PID: '7' }, undefined],
    [{ WATCHDOG_USEC: '120000000' }, undefined],
  ])('%j: a ping every %s ms', (env, every) => {
    expect(serviceManager(preparedWorld().host, env, noLog).pingEvery).toBe(every);
  });

  it('is told by systemd-notify, with arguments', async () => {
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
