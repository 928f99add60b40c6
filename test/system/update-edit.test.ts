/** One change of master at a time, the sudden end of one, and the changes people make by hand. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setxattrNumber } from '../../src/linux/ownership.ts';
import { Mirror } from './debs.ts';
import { BACKENDS, forgetUsers, type Lab, MAYFLY, sh, until, user } from './lab.ts';
import { closeQuickLab, family, loginWorks, quickLab, stable, standing } from './updates.ts';

const A = 'mayfly-up';
let lab: Lab;
let mirror: Mirror;

beforeAll(async () => {
  user(A);
  mirror = await Mirror.start();
  mirror.add({ name: 'mayfly-one', version: '1', files: { '/usr/share/one': '1' } });
});
afterAll(() => {
  mirror.stop();
  forgetUsers();
});

const edit = (...words: string[]) => lab.mayfly('enter', 'master', ...words);
const inGeneration = (path: string): string | undefined => lab.inGeneration(stable(lab), path);

/** Starts an update and waits until it is in the middle of `phase`, where something it started goes on and on. */
async function begin(phase: string, program: string): Promise<ChildProcess> {
  const child = spawn('node', [MAYFLY, 'update', '--config', lab.config], { cwd: '/', stdio: 'ignore' });
  await until(
    () =>
      sh('cat', [`${lab.dir}/run/update.json`]).out.includes(`"${phase}"`) &&
      family(child.pid ?? 0).some(line => line.endsWith(` ${program}`)),
    20_000,
  );
  return child;
}

async function kill(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const all = family(child.pid ?? 0);
  expect(all.length).toBeGreaterThan(3);
  const done = new Promise(yes => child.on('close', yes));
  child.kill(signal);
  await done;
  const left = (): string[] => all.filter(line => family(Number(line.split(' ')[0])).includes(line));
  await until(() => left().length === 0, 3000).catch(() => expect(left()).toEqual([]));
}

describe.each(BACKENDS)('one update at a time, on %s', backend => {
  const hanging = (): void => lab.configure(`[update]\n${mirror.config}packages = ["mayfly-one"]`);
  beforeAll(() => {
    lab = quickLab(backend, A);
  });
  afterAll(() => {
    mirror.hang(false);
    closeQuickLab(lab);
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'others are told who and since when; %s in the middle of apt ends all of it',
    async signal => {
      const before = standing(lab);
      hanging();
      mirror.hang(true);
      const begun = Date.now();
      const child = await begin('refresh', 'http');
      const message = new RegExp(
        `^mayfly: an update has been running since (\\S+Z) \\(process ${child.pid}, "refresh"\\)\nhint: .*\n$`,
      );
      for (const r of [lab.mayfly('update'), edit('--discard', '--', 'true'), lab.mayfly('gc')]) {
        expect(r).toMatchObject({ code: 5, out: '' });
        const since = Date.parse(message.exec(r.err)?.[1] ?? r.err);
        expect(since).toBeGreaterThan(begun - 1000); // in whole seconds
        expect(since).toBeLessThanOrEqual(Date.now());
      }
      expect(lab.mayfly('status').out).toMatch(/an update has been running for \d+ min, in phase "refresh"/);
      loginWorks(lab, A); // nobody waits for an update

      await kill(child, signal);
      mirror.hang(false);
      expect(lab.mayfly('status').out).toMatch(/interrupted/);
      loginWorks(lab, A);
      expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
      lab.configure('');
      expect(standing(lab)).toEqual(before);
    },
  );

  it('one that is killed in its trial login leaves that to recovery, and the next one works', async () => {
    const { sessions, picture } = standing(lab);
    lab.configure(
      '[update]\ncommand = ["touch", "/etc/tried"]\n[check]\ncommand = ["sh", "-c", "sleep 8600009; true"]',
    );
    const child = await begin('check', 'sleep');
    await kill(child, 'SIGKILL');
    loginWorks(lab, A);
    hanging();
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    expect(inGeneration('/usr/share/one')).toBe('1');
    expect(inGeneration('/etc/tried')).toBeUndefined();
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(standing(lab)).toMatchObject({ sessions });
    const { mounts, processes, schroot, cgroups, run } = picture as Record<string, unknown>;
    expect(lab.picture()).toMatchObject({ mounts, processes, schroot, cgroups, run });
  });
});

describe.each(BACKENDS.slice(-1))('by hand, on %s', backend => {
  beforeAll(() => {
    lab = quickLab(backend, A);
  });
  afterAll(() => closeQuickLab(lab));

  it('what is discarded never was', () => {
    const before = standing(lab);
    const r = edit('--discard', '--', 'sh', '-c', 'id -u; touch /etc/mine; rm -rf /usr/share; exit 42');
    expect(r).toMatchObject({ code: 42, out: '0\n' });
    expect(standing(lab)).toEqual(before);
    expect(inGeneration('/etc/mine')).toBeUndefined();
  });

  it('what is promoted is there at the next login, and survives the updates that come', () => {
    const r = edit('--promote', '--', 'sh', '-c', 'echo mine >/etc/mine; exit 7');
    expect(r).toMatchObject({ code: 7, out: '' });
    expect(r.err).toMatch(/generation \d+ is stable\n$/);
    lab.hook('start', A);
    expect(lab.inside(A, 'cat', '/etc/mine').out).toBe('mine\n');
    lab.hook('stop', A);
    lab.configure(`[update]\n${mirror.config}packages = ["mayfly-one"]`);
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    expect(inGeneration('/usr/share/one')).toBe('1');
    expect(inGeneration('/etc/mine')).toBe('mine\n');
    lab.configure('');
  });

  it('what is small is a change: a capability, a text of the same length and time', () => {
    const capability =
      '($f, $k, $v) = ("/etc/mine", "security.capability", pack("V5", 0x2000001, 1 << 13, 0, 0, 0)); ' +
      `syscall(${setxattrNumber(process.arch)}, $f, $k, $v, length $v, 0) == 0 or die $!`;
    const text = 'touch -r /etc/mine /etc/t; echo time >/etc/mine; touch -r /etc/t /etc/mine; rm /etc/t';
    expect(edit('--promote', '--', 'sh', '-c', 'echo mine >/etc/mine')).toMatchObject({ code: 0 });
    for (const command of [
      ['perl', '-e', capability],
      ['sh', '-c', text],
    ]) {
      const before = stable(lab);
      lab.configure(`[update]\ncommand = ${JSON.stringify(command)}`);
      expect(lab.mayfly('update', '--quiet')).toMatchObject({ code: 0, err: '' });
      expect(stable(lab)).toBe(before + 1);
    }
    lab.configure('');
    expect(inGeneration('/etc/mine')).toBe('time\n');
  });

  it('what is promoted on request is, even if nothing seems to have changed', () => {
    const before = stable(lab);
    expect(edit('--promote', '--', 'true')).toMatchObject({ code: 0 });
    expect(stable(lab)).toBe(before + 1);
  });

  it('a night without news makes no generation, whatever caches and times have changed', () => {
    const news =
      'mkdir -p /var/lib/command-not-found /usr/share/applications/__pycache__; cp /proc/uptime /var/lib/command-not-found/x; ' +
      'cp /proc/uptime /usr/share/applications/__pycache__/x; echo 1 >/etc/new; rm /etc/new; cp -p /etc/passwd /etc/p; touch /etc/p; mv /etc/p /etc/passwd';
    lab.configure(`[update]\ncommand = ${JSON.stringify(['sh', '-c', 'mkdir -p /usr/share/applications'])}`);
    expect(lab.mayfly('update', '--quiet')).toMatchObject({ code: 0, err: '' });
    const before = stable(lab);
    lab.configure(`[update]\ncommand = ${JSON.stringify(['sh', '-c', news])}`);
    expect(lab.mayfly('update').err).toMatch(/nothing has changed; no new generation was created\n$/);
    expect(stable(lab)).toBe(before);
    lab.configure('');
  });

  it('what breaks the tree is refused, with the reason, and the exit code of that', () => {
    const before = standing(lab);
    const r = edit('--promote', '--', 'rm', '/bin/bash');
    expect(r).toMatchObject({ code: 1, out: '' });
    expect(r.err).toMatch(/an edit of master failed in "check": shells: missing: \/bin\/bash\n/);
    expect(standing(lab)).toEqual(before);
    loginWorks(lab, A);
  });

  it('is its own: no process, no mount and no flag of it is left on the host', () => {
    const before = standing(lab);
    const script =
      'mount -t tmpfs x /mnt; touch /run/reboot-required /tmp/mayfly-edit; setsid sleep 8600010 &';
    expect(edit('--discard', '--', 'sh', '-c', script)).toMatchObject({ code: 0 });
    expect(standing(lab)).toEqual(before);
    expect(fs.existsSync('/tmp/mayfly-edit')).toBe(false);
  });

  it('without a terminal it must be said what is to become of it', () => {
    const before = standing(lab);
    const r = edit('--', 'touch', '/etc/mine');
    expect(r).toMatchObject({ code: 2, out: '' });
    expect(r.err).toMatch(/^mayfly: there is no terminal to ask on: give --promote or --discard\n/);
    expect(edit('--promote', '--discard').err).toMatch(/are mutually exclusive/);
    expect(standing(lab)).toEqual(before);
  });

  it.each([
    ['y', true],
    ['n', false],
  ])('on a terminal it asks; "%s"', (answer, promoted) => {
    const before = stable(lab);
    const line = `node ${MAYFLY} enter master --config ${lab.config}`;
    const typed = `echo asked-${answer} >/etc/asked; tty\nexit\n${answer}\n`;
    const r = sh('script', ['-qec', line, '/dev/null'], { input: Buffer.from(typed) });
    expect(r.out).toMatch(/this is a copy of master; leave it with "exit"/);
    expect(r.out).toMatch(/promote it for new logins\? \[y\/N\]/);
    expect(stable(lab) > before).toBe(promoted);
    expect(inGeneration('/etc/asked') === `asked-${answer}\n`).toBe(promoted);
  });
});
