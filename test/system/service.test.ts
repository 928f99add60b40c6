/**
 * The resident service on the real machine: logins that died without a hook, hooks that died, configuration, space.
 * logind is played by a directory of its own, with files written the way logind writes them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { forgetUsers, killTree, Lab, MAYFLY, must, sh, sleep, uidOf, until, user } from './lab.ts';

const A = 'mayfly-sa';
const B = 'mayfly-sb';
const ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
/** Milliseconds after the start of a hook. A whole one takes about 50. */
const MOMENTS = [15, 25, 31, 37, 43, 50, 80];
let lab: Lab;
let before: unknown;
let logind: string;
let service: Service;
const children: ChildProcess[] = [];

/** Something that stays until it is killed. */
function stay(file = 'sleep', args: readonly string[] = ['1000']): ChildProcess {
  const child = spawn(file, args, { cwd: '/', env: ENV, stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  return child;
}

class Service {
  readonly child: ChildProcess;
  said = '';
  readonly ended: Promise<number>;

  constructor(env: NodeJS.ProcessEnv = {}, of = lab, directory = logind) {
    const args = [MAYFLY, 'service', '--config', of.config, '--logind', directory];
    this.child = spawn('node', args, {
      cwd: '/',
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    children.push(this.child);
    this.child.stderr?.on('data', chunk => {
      this.said += chunk;
    });
    this.ended = new Promise(yes => this.child.on('close', code => yes(code ?? 255)));
  }
  static async start(env?: NodeJS.ProcessEnv): Promise<Service> {
    const s = new Service(env);
    await s.says(/the service is ready/);
    return s;
  }
  says(words: RegExp, ms = 5000): Promise<void> {
    return until(() => words.test(this.said), ms).catch(() => {
      throw new Error(`the service has not said ${words} but: ${this.said}`);
    });
  }
  stop(): Promise<number> {
    this.child.kill('SIGTERM');
    return this.ended;
  }
}

/** A lightdm that has one login: its hooks are its children, it lives as long as its X servers. */
class Daemon {
  readonly child: ChildProcess;
  private said = '';

  constructor(name: string, display: string) {
    const [setup, args] = lab.hookArgs('lightdm', 'start');
    const [cleanup] = lab.hookArgs('lightdm', 'stop');
    const body = `
      export USER=${name} DISPLAY=${display}
      ${setup} ${args.join(' ')} || exit 9
      echo up
      read -r _
      ${cleanup} ${args.join(' ')}
      exit 0`;
    this.child = stay('sh', ['-c', body]);
    this.child.stdout?.on('data', chunk => {
      this.said += chunk;
    });
  }
  static async login(name: string, display = ':0'): Promise<Daemon> {
    const d = new Daemon(name, display);
    await until(() => d.said.includes('up'));
    return d;
  }
}

/** A session of logind's: a file, and the process that opened it. */
class Seat {
  readonly leader = stay();
  private readonly path: string;

  constructor(
    private readonly name: string,
    private readonly display = ':0',
    id = `c${fs.readdirSync(logind).length + 1}`,
  ) {
    this.path = `${logind}/${id}`;
    this.show('active');
  }
  show(state: string): void {
    const rows = `UID=${uidOf(this.name)}\nUSER=${this.name}\nACTIVE=1\nSTATE=${state}\nTYPE=x11\nCLASS=user\n`;
    const more = `SERVICE=lightdm\nDISPLAY=${this.display}\nLEADER=${this.leader.pid}\nMONOTONIC=${process.hrtime.bigint() / 1000n}\n`;
    const temporary = `${logind}/.#${Date.now()}`;
    fs.writeFileSync(temporary, `# This is private data. Do not parse.\n${rows}${more}`);
    fs.renameSync(temporary, this.path);
  }
  async die(): Promise<void> {
    this.leader.kill('SIGKILL');
    await new Promise(yes => this.leader.once('exit', yes));
  }
  forget(): void {
    fs.unlinkSync(this.path);
  }
}

/** What there is, or why that can not be told: things go while we look. */
function picture(): string {
  try {
    return JSON.stringify(lab.picture());
  } catch (error) {
    return String(error);
  }
}

/** Waits until the service has seen in logind as many logins of the session. */
async function seen(logins = 1): Promise<void> {
  const [s] = lab.records();
  const file = `${lab.dir}/run/sightings.json`;
  const keys = (): string[] => Object.keys(JSON.parse(sh('cat', [file]).out || '{}').sightings ?? {});
  await until(() => keys().filter(key => key.startsWith(`${s?.id} `)).length === logins);
}

/** Waits until all is as it was; tells how long that took. */
async function gone(what: string): Promise<void> {
  const begun = performance.now();
  let left = '';
  await until(() => {
    left = picture();
    return left === JSON.stringify(before);
  }).catch(() => {
    throw new Error(
      `${what}: still there: ${left}\n${JSON.stringify(lab.records().map(r => [r.state, r.stuck]))}\n${service.said}`,
    );
  });
  console.log(`${what}: gone within ${Math.round(performance.now() - begun)} ms`);
}

beforeAll(() => {
  user(A);
  user(B);
  lab = Lab.make({ backend: 'overlay' });
  logind = `${lab.dir}/logind`;
  fs.mkdirSync(logind);
  lab.hook('start', A);
  lab.hook('stop', A);
  lab.mayfly('recover');
  before = lab.picture();
});
afterEach(async () => {
  await service.stop();
  for (const child of children.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
  for (const name of fs.existsSync(logind) ? fs.readdirSync(logind) : []) fs.unlinkSync(`${logind}/${name}`);
  expect(lab.picture()).toEqual(before);
});
afterAll(() => {
  lab.close();
  forgetUsers();
});

describe('a login that dies without a hook', () => {
  it('X server killed: logind removes the session', async () => {
    service = await Service.start();
    await Daemon.login(A);
    const seat = new Seat(A);
    lab.linger(A, false, 'sleep 1000');
    await until(() => lab.processesInside().length > 0);
    await seen();
    await seat.die();
    seat.forget();
    await gone('X server killed');
    expect(service.said).toMatch(/is over: the login has ended according to logind/);
  });

  it('X server killed: logind only says closing, as something of the person’s still runs', async () => {
    service = await Service.start();
    await Daemon.login(A);
    const seat = new Seat(A);
    await seen();
    await seat.die();
    seat.show('closing');
    await gone('X server killed, closing');
    seat.forget();
  });

  it('display manager killed', async () => {
    service = await Service.start();
    const daemon = await Daemon.login(A);
    const seat = new Seat(A);
    lab.linger(A, true, 'trap "" TERM HUP; while :; do sleep 1; done');
    await until(() => lab.processesInside().length > 0);
    daemon.child.kill('SIGKILL');
    await seat.die();
    seat.forget();
    await gone('display manager killed');
  });

  it('display manager killed, and there is no logind', async () => {
    fs.rmdirSync(logind);
    service = await Service.start();
    const daemon = await Daemon.login(A);
    await sleep(500);
    daemon.child.kill('SIGKILL');
    await gone('display manager killed, no logind');
    fs.mkdirSync(logind);
  });

  it('while the service is being restarted', async () => {
    service = await Service.start();
    await Daemon.login(A);
    const seat = new Seat(A);
    await seen();
    expect(await service.stop()).toBe(0);
    await seat.die();
    seat.forget();
    expect(lab.records()).toHaveLength(1);
    service = await Service.start();
    await gone('ended while the service was away');
  });

  it('of two of one person: the session stays for the other', async () => {
    service = await Service.start();
    await Daemon.login(A, ':0');
    await Daemon.login(A, ':1');
    const first = new Seat(A, ':0');
    const second = new Seat(A, ':1');
    lab.linger(A, false, 'sleep 1000');
    await until(() => lab.processesInside().length > 0);
    expect(lab.session(A)?.logins).toHaveLength(2);
    await seen(2);
    await first.die();
    first.forget();
    await until(() => lab.session(A)?.logins.length === 1);
    await sleep(2500);
    expect(lab.session(A)).toMatchObject({ state: 'live', logins: [{ display: ':1' }] });
    expect(lab.processesInside().length).toBeGreaterThan(0);
    await second.die();
    second.forget();
    await gone('the second of two');
  });

  it('logind appears after the service, and its directory is replaced', async () => {
    fs.rmdirSync(logind);
    service = await Service.start();
    fs.mkdirSync(logind);
    await Daemon.login(A);
    await sleep(500);
    fs.rmdirSync(logind);
    await sleep(500);
    fs.mkdirSync(logind);
    await sleep(500);
    const seat = new Seat(A);
    await seen();
    await seat.die();
    seat.forget();
    await gone('logind came late');
  });
});

describe('a hook that was killed', () => {
  it('in the middle of a login', async () => {
    service = await Service.start();
    for (const ms of MOMENTS) {
      const hook = lab.hookAsync('start', A);
      await sleep(ms);
      killTree(hook.pid);
      await hook.done;
      // Killed when all was done: lightdm calls the other hook then, as after any login that was refused.
      if (lab.session(A)?.state === 'live') lab.hook('stop', A);
      await gone(`setup hook killed after ${ms} ms`);
    }
  });

  it('in the middle of a logout', async () => {
    service = await Service.start();
    for (const ms of MOMENTS) {
      expect(lab.hook('start', A).code).toBe(0);
      const hook = lab.hookAsync('stop', A);
      await sleep(ms);
      killTree(hook.pid);
      await hook.done;
      // Killed before it had begun: then nobody has told of a logout, and nothing happens.
      await sleep(100);
      if (lab.session(A)?.state === 'live') lab.hook('stop', A);
      await gone(`cleanup hook killed after ${ms} ms`);
    }
  });
});

describe('a living session', () => {
  it('survives reloads, restarts of the service, a screen that is switched away, and an unlock', async () => {
    service = await Service.start();
    const daemon = await Daemon.login(A);
    const seat = new Seat(A);
    lab.linger(A, false, 'sleep 1000');
    await until(() => lab.processesInside().length > 0);
    const [s] = lab.records();
    const lives = (): void => {
      expect(lab.records()).toEqual([s]);
      expect(lab.processesInside().length).toBeGreaterThan(0);
      expect(lab.inside(A, 'true').code).toBe(0);
    };
    await seen();
    for (const state of ['online', 'active', 'opening']) {
      seat.show(state);
      await sleep(300);
    }
    lab.configure('[logout]\ngrace = 2\n');
    await service.says(/changed: logout.grace/);
    service.child.kill('SIGHUP');
    await sleep(3000);
    lives();
    service.child.kill('SIGKILL');
    await service.ended;
    service = await Service.start();
    await sleep(3000);
    lives();
    expect(await service.stop()).toBe(0);
    service = await Service.start();
    // logind forgets all about it, but the process that opened the session lives.
    seat.forget();
    await sleep(3500);
    lives();
    lab.configure('');
    daemon.child.stdin?.end('\n');
    await gone('an ordinary logout beside the service');
    expect(service.said).not.toMatch(/is over/);
  });

  it('sees a password that is changed, files of the host that change, and what a service makes anew', async () => {
    const [place, late] = [`/run/mayfly-test-${process.pid}`, `/run/mayfly-test-${process.pid}-late`];
    const added = `/opt/mayfly-test-${process.pid}`; // by the administrator, and replaced by an update of the host
    const [file, link] = [`/etc/mayfly-test-${process.pid}`, `/etc/mayfly-test-${process.pid}-link`];
    fs.writeFileSync(file, 'old');
    fs.symlinkSync(`..${place}/socket`, link);
    onTestFinished(() => {
      for (const path of [file, link, added]) fs.rmSync(path, { force: true, recursive: true });
    });
    const shown = (path: string): string => lab.inside(A, 'cat', `${path}/socket`).out;
    const make = (path: string, text: string): void => {
      fs.rmSync(path, { recursive: true, force: true });
      fs.mkdirSync(path);
      fs.writeFileSync(`${path}/socket`, text);
    };
    const bind = ['/proc', '/dev', '/dev/pts', '/tmp', place, late, added];
    lab.configure(
      `[mounts]\nbind = ${JSON.stringify(bind)}\n[identity]\ncopy = ${JSON.stringify([file, link])}\n`,
    );
    must('usermod', ['-p', '$6$before', A]);
    make(place, 'old');
    make(added, 'old');
    service = await Service.start();
    const daemon = await Daemon.login(A);
    const seat = new Seat(A);
    await seen();
    const copies = (): string => [file, link].map(path => lab.inside(A, 'cat', path).out).join(' ');
    expect(`${shown(place)} ${copies()}`).toBe('old old old');
    expect(shown(added)).toBe('old');
    make(place, 'new');
    make(added, 'new');
    fs.writeFileSync(`${file}.new`, 'new');
    fs.renameSync(`${file}.new`, file);
    make(late, 'late');
    must('usermod', ['-p', '$6$after', A]);
    const shadow = (): string => lab.rootInside(A, 'grep', `^${A}:`, '/etc/shadow').out;
    await until(
      () =>
        shown(place) === 'new' &&
        shown(late) === 'late' &&
        shown(added) === 'new' &&
        shadow().includes(':$6$after:'),
      60_000,
    );
    must('usermod', ['-L', A]);
    await until(() => shadow().includes(':!$6$after:') && copies() === 'new new', 60_000);
    fs.writeFileSync(file, 'again'); // in place
    await until(() => copies() === 'again new', 60_000);
    lab.configure('');
    seat.forget();
    daemon.child.stdin?.end('\n');
    await gone('an ordinary logout');
    for (const path of [place, late]) fs.rmSync(path, { recursive: true });
  });

  it('that logind never showed is left alone', async () => {
    service = await Service.start();
    const daemon = await Daemon.login(A);
    const other = new Seat(B, ':5');
    await sleep(2000);
    other.forget();
    await sleep(2500);
    expect(lab.session(A)?.state).toBe('live');
    daemon.child.stdin?.end('\n');
    await gone('its own logout');
  });
});

describe('configuration', () => {
  it('an invalid edit is refused with file and line, a valid one is used, one in conf.d too', async () => {
    service = await Service.start();
    fs.appendFileSync(lab.config, '[logout]\ngrace = "soon"\n');
    await service.says(
      /keeping the previous configuration: .*mayfly\.toml:\d+: invalid "logout\.grace": .*\(man mayfly\.toml/,
    );
    expect(service.child.exitCode).toBeNull();
    lab.configure('[logout]\ngrace = 3\n');
    await service.says(/the configuration has changed: logout\.grace\n/);
    fs.mkdirSync(`${lab.dir}/conf.d`);
    fs.writeFileSync(`${lab.dir}/conf.d/more.toml`, '[logout]\nkill_timeout = 33\n');
    await service.says(/the configuration has changed: logout\.kill_timeout\n/);
    fs.rmSync(`${lab.dir}/conf.d`, { recursive: true });
    lab.configure(
      `[directories]\nschroot = "/nowhere"\n`.replace('[directories]\n', '[home]\nsize = "12M"\n#'),
    );
    await service.says(/the configuration has changed: .*home\.size/);
    fs.writeFileSync(
      lab.config,
      fs.readFileSync(lab.config, 'utf8').replace(/^run = .*$/m, 'run = "/run/else"'),
    );
    await service.says(/directories\.run changed; the service uses the old value/);
    lab.configure('');
    await sleep(500);
  });

  it('that is invalid at the start: the last good one serves', async () => {
    const good = fs.readFileSync(lab.config, 'utf8');
    lab.mayfly('status');
    fs.writeFileSync(lab.config, `nonsense = 1\n${good}`);
    service = await Service.start();
    await service.says(/keeping the previous configuration: .*mayfly\.toml:1: unknown option "nonsense"/);
    fs.writeFileSync(lab.config, good);
    await sleep(500);
  });
});

describe('space', () => {
  it('is warned of once at each limit, and it is said when there is room again', async () => {
    const pool = `${lab.dir}/small`;
    fs.mkdirSync(pool);
    must('mount', ['-t', 'tmpfs', '-o', 'size=64M', 'none', pool]);
    const small = new Lab({ config: `[pool]\npath = "${pool}/p"\n[admission]\nmin_free = "1M"\n` });
    fs.mkdirSync(`${pool}/p`);
    fs.mkdirSync(`${small.dir}/state`);
    fs.writeFileSync(
      `${small.dir}/state/pool.json`,
      JSON.stringify({ backend: 'overlay', path: `${pool}/p` }),
    );
    service = new Service({}, small);
    await service.says(/the service is ready/);
    const fill = (megabytes: number): string =>
      must('dd', ['if=/dev/zero', `of=${pool}/p/fill`, 'bs=1M', `count=${megabytes}`]);
    fill(57);
    await service.says(/the pool "\S+" is 89 % full, 7 MiB free: new logins are refused above 95 %/, 35_000);
    // Scanned twice a minute, and at once when the configuration is read again.
    fill(63);
    service.child.kill('SIGHUP');
    await service.says(/is 98 % full, 1 MiB free: new logins are refused\n/, 35_000);
    fill(1);
    service.child.kill('SIGHUP');
    await service.says(/is 1 % full, 63 MiB free: there is enough space again/, 35_000);
    expect(service.said.match(/% full/g)).toHaveLength(3);
    await service.stop();
    must('umount', [pool]);
    fs.rmdirSync(pool);
    fs.rmSync(small.dir, { recursive: true });
  });
});

describe('a session that will not end', () => {
  it('is tried again, and gone once its holder is', async () => {
    service = await Service.start();
    const daemon = await Daemon.login(A);
    const elsewhere = `${lab.dir}/elsewhere`;
    fs.mkdirSync(elsewhere);
    must('mount', ['--bind', lab.session(A)?.root ?? '', elsewhere]);
    await sleep(300);
    daemon.child.kill('SIGKILL');
    await service.says(/cannot end .*in use.*; next attempt in 10 s/, 20_000);
    expect(lab.records()[0]?.stuck).toMatch(/^volume: /);
    must('umount', [elsewhere]);
    fs.rmdirSync(elsewhere);
    const begun = performance.now();
    await until(() => lab.records().length === 0, 15_000);
    console.log(`stuck session retried after ${Math.round(performance.now() - begun)} ms`);
    await gone('a stuck session');
    expect(service.said.match(/cannot end /g)).toHaveLength(1);
  });
});

describe('its own life', () => {
  it('ends when told to, with exit code 0', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      service = await Service.start();
      service.child.kill(signal);
      expect(await service.ended).toBe(0);
    }
  });

  it('lets a teardown finish first', async () => {
    lab.configure('[logout]\ngrace = 3\n');
    service = await Service.start();
    const daemon = await Daemon.login(A);
    lab.linger(A, true, 'trap "" TERM HUP; while :; do sleep 1; done');
    await until(() => lab.processesInside().length > 0);
    daemon.child.kill('SIGKILL');
    await service.says(/is over: its display manager is gone/);
    expect(await service.stop()).toBe(0);
    expect(lab.records()).toEqual([]);
    lab.configure('');
    await until(() => picture() === JSON.stringify(before));
  });

  it('there is only one', async () => {
    service = await Service.start();
    const second = new Service();
    expect(await second.ended).toBe(5);
    expect(second.said).toMatch(/another "mayfly service" is running/);
    service.child.kill('SIGKILL');
    await service.ended;
    service = await Service.start();
  });

  it('takes no dry run', async () => {
    service = await Service.start();
    expect(lab.mayfly('service', '--dry-run')).toMatchObject({ code: 2 });
  });

  it.skipIf(sh('which', ['systemd-notify']).code !== 0)('tells systemd', async () => {
    const socket = `${lab.dir}/notify`;
    const script = `use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0); bind(S, pack_sockaddr_un($ARGV[0])) or die; $| = 1;
      print "bound\\n"; while (defined recv(S, $m, 4096, 0)) { print "$m\\n" }`;
    const receiver = stay('perl', ['-e', script, socket]);
    let told = '';
    receiver.stdout?.on('data', chunk => {
      told += chunk;
    });
    const tells = (words: RegExp): Promise<void> =>
      until(() => words.test(told)).catch(() => {
        throw new Error(`systemd was not told ${words} but: ${told}`);
      });
    await until(() => told.includes('bound'));
    service = await Service.start({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: '2000000' });
    await tells(/READY=1\nSTATUS=0 sessions/);
    const daemon = await Daemon.login(A);
    await tells(/STATUS=1 session\n/);
    service.child.kill('SIGHUP');
    await tells(/RELOADING=1\n[\s\S]*READY=1\n/);
    const pings = (): number => told.match(/WATCHDOG=1/g)?.length ?? 0;
    const before = pings();
    await until(() => pings() >= before + 3);
    daemon.child.stdin?.end('\n');
    await tells(/STATUS=1 session\n[\s\S]*STATUS=0 sessions\n/);
    await service.stop();
    await tells(/STOPPING=1/);
    fs.unlinkSync(socket);
  });
});
