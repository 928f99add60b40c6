/** A dry run is another host: later reads see its changes as if they had been made. */
import { describe, expect, it } from 'vitest';
import { perform } from '../../src/desktop/changes.ts';
import { dryRun } from '../../src/linux/dry-run.ts';
import { isMounted } from '../../src/linux/mounts.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

/** The same machine, looked at only; what would be done is told. */
function dry(w: World): { on: Machine; told: string[] } {
  const told: string[] = [];
  const on = w.machine();
  // The world's volumes are no directories, and its backend acts past the host.
  const backend = {
    ...w.backend(),
    path: () => '/srv/tree',
    fork: async () => undefined,
    discard: async () => undefined,
  };
  return { on: { ...on, host: dryRun(on.host, line => told.push(line)), backend: () => backend }, told };
}

describe('a dry run of a login', () => {
  it('tells of every mount and of what is written in the tree, and does nothing', async () => {
    const w = preparedWorld();
    w.makeDirs('/srv/tree/etc');
    const before = w.picture();
    const { on, told } = dry(w);
    const s = await login(on, callOf(w, 'alice', ':0'));
    expect(told).toContain(`mount memory on ${s?.root} ()`);
    expect(told).toContain(`write ${s?.root}/etc/passwd`);
    expect(told.at(-1)).toMatch(/^write .*\/sessions\/u1001-/);
    expect(isMounted(on.host, s?.root ?? '')).toBe(true);
    expect(w.picture()).toBe(before);
  });

  it('tells the same where the tree shows only once it is mounted', async () => {
    const w = preparedWorld();
    const { on, told } = dry(w);
    const device = { ...on.backend('overlay'), path: () => undefined };
    const s = await login({ ...on, backend: () => device }, callOf(w, 'alice', ':0'));
    expect(told).toContain(`write ${s?.root}/etc/passwd`);
  });
});

describe('a dry run of a logout', () => {
  it('ends each process and unmounts once, and waits for nobody', async () => {
    const w = preparedWorld();
    const s = await login(w.machine(), callOf(w, 'alice', ':0'));
    const pid = w.enter(s?.root ?? '', true);
    const before = w.picture();
    const began = w.host.now();
    const { on, told } = dry(w);
    await logout(on, callOf(w, 'alice', ':0'), async (now, m) => void (await stop(m, now)));
    expect(told.filter(line => line.startsWith('send '))).toEqual([`send SIGTERM to process ${pid}`]);
    expect(told.filter(line => line.startsWith('unmount '))).toHaveLength(1);
    expect(w.host.now() - began).toBeLessThan(100);
    expect(w.picture()).toBe(before);
    expect(readSessions(w.host, w.machine().paths)).toHaveLength(1);
  });
});

it.each([true, false])('a dry run of a PAM profile (%s) trusts pam-auth-update', async on => {
  const w = preparedWorld();
  const path = '/etc/pam.d/common-session';
  const line = 'session requisite pam_exec.so /usr/lib/mayfly/hooks/pam/session';
  w.makeDirs('/etc/pam.d');
  w.put(path, on ? 'session optional pam_systemd.so\n' : `${line}\nsession optional pam_systemd.so\n`);
  const { on: machine, told } = dry(w);
  await perform(machine.host, { act: 'profile', path, line: 'mayfly/hooks/pam', on, why: '' });
  expect(told).toEqual([expect.stringMatching(on ? /--enable mayfly$/ : /--disable mayfly$/)]);
});
