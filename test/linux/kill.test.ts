/** Processes of the host are never killed or counted as in a session, whatever device numbers a record has (2009). */
import { describe, expect, it } from 'vitest';
import { killAll } from '../../src/linux/kill.ts';
import { findHolders } from '../../src/linux/processes.ts';
import { World } from '../world.ts';

const LIMITS = { grace: 10, timeout: 1000 };

/** A machine on which each of these is a separate file system with a process in it. */
const HOST = ['/usr', '/var', '/home', '/tmp', '/run', '/dev', '/dev/shm', '/dev/pts', '/proc', '/sys'];
function hostWithMounts(): World {
  const w = new World();
  for (const path of HOST) {
    w.mountEmpty(path);
    w.enter(path);
  }
  return w;
}

const devOf = (w: World, path: string): number => w.host.stat(path)?.dev ?? 0;

describe.each(['/', ...HOST])('the device of the host’s %s', path => {
  it('kills no process, not even together with the device of a session', async () => {
    const w = hostWithMounts();
    w.mountEmpty('/session');
    const inside = w.enter('/session');
    const before = [...w.processes.keys()];
    const devices = new Set([devOf(w, '/session'), devOf(w, path)]);
    const target = { devices, group: undefined, uid: 1001 };
    await expect(killAll(w.host, target, LIMITS)).rejects.toMatchObject({
      code: 'unsafe',
      message: expect.stringContaining(`that of "${path}" on the host`),
    });
    expect([...w.processes.keys()]).toEqual(before);
    expect(before).toContain(inside);
  });

  it('makes no process a holder', async () => {
    const w = hostWithMounts();
    await expect(findHolders(w.host, new Set([devOf(w, path)]), '/session')).rejects.toThrow(
      `device ${devOf(w, path)} is that of "${path}" on the host; refusing to kill the processes that use it`,
    );
  });
});

it('the device of a session kills only the processes in it', async () => {
  const w = hostWithMounts();
  w.mountEmpty('/session');
  const others = [...w.processes.keys()];
  for (const stubborn of [true, false]) w.enter('/session', stubborn);
  await killAll(w.host, { devices: new Set([devOf(w, '/session')]), group: undefined, uid: 1001 }, LIMITS);
  expect([...w.processes.keys()]).toEqual(others);
});

describe('a process outside the session', () => {
  it('that works in its tree is killed if it is the user’s own, and spared if not', async () => {
    const w = hostWithMounts();
    w.mountEmpty('/session');
    const own = w.visit('/session', 1001);
    const others = [w.visit('/session', 0), w.visit('/session', 1002)];
    await killAll(w.host, { devices: new Set([devOf(w, '/session')]), group: undefined, uid: 1001 }, LIMITS);
    expect(w.processes.has(own)).toBe(false);
    for (const pid of others) expect(w.processes.has(pid)).toBe(true);
  });
});

it('this process is spared, also if it is in the control group of the session', async () => {
  const w = hostWithMounts();
  w.makeDirs('/sys/fs/cgroup/mayfly.x');
  const self = w.processes.get(w.pid);
  if (self) self.cgroup = '/mayfly.x';
  const target = { devices: new Set<number>(), group: '/sys/fs/cgroup/mayfly.x', uid: 1001 };
  await killAll({ ...w.host, pid: w.pid }, target, LIMITS);
  expect(w.processes.has(w.pid)).toBe(true);
});
