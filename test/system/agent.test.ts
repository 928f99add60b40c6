/** The agent: it does what the hook itself does, and whatever becomes of it, nothing is lost and nobody waits for it. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { createConnection } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import { mayHang } from '../../src/linux/remote.ts';
import { chance, count } from '../campaign.ts';
import { canServe, fileServer } from '../file-server.ts';
import { forgetUsers, Lab, MAYFLY, must, type Ran, sh, sleep, TOP, uidOf, until, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const PEOPLE = Array.from({ length: 6 }, (_, i) => `mayfly-y${i}`);
const [A = '', B = ''] = PEOPLE;
const ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
const CLIENT = `${TOP}/hooks/agent-client`;

interface Running {
  readonly pid: number;
  readonly done: Promise<Ran>;
}

describe('the agent', () => {
  let lab: Lab;
  let place: string;
  let before: unknown;
  const children: ChildProcess[] = [];

  const sockets = (): string[] => fs.readdirSync(place).filter(name => name.endsWith('.sock'));

  /** One that listens; `program` is a link to the loader, or the loader. */
  async function start(program = MAYFLY): Promise<ChildProcess> {
    const child = spawn('node', ['--max-semi-space-size=2', program, 'agent', place, lab.config], {
      cwd: '/',
      env: ENV,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    children.push(child);
    // Between bind(2) and listen(2), the socket is there and refuses; the flag is __SO_ACCEPTCON.
    const listens = new RegExp(`: \\S+ \\S+ 00010000 .* ${place}/${child.pid}\\.sock$`, 'm');
    await until(() => listens.test(fs.readFileSync('/proc/net/unix', 'utf8')), 30_000);
    return child;
  }

  const ended = async (child: ChildProcess): Promise<number | null> => {
    await until(() => child.exitCode !== null || child.signalCode !== null, 30_000);
    return child.exitCode;
  };

  const words = (action: 'start' | 'stop', ...more: string[]): string[] => [
    ...['hook', 'lightdm', action, '--caller', `${process.pid}`, '--config', lab.config],
    ...more,
  ];

  /** Each person has a display of their own, or another one for each seat. */
  const env = (name: string, seat = 0): NodeJS.ProcessEnv => ({
    ...ENV,
    USER: name,
    DISPLAY: `:${PEOPLE.indexOf(name) + 1 + 20 * seat}`,
  });
  const client = (args: readonly string[], name = A, program = MAYFLY): Ran =>
    sh('perl', [CLIENT, place, program, ...args], { env: env(name) });

  function clientAsync(args: readonly string[], name = A, seat = 0): Running {
    const child = spawn('perl', [CLIENT, place, MAYFLY, ...args], {
      env: env(name, seat),
      cwd: '/',
    });
    let out = '';
    let err = '';
    child.stdout.on('data', data => {
      out += data;
    });
    child.stderr.on('data', data => {
      err += data;
    });
    const done = new Promise<Ran>(yes => child.on('close', code => yes({ code: code ?? 255, out, err })));
    return { pid: child.pid ?? 0, done };
  }

  const node = (args: readonly string[], name = A, seat = 0): Ran =>
    sh('node', [MAYFLY, ...args], { env: env(name, seat) });

  /** A logout, as a hook does it: on a machine where something can hang, the agent leaves it to the hook. */
  function logOut(name = A, seat = 0): void {
    const r = sh('perl', [CLIENT, place, MAYFLY, ...words('stop', '--quiet')], { env: env(name, seat) });
    const all = r.code === 120 && mayHang(realHost()) ? node(words('stop', '--quiet'), name, seat) : r;
    expect(all).toEqual({ code: 0, out: '', err: '' });
  }

  beforeAll(() => {
    for (const name of PEOPLE) user(name);
    const from = fs.mkdtempSync('/var/lib/mayfly-test-');
    lab = Lab.make({ backend: 'overlay', from: makeMiniTree(`${from}/tree`) });
    fs.rmSync(from, { recursive: true });
    place = `${lab.dir}/agent`;
    fs.mkdirSync(place, { mode: 0o700 });
    lab.hook('start', A);
    lab.hook('stop', A);
    before = lab.picture();
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
      await ended(child);
    }
    for (const { user: who } of lab.records())
      for (const seat of [0, 1]) node(words('stop', '--quiet'), who.name, seat);
    for (const name of fs.readdirSync(place)) fs.unlinkSync(`${place}/${name}`);
    expect(lab.records()).toEqual([]);
    expect(lab.picture()).toEqual(before);
  });
  afterAll(() => {
    lab.close();
    forgetUsers();
  });

  it('answers logins and logouts, and its records name the process that waited', async () => {
    const agent = await start();
    for (let round = 0; round < 3; round++) {
      const login = clientAsync(words('start', '--quiet'));
      expect(await login.done).toEqual({ code: 0, out: '', err: '' });
      expect(lab.session(A)).toMatchObject({ state: 'live', logins: [{ display: ':1' }] });
      expect(lab.session(A)?.starter.pid).toBe(login.pid);
      expect(lab.inside(A, 'cat', '/etc/mayfly-session').out).toContain(A);
      logOut();
      expect(lab.records()).toEqual([]);
    }
    expect(agent.exitCode).toBeNull();
  });

  it('prints and returns what the hook itself would, also what PAM shows to a person', async () => {
    await start();
    const pam = ['hook', 'pam', 'start', '--caller', `${process.pid}`, '--config', lab.config];
    for (const [args, name] of [
      [words('start'), 'mayfly-nobody'],
      [words('start'), ''],
      [pam, 'mayfly-nobody'],
      [[...pam, '--quiet'], '$(id)'],
    ] as const) {
      const r = client(args, name);
      expect(r).toEqual(node(args, name));
      expect(args === pam ? r.out : r.err, args.join(' ')).not.toBe('');
    }
  });

  it.each(['lightdm', 'pam'])('has the client wait while it shows a reason on the screen: %s', async adapter => {
    await start();
    const args = ['hook', adapter, 'start', '--quiet', '--caller', `${process.pid}`, '--config', lab.config];
    const fields = ['mayfly-hook-3', MAYFLY, `${process.pid}`, 'mayfly-nobody', '', '', ...args];
    const socket = createConnection(`${place}/${sockets()[0]}`);
    let said = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said === 'ready 35\n') socket.write('go\n');
    });
    socket.write(`${fields.length}\0${fields.join('\0')}\0`);
    await new Promise(yes => socket.once('close', yes));
    expect(said).toMatch(adapter === 'lightdm' ? /^ready 35\nw 25\n2 / : /^ready 35\n1 /);
    expect(said).toMatch(/\nx 1\n$/);
  });

  it.each<[string, (agent: () => Promise<ChildProcess>) => Promise<string | undefined>]>([
    ['there is none', async () => undefined],
    [
      'it was killed and left its socket',
      async agent => {
        const killed = await agent();
        killed.kill('SIGKILL');
        await ended(killed);
        expect(sockets()).toHaveLength(1);
        return undefined;
      },
    ],
    ['it is stopped', async agent => void (await agent()).kill('SIGSTOP')],
    [
      'it is another program',
      async agent => {
        await agent();
        return `${TOP}/dist/cli.cjs`;
      },
    ],
  ])('leaves the work to the hook where %s', async (_, prepare) => {
    const program = await prepare(start);
    expect(client(words('start'), A, program)).toEqual({ code: 120, out: '', err: '' });
    expect(lab.records()).toEqual([]);
  });

  it('leaves to the hook what it cannot do: a dry run, a call without a caller, and what is no hook', async () => {
    await start();
    for (const args of [
      words('start', '--dry-run'),
      ['hook', 'lightdm', 'start', '--config', lab.config],
      ['hook', 'lightdm', 'sideways', '--caller', `${process.pid}`],
      ['update', '--caller', `${process.pid}`],
    ])
      expect(client(args), args.join(' ')).toEqual({ code: 120, out: '', err: '' });
    expect(lab.records()).toEqual([]);
  });

  it('leaves the work to the hook after an upgrade', async () => {
    const copy = `${lab.dir}/dist`;
    fs.cpSync(`${TOP}/dist`, copy, { recursive: true });
    await start(`${copy}/mayfly.cjs`);
    fs.copyFileSync(`${TOP}/dist/mayfly.cjs`, `${copy}/new`);
    fs.renameSync(`${copy}/new`, `${copy}/mayfly.cjs`);
    expect(client(words('start'), A, `${copy}/mayfly.cjs`).code).toBe(120);
    expect(lab.records()).toEqual([]);
    fs.rmSync(copy, { recursive: true });
  });

  it('does nothing for clients that say something else, and goes on', async () => {
    await start();
    for (const text of [
      '',
      '3\0a\0',
      '2\0mayfly-hook-3\0/nowhere\0',
      '2\0mayfly-hook-9\0x\0',
      'x'.repeat(90_000),
    ]) {
      const [name] = sockets();
      const socket = createConnection(`${place}/${name}`);
      await new Promise<void>(yes => {
        socket.on('error', () => undefined).on('close', () => yes());
        socket.on('data', () => undefined).end(text);
      });
    }
    expect(lab.records()).toEqual([]);
    expect(client(words('start', '--quiet')).code).toBe(0);
  });

  it('answers many at once, also of one person', async () => {
    await start();
    const seats = PEOPLE.flatMap(name => [0, 1].map(seat => ({ name, seat })));
    const args = words('start', '--quiet');
    const logins = seats.map(async ({ name, seat }) => {
      const { code } = await clientAsync(args, name, seat).done;
      // On a busy machine it may not be heard in time.
      return code === 120 ? { code: node(args, name, seat).code, isOurs: false } : { code, isOurs: true };
    });
    const all = await Promise.all(logins);
    expect(all.map(({ code }) => code)).toEqual(all.map(() => 0));
    expect(all.some(({ isOurs }) => isOurs)).toBe(true);
    const records = lab.records().map(s => `${s.user.name} ${s.state} ${s.logins.length}`);
    expect(records.sort()).toEqual(PEOPLE.map(n => `${n} live 2`));
    for (const name of PEOPLE) expect(lab.inside(name, 'true').code).toBe(0);
    for (const { name, seat } of seats) logOut(name, seat);
  });

  it('completes a login whose client was killed', async () => {
    await start();
    const login = clientAsync(words('start', '--quiet'));
    await until(() => lab.records().length > 0, 30_000);
    process.kill(login.pid, 'SIGKILL');
    await until(() => lab.session(A)?.state === 'live', 30_000);
    expect(lab.inside(A, 'true').code).toBe(0);
  });

  it.each<[string, (agent: ChildProcess) => unknown]>([
    ['when its service ends', agent => agent.stdin?.end()],
    ['on SIGTERM', agent => agent.kill('SIGTERM')],
  ])('completes what it has begun %s, removes its socket, and takes no more', async (_, endIt) => {
    const agent = await start();
    const login = clientAsync(words('start', '--quiet'));
    await until(() => lab.records().length > 0, 30_000);
    endIt(agent);
    expect(await login.done).toMatchObject({ code: 0 });
    expect(await ended(agent)).toBe(0);
    expect(sockets()).toEqual([]);
    expect(lab.session(A)).toMatchObject({ state: 'live' });
    expect(client(words('stop')).code).toBe(120);
  });

  // Without the code cache of the first logins, and with the code of many compiled.
  it.each(['cold', 'warm'])(
    'may be killed at any moment, %s: there is one whole session, or none',
    async state => {
      const random = chance(`an agent, ${state}, killed`);
      const rounds = count('KILLS', 8);
      for (let round = 0; round < rounds; round++) {
        const agent = await start();
        if (state === 'warm') {
          expect(client(words('start', '--quiet'), B)).toMatchObject({ code: 0 });
          logOut(B);
        }
        const isLogout = round % 2 === 1;
        if (isLogout) expect(client(words('start', '--quiet'))).toMatchObject({ code: 0 });
        const call = clientAsync(words(isLogout ? 'stop' : 'start', '--quiet'));
        await sleep(random() * 100);
        agent.kill('SIGKILL');
        const { code } = await call.done;
        expect([0, 120]).toContain(code);
        if (!isLogout) {
          if (code === 120) expect(node(words('start', '--quiet'))).toMatchObject({ code: 0 });
          expect(lab.records().map(s => s.state)).toEqual(['live']);
          expect(lab.inside(A, 'true').code).toBe(0);
        }
        if (!isLogout || code === 120) expect(node(words('stop', '--quiet'))).toMatchObject({ code: 0 });
        // A teardown that was cut short belongs to the service, as after a hook that was killed.
        if (lab.records().length > 0) expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
        expect(lab.records()).toEqual([]);
        await ended(agent);
      }
      // A file whose writer was killed before it was renamed belongs to no session: the service sweeps it.
      expect(lab.mayfly('recover').code).toBe(0);
    },
  );

  it('that is stopped in the middle of a login refuses it at the time limit, with a reason, and nothing is left', async () => {
    lab.configure('[hook]\ntimeout = 1\n');
    onTestFinished(() => lab.configure(''));
    const agent = await start();
    // The lock of the user is taken, so the login waits.
    const lock = `${lab.dir}/run/locks/user-${uidOf(A)}`;
    const hold = `open F, '>', shift or die; flock F, 2 or die; $| = 1; print "ready\\n"; sleep 1000`;
    const holder = spawn('perl', ['-e', hold, lock], { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(holder);
    await new Promise(yes => holder.stdout?.once('data', yes));
    const pam = ['hook', 'pam', 'start', '--caller', `${process.pid}`, '--config', lab.config, '--quiet'];
    const login = clientAsync(pam);
    const waits = new RegExp(`-> FLOCK .*:${fs.statSync(lock).ino} `);
    await until(() => waits.test(fs.readFileSync('/proc/locks', 'utf8')), 20_000);
    agent.kill('SIGSTOP');
    expect(await login.done).toEqual({ code: 121, out: '', err: '' });
    // What hooks/run does then. It waits for no lock.
    const reason = /the agent did not answer within 6 s/;
    const refused = node([...pam, '--unanswered']);
    expect(refused.out).toMatch(/^Login failed: the agent did not answer within 6 s\. .* MAYFLY-TIMEOUT\n$/);
    expect([refused.code, refused.err]).toEqual([1, expect.stringMatching(reason)]);
    expect(fs.readFileSync(`${lab.dir}/run/users/${uidOf(A)}/reason`, 'utf8')).toMatch(reason);
    expect(fs.readFileSync(`${lab.dir}/run/refused.json`, 'utf8')).toContain('MAYFLY-TIMEOUT');
    const logout = node(words('stop', '--quiet', '--unanswered'));
    expect([logout.code, logout.err]).toEqual([1, expect.stringMatching(/did not answer within 7 s/)]);
    lab.configure('on_failure = "host"\n[hook]\ntimeout = 1\n');
    expect(node([...pam, '--unanswered'])).toMatchObject({ code: 0, out: '' });
    holder.kill('SIGKILL');
    agent.kill('SIGCONT');
    await until(() => sh('flock', ['-n', lock, 'true']).code === 0, 20_000);
    expect(client(words('start', '--quiet'))).toMatchObject({ code: 0 });
    expect(lab.records()).toHaveLength(1);
  });

  it('goes on when its service dies without a word, of which it hears when it answers it', async () => {
    const agent = await start();
    agent.stdout?.destroy();
    for (let n = 0; n < 3; n++) agent.stdin?.write('?');
    for (let n = 0; n < 2; n++) {
      expect(client(words('start', '--quiet'))).toEqual({ code: 0, out: '', err: '' });
      logOut();
    }
    expect([agent.exitCode, agent.signalCode]).toEqual([null, null]);
  });

  it('replaces a helper that is stopped when the service asks, and answers then', async () => {
    const agent = await start();
    const helper = (): number =>
      Number(fs.readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, 'utf8').trim());
    const first = helper();
    expect(first).toBeGreaterThan(1);
    const asked = async (): Promise<void> => {
      const heard = new Promise(yes => agent.stdout?.once('data', yes));
      agent.stdin?.write('?');
      await heard;
    };
    await asked();
    expect(helper()).toBe(first);
    process.kill(first, 'SIGSTOP');
    await asked();
    await until(() => !fs.existsSync(`/proc/${first}`), 20_000);
    expect(client(words('start', '--quiet'))).toEqual({ code: 0, out: '', err: '' });
    logOut();
  });

  it('has no more memory, descriptors or children after hundreds of logins', async () => {
    const agent = await start();
    const round = (): void => {
      expect(client(words('start', '--quiet'))).toMatchObject({ code: 0 });
      logOut();
    };
    const measure = (): number[] => {
      const status = fs.readFileSync(`/proc/${agent.pid}/status`, 'utf8');
      return [
        Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1]),
        fs.readdirSync(`/proc/${agent.pid}/fd`).length,
        fs.readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, 'utf8').split(' ').length,
      ];
    };
    const rounds = count('LOGINS', 200);
    for (let n = 0; n < rounds / 2; n++) round();
    const half = measure();
    for (let n = 0; n < rounds / 2; n++) round();
    const all = measure();
    console.log(
      `an agent after ${rounds / 2} and ${rounds} logins (KiB, descriptors, children): ${half} and ${all}`,
    );
    expect(all[0]).toBeLessThan((half[0] ?? 0) + 16_384); // a collection of garbage may be due
    expect(all[1]).toBeLessThan((half[1] ?? 0) + 5);
    expect(all[2]).toBe(half[2]);
  });

  it.runIf(canServe)(
    'leaves a person to the hook whose file server is dead, and answers everybody else',
    async () => {
      fs.mkdirSync(`${lab.dir}/net`);
      const server = await fileServer(`${lab.dir}/net`);
      must('usermod', ['-d', `${lab.dir}/net`, A]);
      try {
        await start();
        await server.silence();
        expect(client(words('start', '--quiet'))).toEqual({ code: 120, out: '', err: '' });
        expect(lab.records()).toEqual([]);
        expect(client(words('start', '--quiet'), B)).toEqual({ code: 0, out: '', err: '' });
        expect(lab.session(B)).toMatchObject({ state: 'live' });
        // Root in a session can mount what hangs: a teardown in place is nothing that the agent does here.
        logOut(B);
        expect(lab.records()).toEqual([]);
      } finally {
        await server.close(); // before all is compared with what was
        must('usermod', ['-d', `/home/${A}`, A]);
        fs.rmdirSync(`${lab.dir}/net`);
      }
    },
  );

  it('is no command: without a directory of the service nothing listens anywhere', () => {
    for (const args of [[], ['here']]) {
      const r = sh('node', [MAYFLY, 'agent', ...args], { cwd: lab.dir });
      expect([r.code, r.out]).toEqual([2, '']);
      expect(r.err).toMatch(/^mayfly: /);
    }
    expect(fs.readdirSync(lab.dir).filter(name => name.endsWith('.sock'))).toEqual([]);
  });

  it('is kept by the service, is replaced when it is killed, and ends with the service', async () => {
    const kept = `${lab.dir}/run/agent`;
    const logind = fs.mkdtempSync(`${lab.dir}/logind-`);
    const service = spawn('node', [MAYFLY, 'service', '--config', lab.config, '--logind', logind], {
      cwd: '/',
      env: ENV,
      stdio: 'ignore',
    });
    children.push(service);
    const there = (): string | undefined =>
      fs.existsSync(kept) ? fs.readdirSync(kept).find(n => n.endsWith('.sock')) : undefined;
    await until(() => there() !== undefined, 60_000);
    expect(fs.statSync(kept).mode & 0o777).toBe(0o700);
    const first = there();
    const login = sh('perl', [CLIENT, kept, MAYFLY, ...words('start', '--quiet')], { env: env(A) });
    expect(login).toEqual({ code: 0, out: '', err: '' });
    expect(node(words('stop', '--quiet'))).toMatchObject({ code: 0 });
    process.kill(Number(first?.replace('.sock', '')), 'SIGKILL');
    await until(() => there() !== undefined && there() !== first, 120_000);
    const pid = there()?.replace('.sock', '');
    service.kill('SIGTERM');
    await ended(service);
    await until(() => !fs.existsSync(`/proc/${pid}`), 30_000);
    expect(fs.readdirSync(kept)).toEqual([]);
    fs.rmSync(logind, { recursive: true });
  });
});
