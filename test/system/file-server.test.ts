/** File servers that never answer: everybody else goes on, and hooks end in time. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { canServe, type FileServer, fileServer } from '../file-server.ts';
import { BACKENDS, forgetUsers, Lab, must, readAt, sh, uidOf, until, user } from './lab.ts';

const A = 'mayfly-fs-a';
const B = 'mayfly-fs-b';
/** Much longer than anything here takes, and much shorter than for ever. */
const IN_TIME = 120_000;
const TIMES = '[hook]\ntimeout = 9\n';

const running: ChildProcess[] = [];
afterAll(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

/** A process of the host, started by `argv`, that stays; resolves when it says "ready". */
async function stay(...[file = '', ...args]: string[]): Promise<ChildProcess> {
  const child = spawn(file, args, { cwd: '/', stdio: ['ignore', 'pipe', 'inherit'] });
  running.push(child);
  await new Promise((yes, no) => {
    child.stdout?.once('data', yes);
    child.once('close', code => no(new Error(`${file} ended with ${code}`)));
  });
  return child;
}

const READY = '$| = 1; print "ready\\n"; sleep 1000';

describe.runIf(canServe).each(BACKENDS)('a file server that never answers, on %s', backend => {
  let lab: Lab;
  let before: Record<string, unknown>;
  const at = (name: string): string => `${lab.dir}/net/${name}`;

  beforeAll(() => {
    for (const name of [A, B]) user(name);
    lab = Lab.make({ backend, config: TIMES });
    for (const name of ['home', 'other', 'nested']) fs.mkdirSync(at(name), { recursive: true });
    lab.hook('start', B, ':1'); // makes what the first login since boot makes
    lab.hook('stop', B, ':1');
    before = lab.picture();
  });
  afterEach(() => {
    for (const child of running.splice(0)) child.kill('SIGKILL');
  });
  afterAll(() => {
    must('usermod', ['-d', `/home/${A}`, A]);
    lab.close();
    forgetUsers();
  });

  /** B logs in and out, in time and without an error. */
  async function othersGoOn(): Promise<void> {
    for (const action of ['start', 'stop'] as const) {
      const r = await lab.hookAsync(action, B, ':1').done;
      expect(r).toMatchObject({ code: 0, err: '' });
      expect(r.ms).toBeLessThan(IN_TIME);
    }
    expect(lab.records().filter(s => s.user.name === B)).toEqual([]);
  }

  async function serve(name: string): Promise<FileServer> {
    const server = await fileServer(at(name));
    onTestFinished(() => server.close());
    return server;
  }

  it('with a home directory: the login is refused with the reason, and nobody else notices', async () => {
    must('usermod', ['-d', at('home'), A]);
    const server = await serve('home');
    await server.silence();
    const refused = await lab.hookAsync('start', A).done;
    expect(refused.code).not.toBe(0);
    expect(refused.err).toContain(`"${at('home')}" did not answer within 3 s; its file server may be down`);
    expect(refused.ms).toBeLessThan(IN_TIME);
    expect(await lab.hookAsync('stop', A).done).toMatchObject({ code: 0 }); // as lightdm does
    await othersGoOn();
    await server.close();
    expect(readAt(`${lab.dir}/run/users/${uidOf(A)}/reason`)).toContain('its file server may be down');
    expect({ ...lab.picture(), run: undefined }).toEqual({ ...before, run: undefined });
  });

  it('that dies under a session, with processes in it: the session ends', async () => {
    must('usermod', ['-d', at('home'), A]);
    const server = await serve('home');
    expect(await lab.hookAsync('start', A).done).toMatchObject({ code: 0, err: '' });
    const root = `${lab.dir}/run/roots/${lab.session(A)?.id}`;
    lab.linger(A, false, `cd ${at('home')}; exec sleep 1000`);
    await until(() => lab.processesInside().length > 0, 20_000);
    const nested = await fileServer(`${root}/mnt`);
    onTestFinished(() => nested.close());
    await server.silence();
    await nested.silence();
    await othersGoOn();
    const ended = await lab.hookAsync('stop', A).done;
    expect(ended).toMatchObject({ code: 0, err: '' });
    expect(ended.ms).toBeLessThan(IN_TIME);
    await server.close();
    expect(lab.picture()).toEqual(before);
  });

  it('that was unmounted while a process had its root directory there: everybody logs in and out', async () => {
    must('usermod', ['-d', `/home/${A}`, A]);
    const server = await serve('other');
    const lost = await stay('perl', '-e', `chroot shift or die; chdir "/"; ${READY}`, at('other'));
    expect(await lab.hookAsync('start', A).done).toMatchObject({ code: 0, err: '' });
    lab.linger(A, false, 'exec sleep 1000');
    await server.silence();
    must('umount', ['-l', at('other')]);
    await othersGoOn();
    expect(await lab.hookAsync('stop', A).done).toMatchObject({ code: 0, err: '' });
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(fs.existsSync(`/proc/${lost.pid}/status`)).toBe(true);
    lost.kill('SIGKILL');
    await server.close();
    expect(lab.picture()).toEqual(before);
  });

  it('makes the watchdog end a hook that hangs, and a storage command of it would go on', async () => {
    must('usermod', ['-d', `/home/${A}`, A]);
    await serve('other'); // a hook can hang on this machine
    lab.configure('[hook]\ntimeout = 1\n');
    onTestFinished(() => lab.configure(TIMES));
    // The lock of the user is taken, so the hook waits; and it is stopped, so no timer of its own will end it.
    const lock = `${lab.dir}/run/locks/user-${uidOf(A)}`;
    const holder = await stay('perl', '-e', `open F, '>', shift or die; flock F, 2 or die; ${READY}`, lock);
    const hook = lab.hookAsync('start', A);
    const children = (pid: number): number[] =>
      (readAt(`/proc/${pid}/task/${pid}/children`) ?? '').split(' ').filter(Boolean).map(Number);
    const isPerl = (pid: number): boolean => readAt(`/proc/${pid}/comm`) === 'perl\n';
    await until(() => children(hook.pid).some(node => children(node).some(isPerl)), 20_000);
    for (const node of children(hook.pid)) process.kill(node, 'SIGSTOP');
    const ended = await hook.done;
    expect(ended.code).toBe(137);
    expect(ended.ms).toBeLessThan(IN_TIME);
    holder.kill('SIGKILL');
    await until(() => sh('flock', ['-n', lock, 'true']).code === 0, 20_000);
    expect(lab.records()).toEqual([]);
  });
});
