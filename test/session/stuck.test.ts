/** A session that cannot be ended is kept with its reason, or leads to a reboot if that is configured. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { logTo } from '../../src/linux/log.ts';
import { isMounted } from '../../src/linux/mounts.ts';
import { identify } from '../../src/linux/process-id.ts';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { applyRebootPolicy, isPatienceOver, REBOOT_PATIENCE } from '../../src/session/reboot-policy.ts';
import { login } from '../../src/session/session.ts';
import { loginBlockReason } from '../../src/state/login-block.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSessions, writeSession } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

async function stuckWorld(): Promise<{ w: World; id: string }> {
  const w = preparedWorld();
  const caller = identify(w.host, 50);
  if (!caller) throw new Error('no display manager');
  const s = await login(w.machine(), { adapter: 'lightdm', user: 'alice', display: ':0', caller });
  w.failing.add('perl');
  return { w, id: s?.id ?? '' };
}

function withPolicy(on: Machine, on_stuck: 'keep' | 'reboot'): { on: Machine; ran: string[] } {
  const ran: string[] = [];
  const host: Machine['host'] = {
    ...on.host,
    run: async c => {
      ran.push(c.file);
      return c.file === 'shutdown' ? { code: 0, stdout: '', stderr: '' } : on.host.run(c);
    },
  };
  return { on: { ...on, host, config: { ...on.config, logout: { ...on.config.logout, on_stuck } } }, ran };
}

describe('a teardown that fails', () => {
  it('keeps the record, volume and pin, records the step, and is completed by recover', async () => {
    const { w, id } = await stuckWorld();
    await expect(end(w.machine(), id)).rejects.toThrow(/perl/);
    const [kept] = readSessions(w.host, w.machine().paths);
    expect(kept).toMatchObject({ id, state: 'ending', generation: 1 });
    expect(kept?.stuck).toMatch(/^mounts: "perl" failed/);
    expect([...w.volumes.keys()].some(k => k.endsWith(id))).toBe(true);
    expect((await recover(w.machine())).stuck).toEqual([expect.stringMatching(id)]);
    w.failing.clear();
    expect((await recover(w.machine())).ended).toEqual([id]);
    expect(readSessions(w.host, w.machine().paths)).toEqual([]);
  });

  /** A machine on which one session, of alice, has been stuck for so long that nobody waits any more. */
  async function patientWorld(): Promise<{ w: World; id: string }> {
    const { w, id } = await stuckWorld();
    await expect(end(w.machine(), id)).rejects.toThrow(/perl/);
    w.failing.clear();
    await w.host.sleep(REBOOT_PATIENCE + 10_000);
    return { w, id };
  }
  const HELD = new MayflyError('stuck', 'held');
  const reboots = (ran: readonly string[]): boolean => ran.includes('shutdown');

  it.each([
    ['keep', 'stuck', false],
    ['reboot', 'stuck', true],
    ['reboot', 'other', false],
  ] as const)('with on_stuck = "%s" and a %s error reboots: %j', async (policy, kind, expected) => {
    const { w, id } = await patientWorld();
    const { on, ran } = withPolicy(w.machine(), policy);
    await applyRebootPolicy(on, id, kind === 'stuck' ? HELD : new Error('x'));
    expect(reboots(ran)).toBe(expected);
  });

  it('has patience: not at the first attempt, nor at the next ones, nor for what another boot has left', async () => {
    const { w, id } = await stuckWorld();
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    const since = (): number | undefined => readSessions(w.host, on.paths)[0]?.stuckSince;
    await expect(end(on, id)).rejects.toThrow(/perl/);
    const first = since();
    expect(first).toBe(w.host.monotonic());
    await w.host.sleep(REBOOT_PATIENCE);
    await expect(end(on, id)).rejects.toThrow(/perl/);
    expect(since()).toBe(first); // and it counts from the first
    w.failing.clear();
    await applyRebootPolicy(on, id, HELD);
    expect(reboots(ran)).toBe(false); // the grace is left
    await w.host.sleep(10_000);
    w.boot = 'boot-2';
    await applyRebootPolicy(on, id, HELD);
    expect(reboots(ran)).toBe(false);
    w.boot = 'boot-1';
    await applyRebootPolicy(on, 'u1001-00000000', HELD);
    expect(reboots(ran)).toBe(false);
    await applyRebootPolicy(on, id, HELD);
    expect(reboots(ran)).toBe(true);
  });
  it.each([
    [undefined, 1e9, 0, false],
    [1000, 1000 + REBOOT_PATIENCE, 0, true],
    [1000, 999 + REBOOT_PATIENCE, 0, false],
    [1000, 1000 + REBOOT_PATIENCE, 1, false],
    [1e9, 5, 0, false],
  ])('since %j, at %d, with a grace of %d: over %j', (stuckSince, now, grace, over) =>
    expect(isPatienceOver(stuckSince === undefined ? {} : { stuckSince }, now, grace)).toBe(over),
  );

  it.each([
    ['of the host', 0, false],
    ['of another person', 1002, false],
    ['of a container of the user', 100_007, true],
    ['of the user', 1001, true],
  ])('with on_stuck = "reboot", for a process %s (uid %d) reboots: %j', async (_what, uid, expected) => {
    const { w, id } = await patientWorld();
    w.put('/etc/subuid', 'alice:100000:65536\n');
    const [s] = readSessions(w.host, w.machine().paths);
    const cwd = s?.devices[0] ?? 0;
    w.processes.set(777, { start: '7', dev: 1, comm: 'backup', ignoresTerm: true, cgroup: '/', uid, cwd });
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    const said: string[] = [];
    await applyRebootPolicy({ ...on, log: logTo((_, words) => said.push(words)) }, id, HELD);
    expect(reboots(ran)).toBe(expected);
    if (!expected)
      expect(said.join()).toMatch(/not rebooting for the stuck session .*: it is kept by process 777 backup/);
  });
  it('does not reboot if it cannot look who keeps the session', async () => {
    const { w, id } = await patientWorld();
    w.failing.add('perl');
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    await applyRebootPolicy(on, id, HELD);
    expect(reboots(ran)).toBe(false);
  });

  /** The same machine with a logind that lists this session. */
  const withLogind = (w: World, on: Machine, one: object | undefined): Machine => {
    w.makeDirs('/run/systemd/sessions');
    const run: Machine['host']['run'] = async c => {
      if (!c.args.includes('busctl')) return on.host.run(c);
      if (!one) throw new MayflyError('command', 'no answer');
      const list = '{"type":"a(susso)","data":[[["3",1002,"bob","","/s/_33"]]]}';
      return {
        code: 0,
        stdout: c.args.includes('ListSessions') ? list : JSON.stringify({ data: [one] }),
        stderr: '',
      };
    };
    return { ...on, host: { ...on.host, run } };
  };
  const bobs = (o: object): object => ({
    ...{ User: { data: [1002, '/u'] }, Class: { data: 'user' }, State: { data: 'active' }, ...o },
  });

  it.each([
    ['somebody is logged in over ssh', bobs({ Service: { data: 'sshd' } }), []],
    ['somebody is on a console', bobs({ Service: { data: 'login' }, Type: { data: 'tty' } }), []],
    ['root is on a console', bobs({ Class: { data: 'user-early' } }), []],
    ['somebody without a manager is there', bobs({ Class: { data: 'user-light' } }), []],
    ['root without a manager is there', bobs({ Class: { data: 'user-early-light' } }), []],
    ['somebody with a locked home is there', bobs({ Class: { data: 'user-incomplete' } }), []],
    ['logind does not answer', undefined, []],
    ['only the greeter is there', bobs({ Class: { data: 'greeter' } }), ['shutdown']],
    ['only a manager is there', bobs({ Class: { data: 'manager' } }), ['shutdown']],
    ['only a cron job is there', bobs({ Class: { data: 'background' } }), ['shutdown']],
    ['whoever was there has left', bobs({ State: { data: 'closing' } }), ['shutdown']],
  ])('with on_stuck = "reboot", if %s, runs', async (_what, one, expected) => {
    const { w, id } = await patientWorld();
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    await applyRebootPolicy(withLogind(w, on, one), id, HELD);
    expect(ran.filter(file => file === 'shutdown')).toEqual(expected);
    expect(loginBlockReason(on) !== undefined).toBe(expected.length > 0);
  });

  it.each([
    ['somebody is about to log in', { state: 'starting' }],
    ['another session is live', { state: 'live' }],
    [
      'programs of another session save',
      {
        state: 'ending',
        saving: { asked: 0, until: 1e12, processes: [], who: 'a saver' },
      },
    ],
  ] as const)('never reboots while %s', async (_what, other) => {
    const { w, id } = await patientWorld();
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    const s = await login(w.machine(), callOf(w, 'bob', ':1'));
    if (s) writeSession(on.host, on.paths, { ...s, ...other });
    await applyRebootPolicy(on, id, HELD);
    expect([reboots(ran), loginBlockReason(on)]).toEqual([false, undefined]);
  });
});

describe('a tree that root in the session has made unfit to be looked at', () => {
  /** The machine, on which a look at these paths below the root fails as long as they are there. */
  const blind = (w: World, on: Machine, root: string, code: string, below: readonly string[]): Machine => {
    const lstat: Machine['host']['lstat'] = path => {
      const there = w.host.lstat(path);
      const fails = isMounted(w.host, root) && below.some(name => path === root + name);
      if (there === undefined || !fails) return there;
      throw Object.assign(new Error(`${code}: ${path}`), { code });
    };
    return { ...on, host: { ...on.host, lstat } };
  };

  it.each(
    ['ELOOP', 'ENAMETOOLONG', 'EACCES', 'EIO', 'ESTALE', 'ENOTCONN'].flatMap(code => [
      [code, 'below it', ['/run', '/home/alice', '/dev/shm', '/home', '/tmp']] as const,
      [code, 'at its top', ['']] as const,
    ]),
  )('keeps neither its processes nor its mounts: %s %s', async (code, _, below) => {
    const w = preparedWorld();
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', 'ephemeral_home = ["alice"]\n');
    const s = await login(w.machine(), callOf(w, 'alice', ':0'));
    const root = s?.root ?? '';
    const inside = w.enter(root);
    w.makeDirs('/sys/block/loop7/loop');
    w.put('/sys/block/loop7/loop/backing_file', '/tmp/deep/image\n');
    w.programs.losetup = () => ({ stdout: '/dev/loop7 9:9 /tmp/deep/image\n' });
    const on = blind(w, w.machine(), root, code, below);
    await end(on, s?.id ?? '');
    expect(w.processes.has(inside)).toBe(false);
    expect(readSessions(w.host, w.machine().paths)).toEqual([]);
    expect(w.host.lstat(root)).toBeUndefined();
    expect([...w.volumes.keys()].some(k => k.endsWith(s?.id ?? ''))).toBe(false);
  });
});

describe('a user whose sessions cannot be ended', () => {
  const attempt = (w: World, on: Machine = w.machine()) => login(on, callOf(w, 'alice', ':0'));
  /** Logs in, and out in vain: the volume stays in use. */
  async function getStuck(w: World): Promise<void> {
    const s = await attempt(w);
    w.failing.add('perl');
    await expect(end(w.machine(), s?.id ?? '')).rejects.toThrow();
    w.failing.clear();
  }

  it('logs in until there are "logout.max_stuck" of them, and again when one has ended', async () => {
    const w = preparedWorld();
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', '[logout]\nmax_stuck = 2\n');
    await getStuck(w);
    await getStuck(w);
    const before = w.picture();
    const [first] = readSessions(w.host, w.machine().paths);
    await expect(attempt(w)).rejects.toMatchObject({
      code: 'stuck',
      message: `2 sessions of alice cannot be ended, and "logout.max_stuck" is 2; the first is ${first?.id}: ${first?.stuck}`,
    });
    expect(w.picture()).toBe(before);
    expect((await login(w.machine(), callOf(w, 'bob', ':1')))?.state).toBe('live');
    await end(w.machine(), first?.id ?? '');
    expect((await attempt(w))?.state).toBe('live');
  });

  const day = 86_400_000;
  it.each([
    ['is held', { age: day, deleted: true, session: 'u1001-0000000a' }, true],
    ['waits for btrfs', { age: 30_000, deleted: true, session: 'u1001-0000000a' }, false],
    ['waits to be erased', { age: day, deleted: false, session: 'u1001-0000000a' }, false],
    ['of somebody else is held', { age: day, deleted: true, session: 'u10010-0000000a' }, false],
  ])('is refused if the space of so many ended sessions %s: %j', async (_, d, refused) => {
    const w = preparedWorld();
    const on = w.machine();
    const three = ['1', '2', '3'].map(n => ({ ...d, name: `sessions/.old-${d.session}.${n}` }));
    for (const { name } of three) w.makeDirs(`/var/lib/mayfly/pool/${name}`);
    const backend = w.backend();
    const list = async (pool: string) => ({ ...(await backend.list(pool)), discarded: three });
    const s = attempt(w, { ...on, backend: () => ({ ...backend, list }) });
    if (refused) await expect(s).rejects.toThrow(/^3 sessions of alice .* descriptor in flight in a socket$/);
    else expect((await s)?.state).toBe('live');
  });
});
