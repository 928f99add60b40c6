/** Somebody, or NTP, sets the time of day while deadlines and waits are running: they take as long as they should. */
import { spawn } from 'node:child_process';
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import type { Host } from '../../src/linux/host.ts';
import { killAll } from '../../src/linux/kill.ts';
import type { LogindSession } from '../../src/linux/logind.ts';
import { lookAtProcesses } from '../../src/linux/process-look.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { bindLogins, END_GRACE, findEnded, readBindings } from '../../src/service/liveness.ts';
import { reaper } from '../../src/service/reaper.ts';
import { end } from '../../src/session/end.ts';
import { login } from '../../src/session/session.ts';
import { readStable } from '../../src/state/generations.ts';
import { blockLogins, loginBlockReason } from '../../src/state/login-block.ts';
import { readSessions, type Session } from '../../src/state/sessions.ts';
import { checkGeneration } from '../../src/update/check.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const HOUR = 3_600_000;

/** A host whose time of day jumps when somebody first sleeps. */
function jumpy(w: World, ms: number): Host {
  let jumped = false;
  return {
    ...w.host,
    pid: w.pid,
    async sleep(wait) {
      if (!jumped) w.setClock(ms);
      jumped = true;
      await w.host.sleep(wait);
    },
  };
}

async function arrive(w: World): Promise<Session> {
  w.processes.set(61, {
    start: '61',
    dev: w.rootDev,
    comm: 'lightdm',
    ignoresTerm: false,
    cgroup: '',
    parent: 50,
  });
  const s = await login(w.machine(), callOf(w, 'alice', ':0'));
  if (!s) throw new Error('out of scope');
  return s;
}

const shown = (w: World, o: Partial<LogindSession> = {}): LogindSession => ({
  ...{ id: 'c1', uid: 1001, state: 'active', class: 'user', service: 'lightdm', display: ':0', leader: 61 },
  ...{ began: w.host.monotonic() + 100, ...o },
});

describe.each([
  ['back', -HOUR],
  ['forwards', HOUR],
])('if the time of day is set an hour %s', (_way, jump) => {
  it('processes have their grace to end, and no more', async () => {
    const w = preparedWorld();
    const s = await arrive(w);
    w.enter(s.root, false, true);
    const began = w.host.monotonic();
    await end({ ...w.machine(), host: jumpy(w, jump) }, s.id);
    const { grace } = w.machine().config.logout;
    expect(w.host.monotonic() - began).toBeGreaterThanOrEqual(1000 * grace);
    expect(w.host.monotonic() - began).toBeLessThan(1000 * grace + 500);
  });

  it('a process that cannot be killed is reported after the timeout', async () => {
    const w = preparedWorld();
    w.mountEmpty('/session');
    w.enter('/session', true);
    const began = w.host.monotonic();
    const target = { devices: new Set([w.host.stat('/session')?.dev ?? 0]), group: undefined, uid: 1001 };
    const host = { ...jumpy(w, jump), kill: () => true };
    await expect(killAll(host, target, { grace: 0, timeout: 1000 })).rejects.toMatchObject({ code: 'stuck' });
    expect(w.host.monotonic() - began).toBeGreaterThanOrEqual(1000);
    expect(w.host.monotonic() - began).toBeLessThan(1100);
  });

  it('a failed teardown is tried again after ten seconds', async () => {
    const w = preparedWorld();
    const s = await arrive(w);
    w.failing.add('perl');
    const on = w.machine();
    const ends = reaper(0, () => undefined);
    const over = () => ({ because: 'told so', left: [] });
    ends.take(on, [s], over);
    await ends.drain();
    w.failing.clear();
    w.setClock(jump);
    await w.host.sleep(9_000);
    ends.take(on, [s], over);
    await ends.drain();
    expect(readSessions(w.host, on.paths)).toHaveLength(1);
    await w.host.sleep(1_000);
    ends.take(on, [s], over);
    await ends.drain();
    expect(readSessions(w.host, on.paths)).toEqual([]);
  });

  it('a login that logind no longer shows ends after its grace', async () => {
    const w = preparedWorld();
    const s = await arrive(w);
    const seen = bindLogins(w.host, {}, [s], [shown(w)]);
    const gone = bindLogins(w.host, seen, [s], []);
    w.processes.delete(61);
    w.setClock(jump);
    expect(await findEnded(w.host, s, gone, [])).toBeUndefined();
    await w.host.sleep(END_GRACE);
    expect(await findEnded(w.host, s, bindLogins(w.host, gone, [s], []), [])).toMatchObject({ left: [] });
  });

  it('a login is bound to the session that began after it, not to an earlier one', async () => {
    const w = preparedWorld();
    const earlier = shown(w, { id: 'c0' });
    await w.host.sleep(1000);
    w.setClock(jump);
    const s = await arrive(w);
    expect(bindLogins(w.host, {}, [s], [earlier])).toEqual({});
    expect(Object.values(bindLogins(w.host, {}, [s], [earlier, shown(w)]))).toMatchObject([
      { session: 'c1' },
    ]);
  });

  it('a login without a trace is abandoned after a minute, not before', async () => {
    const w = preparedWorld();
    const s = await arrive(w);
    w.processes.delete(61);
    w.setClock(jump);
    await w.host.sleep(59_000);
    expect(await findEnded(w.host, s, {}, [])).toBeUndefined();
    await w.host.sleep(1_000);
    expect(await findEnded(w.host, s, {}, [])).toMatchObject({ left: [] });
  });

  it('logins are blocked for ten minutes', async () => {
    const w = preparedWorld();
    blockLogins(w.machine(), 'a restart');
    w.setClock(jump);
    await w.host.sleep(599_000);
    expect(loginBlockReason(w.machine())).toBe('a restart');
    await w.host.sleep(1_000);
    expect(loginBlockReason(w.machine())).toBeUndefined();
  });

  it('the checks of a generation have the time that is configured', async () => {
    const w = preparedWorld();
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\ntimeout = 100\n');
    const on = w.machine();
    const limits: number[] = [];
    const run: Host['run'] = async c => {
      const at = c.args.indexOf('timeout');
      if (c.file === 'setpriv' && at >= 0) {
        limits.push(Number(c.args.slice(at).find(arg => /^\d+(\.\d+)?$/.test(arg) && Number(arg) > 10)));
        w.setClock(jump);
        await w.host.sleep(1000);
      }
      return c.file === 'setpriv' ? { code: 0, stdout: 'entered\n', stderr: '' } : w.host.run(c);
    };
    await checkGeneration(
      { ...on, host: { ...on.host, run } },
      readStable(w.host, on.paths),
      () => undefined,
    ).catch(() => undefined);
    expect(limits.length).toBeGreaterThan(1);
    expect(limits.slice(0, 2)).toEqual([100, 99]);
  });
});

describe('what an earlier version wrote with the time of day', () => {
  it('blocks logins until then', () => {
    const w = preparedWorld();
    w.makeDirs('/run/mayfly');
    w.put('/run/mayfly/hold', `${w.host.now() + 60_000} a restart\n`);
    expect(loginBlockReason(w.machine())).toBe('a restart');
    w.put('/run/mayfly/hold', `${w.host.now() - 1} a restart\n`);
    expect(loginBlockReason(w.machine())).toBeUndefined();
  });

  it('is the start of a grace that begins anew', async () => {
    const w = preparedWorld();
    const s = await arrive(w);
    const [key = ''] = Object.keys(bindLogins(w.host, {}, [s], [shown(w)]));
    const old = { boot: w.boot, sightings: { [key]: { session: 'c1', missing: w.host.now() } } };
    w.put('/run/mayfly/sightings.json', JSON.stringify(old));
    const gone = bindLogins(w.host, readBindings(w.host, w.machine().paths), [s], []);
    expect(await findEnded(w.host, s, gone, [])).toBeUndefined();
    await w.host.sleep(END_GRACE);
    expect(await findEnded(w.host, s, gone, [])).toMatchObject({ left: [] });
  });
});

describe('in a program in Perl, with a time of day that jumps by an hour at each look', () => {
  const jumps = 'my $n; BEGIN { *CORE::GLOBAL::time = sub () { 1e9 + 3600 * $n++ } } ';

  it('a look at all processes is complete', async () => {
    const real = realHost();
    const run: Host['run'] = c => {
      const [first = '', program = '', ...rest] = c.args;
      return real.run({ ...c, args: [first, jumps + program, ...rest] });
    };
    const devices = new Set([lstatSync('/proc/self/root/').dev]);
    const { users, unseen } = await lookAtProcesses({ ...real, run }, { devices, of: { uid: 12345 } });
    expect(unseen).toEqual([]);
    expect(users).not.toEqual([]);
  });

  it.each([
    ['nothing', 120],
    ['a part of its output', 120],
    ['its exit code', 7],
  ])('a hook whose helper has died after %s does not take it for one that took long', async (what, code) => {
    const place = mkdtempSync(`${tmpdir()}/mayfly-clock-`);
    const server = createServer(socket => {
      socket.once('data', () => {
        socket.write('ready 60\n');
        socket.once('data', () => socket.end({ nothing: '', 'its exit code': 'x 7\n' }[what] ?? '1 9\nhalf'));
      });
    });
    await new Promise<void>(yes => void server.listen(`${place}/1.sock`, yes));
    writeFileSync(`${place}/Jumps.pm`, `${jumps} 1;`);
    const client = spawn('perl', [`-I${place}`, '-MJumps', 'hooks/agent-client', place, '/program', 'hook']);
    expect(await new Promise(yes => client.once('close', yes))).toBe(code);
    server.close();
    rmSync(place, { recursive: true });
  });
});

it('the time of day is read only where it is shown or recorded', () => {
  const shows = [
    ...[
      'cli/doctor/generations.ts',
      'cli/doctor/sessions.ts',
      'cli/status.ts',
      'cli/status-check.ts',
      'update/health.ts',
    ],
    'cli/update.ts', // the nightly update is due at a time of day
    'session/announced-end.ts', // until when, as the person is told
    'update/kernel-match.ts', // whether the last attempt was since boot: the history has only this clock
    ...['session/session-plan.ts', 'update/pool.ts', 'update/update-lock.ts', 'update/update.ts'],
    ...['linux/real-host.ts', 'state/login-block.ts'],
    'volume/directory-layout.ts', // how long ago a volume was discarded: files have only this clock
  ];
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter(name =>
    name.endsWith('.ts'),
  );
  const reads = files.filter(name =>
    /\bnow\(\)|new Date\(\)/.test(
      readFileSync(`src/${name}`, 'utf8').replace(/^ *(\*|\/\/|now\(\): number).*$/gm, ''),
    ),
  );
  expect(reads.sort()).toEqual(shows.sort());
});
