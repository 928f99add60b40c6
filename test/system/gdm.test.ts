/** gdm's way: a worker per login runs both hooks and forks the session; everything the session starts is in our cgroup. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { hierarchy } from '../../src/linux/cgroup.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { forgetUsers, Lab, sh, sleep, uidOf, until, user } from './lab.ts';

const A = 'mayfly-a';
let lab: Lab;
let before: unknown;

/** A stand-in for gdm-session-worker: PreSession, then the session, then, told so, PostSession. */
class Worker {
  private readonly child: ChildProcess;
  private said = '';
  readonly ended: Promise<number>;

  constructor(script: string) {
    const [pre, args] = lab.hookArgs('gdm', 'start');
    const [post] = lab.hookArgs('gdm', 'stop');
    const body = `
      printf gdm-session-wor >/proc/$$/comm
      export USER=${A}
      ${pre} ${args.join(' ')}
      id=$(cat ${lab.dir}/run/users/$(id -u ${A})/session)
      { ${script}; } >/dev/null 2>&1 </dev/null
      echo up
      read -r _
      ${post} ${args.join(' ')} || exit 8
      exit 0`;
    this.child = spawn('sh', ['-c', body], {
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.child.stdout?.on('data', chunk => {
      this.said += chunk;
    });
    this.ended = new Promise(yes =>
      this.child.on('close', (code, signal) => yes(signal ? 255 : (code ?? 255))),
    );
  }
  async up(): Promise<void> {
    await until(() => this.said.includes('up'), 20_000);
  }
  logout(): Promise<number> {
    this.child.stdin?.end('\n');
    return this.ended;
  }
  kill(): Promise<number> {
    this.child.kill('SIGKILL');
    return this.ended;
  }
}

const inside = (command: string) => `schroot -d / -c "$id" -u ${A} -- sh -c '${command}'`;

beforeAll(() => {
  user(A);
  lab = Lab.make({ backend: 'overlay' });
  lab.hook('start', A);
  lab.hook('stop', A);
  before = lab.picture();
});
afterEach(() => expect(lab.picture()).toEqual(before));
afterAll(() => {
  lab.close();
  forgetUsers();
});

describe('a login through gdm', () => {
  it('ends with everything it started, on either side of the door, and its worker goes on', async () => {
    const marker = `${lab.dir}/outside`;
    // What Xsession starts before the session is wrapped (an agent, a bus) runs on the host: it is the session's too.
    const worker = new Worker(
      `${inside('trap "" TERM; setsid sleep 1000 &')}; setsid setpriv --reuid ${A} sleep 1000 & echo $! >${marker}`,
    );
    await worker.up();
    const outside = Number(fs.readFileSync(marker, 'utf8'));
    expect(lab.records()).toHaveLength(1);
    expect(lab.processesInside().length).toBeGreaterThan(0);
    expect(await worker.logout()).toBe(0);
    if (hierarchy(realHost())) await until(() => !fs.existsSync(`/proc/${outside}/exe`) || isZombie(outside));
    else process.kill(outside, 'SIGKILL');
    fs.unlinkSync(marker);
  });

  it('a second one joins it, and each worker’s logout is its own', async () => {
    const first = new Worker('true');
    await first.up();
    const [s] = lab.records();
    const second = new Worker('true');
    await second.up();
    expect(lab.records()).toMatchObject([{ id: s?.id, logins: [{ adapter: 'gdm' }, { adapter: 'gdm' }] }]);
    // A call with the right name from a process that is no worker of a login: not a logout.
    const stranger = lab.hookAsync('stop', A);
    expect(await stranger.done).toMatchObject({ code: 0 });
    expect(await first.logout()).toBe(0);
    expect(lab.records()).toHaveLength(1);
    expect(await second.logout()).toBe(0);
  });

  it('whose worker was killed is over, and recover ends it', async () => {
    const worker = new Worker(inside('setsid sleep 1000 &'));
    await worker.up();
    expect(lab.mayfly('recover').out).toBe('nothing to recover\n');
    await worker.kill();
    await sleep(20);
    expect(lab.mayfly('status').out).toMatch(/over: its display manager is gone/);
    expect(lab.mayfly('recover').out).toMatch(/^ended u/);
  });

  it('that is refused begins all the same: its wrapper has no session to enter, and says why', async () => {
    lab.configure('[admission]\nmax_used_percent = 1\n');
    const [pre, args] = lab.hookArgs('gdm', 'start');
    expect(sh(pre, args, { env: { USER: A } })).toMatchObject({ code: 0 });
    expect(lab.records()).toEqual([]);
    const mine = `${lab.dir}/run/users/${uidOf(A)}`;
    expect(fs.readFileSync(`${mine}/reason`, 'utf8')).toMatch(/ % full.*MAYFLY-FULL/);
    expect(fs.existsSync(`${mine}/session`)).toBe(false);
    lab.configure('');
    const next = new Worker('true');
    await next.up();
    expect(await next.logout()).toBe(0);
  });

  it('that forks as fast as it can is gone, all of it', async () => {
    // Gives up by itself after 30 s. Its children end under living parents, so that no init has to reap them.
    const bomb = `${lab.dir}/bomb`;
    fs.writeFileSync(
      bomb,
      `#!/usr/bin/perl
$SIG{$_} = 'IGNORE' for qw(TERM HUP INT CHLD);
my $end = time + 30;
for (1 .. 20) { last unless fork }
while (time < $end) {
  unless (fork) { select undef, undef, undef, rand(0.02); exit }
  select undef, undef, undef, 0.005;
}
`,
    );
    fs.chmodSync(bomb, 0o755);
    fs.copyFileSync(bomb, `/home/${A}/bomb`);
    fs.chmodSync(`/home/${A}/bomb`, 0o755);
    const worker = new Worker(`ulimit -u 200; ${inside('~/bomb &')}`);
    await worker.up();
    await until(() => lab.processesInside().length > 20);
    expect(await worker.logout()).toBe(0);
    expect(lab.processesInside()).toEqual([]);
    fs.unlinkSync(bomb);
  });
});

function isZombie(pid: number): boolean {
  return /\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
}
