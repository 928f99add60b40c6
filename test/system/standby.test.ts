/** A hook that was started ahead: it does what the hook itself does, once, and whatever becomes of it, nothing is lost. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { createConnection } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { chance } from '../campaign.ts';
import { forgetUsers, Lab, MAYFLY, type Ran, sh, sleep, TOP, until, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-ya';
const ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
const CLIENT = `${TOP}/hooks/standby-client`;

describe('a hook that was started ahead', () => {
  let lab: Lab;
  let place: string;
  let before: unknown;
  const children: ChildProcess[] = [];

  const sockets = (): string[] => fs.readdirSync(place).filter(name => name.endsWith('.sock'));

  /** One that waits; `program` is a link to the loader, or the loader. */
  async function wait(program = MAYFLY): Promise<ChildProcess> {
    const child = spawn('node', [program, 'standby', place], {
      cwd: '/',
      env: ENV,
      stdio: ['pipe', 'ignore', 'inherit'],
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

  const client = (args: readonly string[], name = A, program = MAYFLY): Ran =>
    sh('perl', [CLIENT, place, program, ...args], { env: { ...ENV, USER: name, DISPLAY: ':0' } });

  const node = (args: readonly string[], name = A): Ran =>
    sh('node', [MAYFLY, ...args], { env: { ...ENV, USER: name, DISPLAY: ':0' } });

  beforeAll(() => {
    user(A);
    const from = fs.mkdtempSync('/var/lib/mayfly-test-');
    lab = Lab.make({ backend: 'overlay', from: makeMiniTree(`${from}/tree`) });
    fs.rmSync(from, { recursive: true });
    place = `${lab.dir}/standby`;
    fs.mkdirSync(place, { mode: 0o700 });
    lab.hook('start', A);
    lab.hook('stop', A);
    before = lab.picture();
  });
  afterEach(async () => {
    lab.hook('stop', A);
    for (const child of children.splice(0)) {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
      await ended(child);
    }
    for (const name of fs.readdirSync(place)) fs.unlinkSync(`${place}/${name}`);
    expect(lab.records()).toEqual([]);
    expect(lab.picture()).toEqual(before);
  });
  afterAll(() => {
    lab.close();
    forgetUsers();
  });

  it('logs in and out, and has answered only once', async () => {
    const first = await wait();
    expect(client(words('start', '--quiet'))).toEqual({ code: 0, out: '', err: '' });
    expect(await ended(first)).toBe(0);
    expect(sockets()).toEqual([]);
    expect(lab.session(A)).toMatchObject({ state: 'live', logins: [{ display: ':0' }] });
    expect(lab.inside(A, 'cat', '/etc/mayfly-session').out).toContain(A);
    const second = await wait();
    expect(client(words('stop', '--quiet')).code).toBe(0);
    expect(await ended(second)).toBe(0);
    expect(lab.records()).toEqual([]);
  });

  it('prints and returns what the hook itself would', async () => {
    const steady = (r: Ran): Ran => ({ ...r, out: r.out.replaceAll(/u\d+-[0-9a-f]{8}/g, 'ID') });
    for (const [args, name] of [
      [words('start', '--dry-run'), A],
      [words('start'), 'mayfly-nobody'],
      [words('start'), ''],
      [['hook', 'lightdm', 'sideways'], A],
      [['hook', 'lightdm', 'start', '--config', `${lab.dir}/none.toml`], A],
    ] as const) {
      await wait();
      const r = client(args, name);
      expect(steady(r)).toEqual(steady(node(args, name)));
      expect(r.code === 0 ? r.out : r.err, args.join(' ')).not.toBe('');
    }
  });

  it.each<[string, (child: () => Promise<ChildProcess>) => Promise<string | undefined>]>([
    ['nobody waits', async () => undefined],
    [
      'one was killed and left its socket',
      async child => {
        const killed = await child();
        killed.kill('SIGKILL');
        await ended(killed);
        expect(sockets()).toHaveLength(1);
        return undefined;
      },
    ],
    ['it is stopped', async child => void (await child()).kill('SIGSTOP')],
    [
      'it is another program',
      async child => {
        await child();
        return `${TOP}/dist/cli.cjs`;
      },
    ],
  ])('leaves the work to the hook where %s', async (_, prepare) => {
    const program = await prepare(wait);
    expect(client(words('start'), A, program)).toEqual({ code: 120, out: '', err: '' });
    expect(lab.records()).toEqual([]);
  });

  it('leaves the work to the hook after an upgrade', async () => {
    const copy = `${lab.dir}/dist`;
    fs.cpSync(`${TOP}/dist`, copy, { recursive: true });
    await wait(`${copy}/mayfly.cjs`);
    fs.copyFileSync(`${TOP}/dist/mayfly.cjs`, `${copy}/new`);
    fs.renameSync(`${copy}/new`, `${copy}/mayfly.cjs`);
    expect(client(words('start'), A, `${copy}/mayfly.cjs`).code).toBe(120);
    expect(lab.records()).toEqual([]);
    fs.rmSync(copy, { recursive: true });
  });

  it.each(['', '3\0a\0', '2\0mayfly-hook-1\0/nowhere\0', '2\0mayfly-hook-9\0x\0', 'x'.repeat(5000)])(
    'does nothing for a client that says %j, and ends',
    async text => {
      const child = await wait();
      const socket = createConnection(`${place}/${child.pid}.sock`);
      socket.on('error', () => undefined).end(text);
      expect(await ended(child)).toBe(0);
      expect(lab.records()).toEqual([]);
    },
  );

  it('serves two that come at once with one login each at most: the second does the work itself', async () => {
    await wait();
    const run = (): Promise<number | null> =>
      new Promise(done =>
        spawn('perl', [CLIENT, place, MAYFLY, ...words('start', '--quiet')], {
          env: { ...ENV, USER: A, DISPLAY: ':0' },
          stdio: 'ignore',
        }).on('close', done),
      );
    expect((await Promise.all([run(), run(), run()])).sort()).toEqual([0, 120, 120]);
    expect(lab.records()).toHaveLength(1);
  });

  it('completes a login whose hook was killed, and ends', async () => {
    const child = await wait();
    const hook = spawn('perl', [CLIENT, place, MAYFLY, ...words('start', '--quiet')], {
      env: { ...ENV, USER: A, DISPLAY: ':0' },
      stdio: 'ignore',
    });
    await until(() => lab.records().length > 0, 30_000);
    hook.kill('SIGKILL');
    expect(await ended(child)).toBe(0);
    expect(lab.session(A)).toMatchObject({ state: 'live' });
    expect(lab.inside(A, 'true').code).toBe(0);
  });

  it('ends with the program that has started it, and leaves no socket', async () => {
    const child = await wait();
    child.stdin?.end();
    expect(await ended(child)).toBe(0);
    expect(sockets()).toEqual([]);
  });

  it('may be killed at any moment: the hook makes one whole session', async () => {
    const random = chance('a hook that was started ahead, killed');
    for (let round = 0; round < 8; round++) {
      const child = await wait();
      const login = new Promise<number | null>(done =>
        spawn('perl', [CLIENT, place, MAYFLY, ...words('start', '--quiet')], {
          env: { ...ENV, USER: A, DISPLAY: ':0' },
          stdio: 'ignore',
        }).on('close', done),
      );
      await sleep(random() * 60);
      child.kill('SIGKILL');
      const code = await login;
      expect([0, 120]).toContain(code);
      if (code === 120) expect(node(words('start', '--quiet'))).toMatchObject({ code: 0 });
      expect(lab.records().map(s => s.state)).toEqual(['live']);
      expect(lab.inside(A, 'true').code).toBe(0);
      expect(node(words('stop', '--quiet'))).toMatchObject({ code: 0 });
      expect(lab.records()).toEqual([]);
    }
    // A file whose writer was killed before it was renamed belongs to no session: the service sweeps it.
    expect(lab.mayfly('recover').code).toBe(0);
  });

  it('is no command: without a directory of the service nothing waits anywhere', () => {
    for (const args of [[], ['here']]) {
      const r = sh('node', [MAYFLY, 'standby', ...args], { cwd: lab.dir });
      expect([r.code, r.out]).toEqual([2, '']);
      expect(r.err).toMatch(/^mayfly: .*standby/);
    }
    expect(fs.readdirSync(lab.dir).filter(name => name.endsWith('.sock'))).toEqual([]);
  });

  it('is kept by the service, which starts the next one after a login, and ends with it', async () => {
    const kept = `${lab.dir}/run/standby`;
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
    const login = sh('perl', [CLIENT, kept, MAYFLY, ...words('start', '--quiet')], {
      env: { ...ENV, USER: A, DISPLAY: ':0' },
    });
    expect(login).toEqual({ code: 0, out: '', err: '' });
    await until(() => there() !== undefined && there() !== first, 60_000);
    expect(node(words('stop', '--quiet')).code).toBe(0);
    const pid = there()?.replace('.sock', '');
    service.kill('SIGKILL');
    await ended(service);
    await until(() => !fs.existsSync(`/proc/${pid}`), 30_000);
    fs.rmSync(logind, { recursive: true });
    for (const name of fs.readdirSync(kept)) fs.unlinkSync(`${kept}/${name}`);
  });
});
