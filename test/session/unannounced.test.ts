/** Logins that no hook announces: which ones keep a session, and what becomes of it when the announced ones are over. */
import { describe, expect, it } from 'vitest';
import type { LogindSession } from '../../src/linux/logind.ts';
import { identify } from '../../src/linux/process-id.ts';
import { reap } from '../../src/service/reaper.ts';
import { recover } from '../../src/service/recover.ts';
import { overBecause } from '../../src/session/end-reason.ts';
import { login, logout } from '../../src/session/session.ts';
import { entryOf, isLogin, unannouncedLogins } from '../../src/session/unannounced.ts';
import { readSession, readSessions, type Session } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const ID = 'u1001-0123abcd';

describe('a command line of schroot', () => {
  it.each<[string, 'wrapper' | 'typed' | undefined]>([
    [`schroot -c ${ID} -d /home/alice -p -- /etc/X11/Xsession`, 'wrapper'],
    [`/usr/bin/schroot -c ${ID} -d / -p -- openbox -c u1-0`, 'wrapper'],
    [`schroot -c ${ID}`, 'typed'],
    [`schroot -p -c ${ID} bash`, 'typed'],
    [`schroot -c ${ID} -- bash`, 'typed'],
    [`schroot --chroot=${ID}`, 'typed'],
    [`schroot --chroot ${ID}`, 'typed'],
    [`schroot -c${ID}`, 'typed'],
    [`schroot -c chroot:${ID}`, 'typed'],
    ['schroot -c u1001-89abcdef -d / -p -- openbox', undefined],
    [`schroot -c sid -- ls ${ID}`, undefined],
    ['schroot -l', undefined],
    ['', undefined],
  ])('%s', (line, entry) => expect(entryOf(line.split(' '), ID)).toBe(entry));
});

const CALLER = { pid: 60, start: '60' };

/** A logind session of alice. */
const shown = (service: string, more: Partial<LogindSession> = {}): LogindSession => ({
  ...{ id: 'c9', uid: 1001, state: 'active', class: 'user', display: '', leader: 900, began: 0 },
  ...{ service, ...more },
});
const closing = { state: 'closing' };

describe('what has entered a session', () => {
  const pam = { logins: [{ adapter: 'pam' as const, caller: CALLER, since: 0 }] };
  it.each<[string, 'wrapper' | 'typed', LogindSession | undefined, boolean]>([
    ['a desktop of x2go', 'wrapper', shown('sshd'), true],
    ['a shell over ssh', 'typed', shown('sshd'), true],
    ['a desktop of VNC whose ssh has ended', 'wrapper', shown('sshd', closing), true],
    ['a program that ssh has left behind', 'typed', shown('sshd', closing), false],
    ['a desktop of xrdp', 'wrapper', shown('xrdp-sesman'), true],
    ['what is left of xrdp', 'wrapper', shown('xrdp-sesman', closing), false],
    ['what is left of tigervnc', 'wrapper', shown('tigervnc', closing), false],
    ['lightdm’s', 'wrapper', shown('lightdm'), false],
    ['what is left of lightdm’s', 'wrapper', shown('lightdm', closing), false],
    ['lightdm’s automatic login', 'wrapper', shown('lightdm-autologin'), false],
    ['gdm’s', 'wrapper', shown('gdm-password'), false],
    ['greetd’s, which PAM has announced', 'wrapper', shown('greetd', { leader: CALLER.pid }), false],
    ['greetd’s, which is not enabled', 'wrapper', shown('greetd'), true],
    ['what is left of greetd’s', 'wrapper', shown('greetd', closing), false],
    ['a login of a later class', 'wrapper', shown('sshd', { class: 'user-early' }), true],
    ['a job of cron', 'wrapper', shown('cron', { class: 'background' }), false],
    ['a desktop outside of logind', 'wrapper', undefined, true],
    ['a program outside of logind', 'typed', undefined, false],
  ])('%s', (_, entry, a, counts) => expect(isLogin(pam, entry, a, false)).toBe(counts));

  it('in the group of a display manager is its', () =>
    expect(isLogin(pam, 'wrapper', undefined, true)).toBe(false));
});

/** The schroot process of a desktop that somebody started beside the display manager, in an ssh login by default. */
function desktop(
  w: World,
  s: Session,
  group = '/user.slice/user-1001.slice/session-c9.scope',
  uid = 1001,
): number {
  const words = ['schroot', '-c', s.id, '-d', '/home/alice', '-p', '--', 'x2goagent'];
  const o = { start: '900', dev: w.rootDev, comm: 'schroot', ignoresTerm: false, cgroup: group, uid, words };
  w.processes.set(900, o);
  return 900;
}

function logind(w: World, service = 'sshd', state = 'active'): void {
  w.makeDirs('/run/systemd/sessions');
  w.put('/run/systemd/sessions/c9', `UID=1001\nSTATE=${state}\nCLASS=user\nSERVICE=${service}\nLEADER=890\n`);
}

async function loggedIn(w: World): Promise<Session> {
  const s = await login(w.machine(), callOf(w, 'alice', ':0'));
  if (!s) throw new Error('out of scope');
  return s;
}

const mustNotEnd = async (): Promise<void> => {
  throw new Error('the session was ended');
};

describe('a desktop that no hook has announced', () => {
  it('keeps the session when the login at the seat is over, and ends it', async () => {
    const w = preparedWorld();
    logind(w);
    const s = await loggedIn(w);
    const pid = desktop(w, s);
    expect(await logout(w.machine(), callOf(w, 'alice', ':0'), mustNotEnd)).toBe('others remain');
    const kept = readSession(w.host, w.machine().paths, s.id);
    expect(kept).toMatchObject({ state: 'live', logins: [{ adapter: 'wrapper', caller: { pid } }] });
    expect(overBecause(w.host, kept ?? s)).toBeUndefined();
    expect((await recover(w.machine())).ended).toEqual([]);
    w.processes.delete(pid);
    expect(overBecause(w.host, kept ?? s)).toBe('its last login has ended');
    expect((await recover(w.machine())).ended).toEqual([s.id]);
    expect(w.host.list('/run/mayfly/roots')).toEqual([]);
  });

  it('is joined by the next login at the seat', async () => {
    const w = preparedWorld();
    logind(w);
    const s = await loggedIn(w);
    desktop(w, s);
    await logout(w.machine(), callOf(w, 'alice', ':0'), mustNotEnd);
    const again = await loggedIn(w);
    expect(again.id).toBe(s.id);
    expect(again.logins.map(l => l.adapter)).toEqual(['wrapper', 'lightdm']);
    w.processes.delete(900);
    const ended: string[] = [];
    await logout(w.machine(), callOf(w, 'alice', ':0'), async one => void ended.push(one.id));
    expect(ended).toEqual([s.id]);
  });

  it.each([
    [
      'the service',
      async (w: World, s: Session) => {
        await reap(w.machine(), s, one => ({ because: overBecause(w.host, one) ?? '', left: [] }));
      },
    ],
    ['recovery', async (w: World) => void (await recover(w.machine()))],
    [
      'the next login',
      async (w: World) => {
        w.processes.set(50, { start: '51', dev: w.rootDev, comm: 'lightdm', ignoresTerm: true, cgroup: '' });
        await login(w.machine(), callOf(w, 'alice', ':0'));
      },
    ],
  ])('keeps it if the display manager is gone: %s', async (_, act) => {
    const w = preparedWorld();
    logind(w);
    const s = await loggedIn(w);
    desktop(w, s);
    w.processes.delete(50);
    await act(w, s);
    const all = readSessions(w.host, w.machine().paths);
    expect(all.map(one => [one.id, one.state])).toEqual([[s.id, 'live']]);
    expect(all[0]?.logins[0]).toMatchObject({ adapter: 'wrapper', caller: { pid: 900 } });
  });

  it.each<[string, (w: World, s: Session) => void]>([
    [
      'it is of lightdm',
      (w, s) => {
        logind(w, 'lightdm', 'closing');
        desktop(w, s);
      },
    ],
    ['there is no logind', (w, s) => void desktop(w, s)],
    [
      'it is somebody else’s',
      (w, s) => {
        logind(w);
        desktop(w, s, '/', 1002);
      },
    ],
    [
      'the person’s manager has started it',
      (w, s) => {
        logind(w);
        desktop(w, s, '/user.slice/user-1001.slice/user@1001.service/app.slice/x.scope');
      },
    ],
    [
      'it is in another session',
      (w, s) => {
        logind(w);
        desktop(w, { ...s, id: 'u1001-89abcdef' });
      },
    ],
    [
      'it has ended',
      (w, s) => {
        logind(w);
        desktop(w, s);
        w.processes.delete(900);
      },
    ],
    [
      'it is no program of root',
      (w, s) => {
        logind(w);
        desktop(w, s);
        const { words: _, ...plain } = w.processes.get(900) ?? w.processes.get(1) ?? (undefined as never);
        w.processes.set(900, plain);
      },
    ],
  ])('does not keep it if %s', async (_, prepare) => {
    const w = preparedWorld();
    const s = await loggedIn(w);
    prepare(w, s);
    const ended: string[] = [];
    expect(await logout(w.machine(), callOf(w, 'alice', ':0'), async one => void ended.push(one.id))).toBe(
      'ended',
    );
    expect(ended).toEqual([s.id]);
  });

  it('does not keep it from "mayfly end"', async () => {
    const w = preparedWorld();
    logind(w);
    const s = await loggedIn(w);
    desktop(w, s);
    const { end } = await import('../../src/session/end.ts');
    await end(w.machine(), s.id);
    expect(readSessions(w.host, w.machine().paths)).toEqual([]);
  });

  it('whose leader is inside counts without schroot', async () => {
    const w = preparedWorld();
    const s = await loggedIn(w);
    const leader = w.enter(s.root);
    w.makeDirs('/run/systemd/sessions');
    w.put(
      '/run/systemd/sessions/c9',
      `UID=1001\nSTATE=active\nCLASS=user\nSERVICE=login\nLEADER=${leader}\n`,
    );
    const on = w.machine();
    const tables: Readonly<Record<string, string>> = {
      '/proc/self/mountinfo': `9 1 0:9 / / rw - ext4 x rw\n30 9 0:7 /a ${s.root} rw - btrfs x rw\n`,
      [`/proc/${leader}/mountinfo`]: '31 1 0:7 /a / rw - btrfs x rw\n',
    };
    const host = {
      ...on.host,
      read: (path: string) => tables[path] ?? on.host.read(path),
      stat(path: string) {
        // The file system of the leader may be one that does not answer.
        if (path === `/proc/${leader}/root`) throw new Error('hangs');
        return on.host.stat(path);
      },
    };
    const ours = { ...on, host };
    const other = { ...s, root: '/run/mayfly/roots/another' };
    expect(unannouncedLogins(host, other)).toEqual([]);
    expect(await logout(ours, callOf(w, 'alice', ':0'), mustNotEnd)).toBe('others remain');
    expect(readSessions(w.host, w.machine().paths)[0]?.logins).toMatchObject([
      { caller: identify(w.host, leader) },
    ]);
  });
});
