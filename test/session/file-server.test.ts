/** Logins and logouts on a machine with file servers, of which some never answer. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Host } from '../../src/linux/host.ts';
import { LOOK_PROGRAM } from '../../src/linux/process-look.ts';
import { ANSWER_PROGRAM } from '../../src/linux/time-limits.ts';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { login, stop } from '../../src/session/session.ts';
import { probation, writeProbation } from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { makeDirectories } from '../../src/state/paths.ts';
import { readSession, readSessions, writeSession } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const LINKS = /^\/proc\/\d+\/(root|cwd|exe|fd\/)/;

/** What would have hung in this process. */
const hung: string[] = [];
afterEach(() => {
  expect(hung.splice(0)).toEqual([]);
});

/** A machine with a remote file system at `place`; `silent`: it does not answer. */
function withServer(w: World, place: string, silent: boolean): { on: Machine; programs: string[] } {
  const on = w.machine();
  const programs: string[] = [];
  const hanging = (path: string): boolean =>
    LINKS.test(path) || (silent && (path === place || path.startsWith(`${place}/`)));
  const look =
    <T>(act: (path: string) => T) =>
    (path: string): T => {
      if (hanging(path)) hung.push(path);
      return act(path);
    };
  const host: Host = {
    ...on.host,
    list: path => (path === '/sys/class/bdi' ? ['8:0', '0:50'] : on.host.list(path)),
    read: path =>
      path === '/proc/self/mountinfo' ? `30 1 0:50 / ${place} rw - nfs4 server:/x rw\n` : on.host.read(path),
    stat: look(on.host.stat),
    lstat: look(on.host.lstat),
    exists: look(on.host.exists),
    pathType: look(on.host.pathType),
    space: look(on.host.space),
    run: async c => {
      const program = c.args[1] ?? '';
      const paths = c.args.slice(c.args.indexOf('--') + 1);
      if (c.file === 'perl') programs.push(program);
      if (program === ANSWER_PROGRAM && silent && paths.some(hanging))
        return { code: 124, stdout: '\n'.repeat(paths.findIndex(hanging)), stderr: '' };
      return on.host.run(c);
    },
  };
  return { on: { ...on, host, backend: () => w.backend() }, programs };
}

function homeAt(w: World, home: string): void {
  w.makeDirs(home);
  w.put('/etc/passwd', `root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::${home}:/bin/sh\n`);
}

describe('a login with a home directory on a file server', () => {
  it.each([
    ['that is mounted for the session', '/net/alice', '/net', '/net/alice'],
    ['below /home', '/home/alice', '/home', '/home'],
  ])(
    '%s is refused if it does not answer, and nothing is left or blamed',
    async (_what, home, place, path) => {
      const w = preparedWorld();
      homeAt(w, home);
      makeDirectories(w.host, w.machine().paths);
      const { on } = withServer(w, place, true);
      writeProbation(on.host, on.paths, { number: 1, previous: 0, failures: 0 });
      const before = w.picture();
      await expect(login(on, callOf(w, 'alice', ':0'))).rejects.toMatchObject({
        code: 'timeout',
        message: `"${path}" did not answer within 10 s; its file server may be down`,
        facts: { hint: `timeout 5 stat ${path}` },
      });
      expect(w.picture()).toBe(before);
      expect(probation(on.host, on.paths)).toMatchObject({ failures: 0 });
    },
  );

  it('that answers succeeds, and its logout follows no link of a process', async () => {
    const w = preparedWorld();
    homeAt(w, '/net/alice');
    const { on, programs } = withServer(w, '/net', false);
    const s = await login(on, callOf(w, 'alice', ':0'));
    expect(s?.mounts).toContainEqual(expect.objectContaining({ source: '/net/alice' }));
    const inside = w.enter(s?.root ?? '');
    programs.length = 0;
    await end(on, s?.id ?? '');
    expect(w.processes.has(inside)).toBe(false);
    expect(programs.filter(p => p === LOOK_PROGRAM).length).toBeLessThanOrEqual(3);
  });

  it.each([
    ['/net', '/net/alice'],
    ['/home', '/home/alice'],
  ])('at %s that dies meanwhile does not keep the session', async (place, home) => {
    const w = preparedWorld();
    homeAt(w, home);
    const s = await login(withServer(w, place, false).on, callOf(w, 'alice', ':0'));
    const inside = w.enter(s?.root ?? '');
    const { on } = withServer(w, place, true);
    await end(on, s?.id ?? '');
    expect(w.processes.has(inside)).toBe(false);
    expect(w.host.list(on.paths.sessions)).toEqual([]);
    expect(await recover(on)).toEqual({ ended: [], swept: [], stuck: [] });
  });

  it('that has died does not concern those whose files are elsewhere', async () => {
    const w = preparedWorld();
    const { on } = withServer(w, '/net', true);
    const s = await login(on, callOf(w, 'alice', ':0'));
    w.enter(s?.root ?? '');
    await end(on, s?.id ?? '');
    expect(w.host.list(on.paths.sessions)).toEqual([]);
  });
});

it('a machine without file servers needs no child for any of this', async () => {
  const w = preparedWorld();
  const on = w.machine();
  const ran: string[] = [];
  const host: Host = {
    ...on.host,
    run: async c => {
      ran.push(c.file);
      return on.host.run(c);
    },
  };
  const s = await login({ ...on, host }, callOf(w, 'alice', ':0'));
  w.enter(s?.root ?? '');
  await end({ ...on, host }, s?.id ?? '');
  expect(ran.filter(file => file === 'perl')).toHaveLength(2); // the mounts, and the unmount
});

describe('the agent, which must not wait for a file server', () => {
  const CLIENT = { pid: 4242, start: '4242' };
  const left = expect.objectContaining({ name: 'NeedsOwnProcess' });

  it.each([
    ['at their home directory', '/net/alice', '/net'],
    ['at another directory of the session', '/home/alice', '/srv'],
    ['below /home', '/home/alice', '/home'],
  ])('leaves a login to a process of its own before anything is done: %s', async (_, home, place) => {
    for (const silent of [true, false]) {
      const w = preparedWorld();
      homeAt(w, home);
      w.makeDirs(place);
      makeDirectories(w.host, w.machine().paths);
      const { on } = withServer(w, place, silent);
      const before = w.picture();
      const { mounts } = on.config;
      const config = { ...on.config, mounts: { ...mounts, rbind: [...mounts.rbind, '/srv'] } };
      const all = { ...on, config, client: CLIENT };
      await expect(login(all, callOf(w, 'alice', ':0'))).rejects.toEqual(left);
      expect(w.picture()).toBe(before);
    }
  });

  it.each(['autofs', 'beegfs', 'vboxsf', 'fuse.sshfs', 'overlay'])(
    'leaves a home on %s to a process of its own, also where the kernel lists nothing that may hang',
    async type => {
      const w = preparedWorld();
      makeDirectories(w.host, w.machine().paths);
      const on = w.machine();
      const read: Host['read'] = path =>
        path === '/proc/self/mountinfo' ? `30 1 0:50 / /home rw - ${type} x rw\n` : on.host.read(path);
      const looked: string[] = [];
      const lstat: Host['lstat'] = path => {
        looked.push(path);
        return on.host.lstat(path);
      };
      const ours = { ...on, host: { ...on.host, read, lstat }, client: CLIENT };
      await expect(login(ours, callOf(w, 'alice', ':0'))).rejects.toEqual(left);
      expect(looked.filter(path => path.startsWith('/home'))).toEqual([]);
    },
  );

  it('logs everybody else in itself, with one command for the lock and one for all mounts', async () => {
    const w = preparedWorld();
    const { on } = withServer(w, '/net', true);
    const ran: string[] = [];
    const run: Host['run'] = c => {
      ran.push(c.file);
      return on.host.run(c);
    };
    await login({ ...on, client: CLIENT }, callOf(w, 'bob', ':1')); // makes what the first login since boot makes
    const s = await login({ ...on, host: { ...on.host, run }, client: CLIENT }, callOf(w, 'alice', ':0'));
    expect(ran).toEqual(['flock', 'perl']);
    expect(s).toMatchObject({ state: 'live', starter: CLIENT });
  });

  it('takes nothing down itself, before its record says so: not an earlier session, nor a login that has failed', async () => {
    const w = preparedWorld();
    const { on } = withServer(w, '/net', true);
    const ours = { ...on, client: CLIENT };
    const s = await login(ours, callOf(w, 'alice', ':0'));
    if (!s) throw new Error('alice has no session');
    await expect(stop(ours, s)).rejects.toEqual(left);
    expect(readSession(w.host, on.paths, s.id)).toEqual(s);
    writeSession(w.host, on.paths, { ...s, state: 'ending' });
    await expect(login(ours, callOf(w, 'alice', ':0'))).rejects.toEqual(left);
    // In a process of its own, the same call does all of it.
    expect(await login(on, callOf(w, 'alice', ':0'))).toMatchObject({ state: 'live' });
    w.makeDirs('/home/bob'); // otherwise perl looks at it first
    w.failing.add('perl');
    await expect(login(ours, callOf(w, 'bob', ':1'))).rejects.toEqual(left);
    w.failing.delete('perl');
    expect(await login(on, callOf(w, 'bob', ':1'))).toMatchObject({ state: 'live' });
    expect(readSessions(w.host, on.paths)).toHaveLength(2);
  });

  it('does all of it itself on a machine where nothing can hang', async () => {
    const w = preparedWorld();
    const ours = { ...w.machine(), client: CLIENT };
    const s = await login(ours, callOf(w, 'alice', ':0'));
    if (s) await stop(ours, s);
    expect(readSessions(w.host, ours.paths)).toEqual([]);
  });
});
