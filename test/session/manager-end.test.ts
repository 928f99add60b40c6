/** The end of a user's service manager, for each who may need it. */
import { describe, expect, it } from 'vitest';
import { dryRun } from '../../src/linux/dry-run.ts';
import type { Host } from '../../src/linux/host.ts';
import { logTo } from '../../src/linux/log.ts';
import { end } from '../../src/session/end.ts';
import { login } from '../../src/session/session.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { callOf, preparedWorld } from '../world.ts';

const GROUP = '/user.slice/user-1001.slice/user@1001.service';
const UNIT = 'user@1001.service';
const FORGET = 'timeout -k 1 5 loginctl terminate-user 1001';

interface Case {
  /** Files of logind's sessions. */
  readonly shown?: readonly string[];
  readonly lingers?: boolean;
  /** A new login has named its own root. */
  readonly link?: string;
  /** After how many milliseconds that login restarts the manager, or is refused. */
  readonly freed?: number;
  readonly refused?: number;
  /** How long the services take, in milliseconds. */
  readonly takes?: number;
  readonly code?: number;
  readonly dry?: boolean;
  /** The user has removed the programs of the tree. */
  readonly emptied?: boolean;
}

/** Ends a session with a manager in it; returns the commands, the signals to the manager, and what was logged. */
async function endWith(o: Case) {
  const { shown = [], lingers = false, link, freed, refused, takes = 100, code = 0 } = o;
  const w = preparedWorld();
  for (const path of [
    '/run/systemd/sessions',
    '/run/user/1001',
    '/var/lib/systemd/linger',
    `/sys/fs/cgroup${GROUP}`,
  ])
    w.makeDirs(path);
  const ran: string[] = [];
  const signals: string[] = [];
  const said: string[] = [];
  let over = Number.POSITIVE_INFINITY;
  let began = over;
  const host: Host = {
    ...w.host,
    pid: w.pid,
    run: async c => {
      if (c.file !== 'systemctl' && c.file !== 'timeout') return w.host.run(c);
      ran.push(`${c.file} ${c.args.join(' ')}`);
      over = Math.min(over, w.host.monotonic() + takes);
      return { code: c.file === 'timeout' ? code : 0, stdout: '', stderr: '' };
    },
    kill: (pid, signal) => {
      if (pid === manager) signals.push(signal);
      return w.host.kill(pid, signal);
    },
    sleep: async ms => {
      await w.host.sleep(ms);
      const passed = w.host.monotonic() - began;
      if (refused !== undefined && passed >= refused) w.host.symlink('/', '/run/mayfly/users/1001/root');
      if (w.host.monotonic() >= over || passed >= (freed ?? 1e12)) w.processes.delete(manager);
    },
  };
  const log = logTo((level, words) => void (level === 'warning' && said.push(words)));
  const on: Machine = { ...w.machine(), host, log };
  const s = await login(on, callOf(w, 'alice', ':0'));
  if (!s) throw new Error('out of scope');
  const manager = w.enter(s.root, false, true);
  const process = w.processes.get(manager);
  if (process) process.cgroup = `${GROUP}/app.slice/keeper.service`;
  w.makeDirs(`/sys/fs/cgroup${GROUP}/app.slice/keeper.service`);
  for (const [i, text] of shown.entries()) w.put(`/run/systemd/sessions/${i + 1}`, `UID=1001\n${text}`);
  if (lingers) w.put('/var/lib/systemd/linger/alice', '');
  if (link !== undefined) w.host.symlink(link, '/run/mayfly/users/1001/root');
  if (o.emptied) w.host.rmdir(`${s.root}/usr/lib`);
  began = w.host.monotonic();
  const told: string[] = [];
  // The volumes of this world are not a dry run's.
  if (o.dry) await end({ ...on, host: dryRun(host, line => told.push(line)) }, s.id).catch(() => undefined);
  else await end(on, s.id);
  expect(readSessions(w.host, on.paths)).toHaveLength(o.dry ? 1 : 0);
  return {
    ran,
    signals,
    said,
    told,
    took: w.host.monotonic() - began,
    at: w.host.readlink('/run/mayfly/users/1001/root'),
  };
}

const SEAT = 'CLASS=user\nSTATE=closing\nSERVICE=lightdm\nLEADER=70\n';
const SSH = 'CLASS=user\nSTATE=active\nSERVICE=sshd\nLEADER=80\n';

describe('a service manager in a session', () => {
  it.each<[string, Case, string[]]>([
    ['is ended by logind, which forgets the user', {}, [FORGET]],
    ['is stopped if logind does not answer', { code: 124 }, [FORGET, `systemctl --no-block stop ${UNIT}`]],
    ['is stopped while a login is still closing', { shown: [SEAT] }, [`systemctl --no-block stop ${UNIT}`]],
    ['is restarted for ssh', { shown: [SSH] }, [`systemctl --no-block restart ${UNIT}`]],
    [
      'is restarted for ssh beside a login that closes',
      { shown: [SEAT, SSH] },
      [`systemctl --no-block restart ${UNIT}`],
    ],
    [
      'is restarted for a login in any class of a person',
      { shown: [SSH.replace('user', 'user-light')] },
      [`systemctl --no-block restart ${UNIT}`],
    ],
    [
      'is ended with what is left of a login over ssh',
      { shown: [SSH.replace('active', 'closing')] },
      [`systemctl --no-block stop ${UNIT}`],
    ],
    ['is no reason for itself', { shown: ['CLASS=manager\nSTATE=active\n'] }, [FORGET]],
    ['is restarted for a user who lingers', { lingers: true }, [`systemctl --no-block restart ${UNIT}`]],
  ])('%s', async (_, what, expected) => {
    const { ran, signals, said, at } = await endWith(what);
    expect(ran).toEqual(expected);
    expect(signals).toEqual([]);
    expect(said).toEqual([]);
    expect(at).toBe('/');
  });

  it('is left to a new login that waits for it', async () => {
    const link = '/run/mayfly/roots/u1001-99999999';
    const { ran, signals, at } = await endWith({ link, freed: 7000 });
    expect(ran).toEqual([]);
    expect(signals).toEqual([]);
    expect(at).toBe(link);
  });

  it('is asked to end if that login is refused', async () => {
    const { ran, signals, took } = await endWith({ link: '/run/mayfly/roots/u1001-99999999', refused: 7000 });
    expect([...new Set(ran)]).toEqual([FORGET]);
    expect(signals).toEqual([]);
    expect(took).toBeLessThan(20_000);
  });

  it('is described by a dry run, which does not wait for it', async () => {
    const { ran, told, took } = await endWith({ dry: true });
    expect(ran).toEqual([]);
    expect(told).toContain(`run ${FORGET}`);
    expect(took).toBeLessThan(2000);
  });

  it('has as long as its services need, and is asked once', async () => {
    const { ran, signals, said, took } = await endWith({ takes: 90_000 });
    expect([...new Set(ran)]).toEqual([FORGET]);
    expect(signals).toEqual([]);
    expect(said).toEqual([]);
    expect(took).toBeGreaterThanOrEqual(90_000);
    expect(took).toBeLessThan(91_000);
  });

  it('is killed if its tree has no programs any more, after it was asked', async () => {
    const { ran, signals, took } = await endWith({ takes: 1e9, emptied: true });
    expect([...new Set(ran)]).toEqual([FORGET]);
    expect(signals).toContain('SIGKILL');
    expect(took).toBeLessThan(30_000);
  });

  it('is killed if systemd does not end it, and that is told', async () => {
    const { signals, said, took } = await endWith({ takes: 1e9 });
    expect(signals).toContain('SIGKILL');
    expect(said[0]).toMatch(/^u1001-\w+ of alice: killed while still at work on ending: keeper\.service$/);
    expect(took).toBeGreaterThanOrEqual(150_000);
    expect(took).toBeLessThan(155_000);
  });
});
