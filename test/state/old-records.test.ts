/** Records of sessions where earlier versions have them, beside hooks, a service and an update of such a version. */
import { describe, expect, it } from 'vitest';
import { recover } from '../../src/service/recover.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSessions, type Session, writeSession } from '../../src/state/sessions.ts';
import { pins, retire } from '../../src/update/retention.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

/** As an earlier version sees the machine: it has no other place for records. */
function earlier(w: World): Machine {
  const on = w.machine();
  return { ...on, paths: { ...on.paths, sessions: on.paths.oldSessions } };
}

/** A machine on which an earlier version has run; bob is logged in since then. */
async function upgraded(): Promise<World> {
  const w = preparedWorld();
  w.makeDirs(w.machine().paths.oldSessions);
  await login(earlier(w), callOf(w, 'bob', ':9'));
  w.newProcess();
  return w;
}

/** Generation 2 is stable now. */
function promoteSecond(w: World): void {
  const { paths } = w.machine();
  const g = JSON.parse(w.host.read(`${paths.generations}/1.json`) ?? '');
  const next = { ...g, number: 2, volume: { ...g.volume, name: '2' } };
  w.put(`${paths.generations}/2.json`, JSON.stringify(next));
  w.host.symlink('generations/2.json', paths.stable);
}

const alice = (w: World, display = ':0'): Promise<Session | undefined> =>
  login(w.machine(), callOf(w, 'alice', display));
const onDisk = (w: World): string[] => w.host.list(w.machine().paths.oldSessions);
const inMemory = (w: World): string[] => w.host.list(w.machine().paths.sessions);
const finish = (s: Session, m: Machine): Promise<void> => stop(m, s);

describe('while an earlier version may be at work', () => {
  it('its service ends no session of a new hook', async () => {
    const w = await upgraded();
    const s = await alice(w);
    const desktop = w.enter(s?.root ?? '');
    w.newProcess();
    expect(await recover(earlier(w), false)).toEqual({ ended: [], swept: [], stuck: [] });
    expect(w.processes.has(desktop)).toBe(true);
  });

  it('its service kills no program that saves after a logout to a new hook', async () => {
    const w = await upgraded();
    const s = await alice(w);
    const saver = w.enter(s?.root ?? '', false, true);
    w.newProcess();
    await expect(logout(w.machine(), callOf(w, 'alice', ':0'), finish)).rejects.toMatchObject({
      code: 'saving',
    });
    w.newProcess();
    expect((await recover(earlier(w), false)).ended).toEqual([]);
    expect(w.processes.has(saver)).toBe(true);
  });

  it('its update keeps the generation of every session, whatever the new service has done', async () => {
    const w = await upgraded();
    await alice(w);
    w.newProcess();
    await recover(w.machine());
    expect(pins(earlier(w))?.get(1)).toBe(2);
    promoteSecond(w);
    expect(await retire(earlier(w), 1, 'asked')).toBe(false);
    expect(readSessions(w.host, w.machine().paths)).toHaveLength(2);
  });

  it('a session that joins, changes and ends has one record, always in the same place', async () => {
    const w = await upgraded();
    await alice(w);
    const joined = await alice(w, ':1');
    expect(joined?.logins.map(l => l.display)).toEqual([':0', ':1']);
    expect([onDisk(w).length, inMemory(w).length]).toEqual([2, 0]);
    expect(await logout(w.machine(), callOf(w, 'bob', ':9'), finish)).toBe('ended');
    expect(await logout(earlier(w), callOf(w, 'alice', ':1'), finish)).toBe('others remain');
    expect(await logout(w.machine(), callOf(w, 'alice', ':0'), finish)).toBe('ended');
    expect([onDisk(w), inMemory(w)]).toEqual([[], []]);
  });

  it('a generation is kept for a session whose record a second login replaces while all are listed', async () => {
    const w = await upgraded();
    const s = await alice(w);
    await logout(w.machine(), callOf(w, 'bob', ':9'), finish);
    promoteSecond(w);
    const on = w.machine();
    let listed = 0;
    const host: Machine['host'] = {
      ...on.host,
      list(path) {
        const names = on.host.list(path);
        if (path === on.paths.sessions || path === on.paths.oldSessions) listed += 1;
        if (s && listed === 1) writeSession(w.host, on.paths, s);
        return names;
      },
    };
    expect(await retire({ ...on, host }, 1, 'asked')).toBe(false);
    expect(listed).toBe(2);
  });

  it('whenever a logout dies, recover ends the session or leaves it whole', async () => {
    const act = (w: World) => logout(w.machine(), callOf(w, 'alice', ':0'), finish);
    const ready = async (): Promise<World> => {
      const w = await upgraded();
      await alice(w);
      w.newProcess();
      return w;
    };
    const probe = await ready();
    await act(probe);
    for (let n = 1; n <= probe.calls; n++) {
      const w = await ready();
      w.dieAt = n;
      await act(w).catch(() => undefined);
      w.newProcess();
      await recover(w.machine());
      const left = readSessions(w.host, w.machine().paths).map(s => `${s.user.name} ${s.state}`);
      expect(
        left.filter(who => who !== 'alice live'),
        `died at ${n}`,
      ).toEqual(['bob live']);
      if (n > 2) expect(left).toHaveLength(1);
    }
  });
});

describe('records are in memory', () => {
  it('after the next boot, and nothing is left of what was on disk', async () => {
    const w = await upgraded();
    await alice(w);
    w.reboot();
    expect((await recover(w.machine())).ended).toHaveLength(2);
    expect(w.host.lstat(w.machine().paths.oldSessions)).toBeUndefined();
    await alice(w);
    expect(inMemory(w)).toHaveLength(1);
  });

  it('but not while somebody is logged in, or an update may be reading pins', async () => {
    const w = await upgraded();
    await logout(w.machine(), callOf(w, 'bob', ':9'), finish);
    await recover(w.machine());
    expect(w.host.lstat(w.machine().paths.oldSessions)?.kind).toBe('dir');
    w.reboot();
    const on = w.machine();
    const { paths } = on;
    let opened = '';
    const host: Machine['host'] = {
      ...on.host,
      openLock(path) {
        opened = path;
        return on.host.openLock(path);
      },
      async run(c) {
        const isUpdate = c.file === 'flock' && opened === `${paths.locks}/update`;
        return isUpdate ? { code: 75, stdout: '', stderr: '' } : on.host.run(c);
      },
    };
    await recover({ ...on, host });
    expect(w.host.lstat(paths.oldSessions)?.kind).toBe('dir');
    await recover(w.machine());
    expect(w.host.lstat(paths.oldSessions)).toBeUndefined();
  });

  it('also that of a login before whose first write the directory on disk was removed', async () => {
    const w = preparedWorld();
    const on = w.machine();
    w.makeDirs(on.paths.oldSessions);
    const host: Machine['host'] = {
      ...on.host,
      write(path, text, o) {
        if (path.startsWith(on.paths.oldSessions)) w.host.rmdir(on.paths.oldSessions);
        on.host.write(path, text, o);
      },
    };
    expect((await login({ ...on, host }, callOf(w, 'alice', ':0')))?.state).toBe('live');
    expect(inMemory(w)).toHaveLength(1);
  });
});
