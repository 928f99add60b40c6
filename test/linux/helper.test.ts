/** The runner of the agent, and its helper. */

import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { monotonic } from '../../src/linux/clock.ts';
import type { Command, Runner } from '../../src/linux/command.ts';
import { helperRunner, jobOf, requestBytes, takeAnswers } from '../../src/linux/helper.ts';
import { mountCommand } from '../../src/linux/mount-program.ts';
import { planMountOps } from '../../src/linux/mounts.ts';

const lockCommand = (fd: number, wait: readonly string[]): Command => ({
  file: 'flock',
  args: ['-x', ...wait, '-E', '75', '3'],
  effect: 'write',
  inheritFds: [fd],
  okCodes: [0, 75],
});

const dirs = (...targets: string[]): Command => mountCommand(targets.map(target => ({ op: 'dir', target })));

describe('a job', () => {
  it('is taking a lock, or mounting', () => {
    expect(jobOf(lockCommand(5, ['-w', '24.2']))).toEqual(['lock', '25', '75']);
    expect(jobOf(lockCommand(5, ['-n']))).toEqual(['lock', '0', '75']);
    expect(jobOf(dirs('/x'))?.slice(-7)).toEqual(['dir', '', '/x', '', '0', '', '0']);
  });

  it.each<[string, Command]>([
    ['another program', { file: 'mount', args: ['-a'], effect: 'write' }],
    ['another program in Perl', { file: 'perl', args: ['-e', 'exit', '--'], effect: 'write' }],
    ['another lock', { ...lockCommand(5, ['-n']), args: ['-s', '-n', '-E', '75', '3'] }],
    ['a lock on two descriptors', { ...lockCommand(5, ['-n']), inheritFds: [5, 6] }],
    ['what runs in the background', { ...dirs('/x'), background: true }],
    ['what has a limit', { ...dirs('/x'), limit: 5 }],
    ['a command in the tree', mountCommand([{ op: 'enter', target: '', merge: false, argv: ['true'] }])],
  ])('is not %s', (_, c) => {
    expect(jobOf(c)).toBeUndefined();
  });

  it('and its answers are cut out of what comes in any pieces', () => {
    expect(requestBytes(7, ['a', 'ö\n', '']).toString()).toBe('7 3 7\na\0ö\n\0\0');
    const all = Buffer.from('0 0 0\n12 32 4\nä: 3 1');
    const { answers, rest } = takeAnswers(all);
    expect(answers).toEqual([
      { id: 0, code: 0, stderr: '' },
      { id: 12, code: 32, stderr: 'ä: ' },
    ]);
    expect(rest.toString()).toBe('3 1');
    for (let n = 0; n < all.length; n++) {
      const first = takeAnswers(all.subarray(0, n));
      const second = takeAnswers(Buffer.concat([first.rest, all.subarray(n)]));
      expect([...first.answers, ...second.answers]).toEqual(answers);
    }
  });
});

describe.runIf(process.getuid?.() === 0)('the helper', () => {
  let directory: string;
  let runner: Runner;
  const ran: string[] = [];
  const other: Runner = {
    run: async c => {
      ran.push(c.file);
      return { code: 0, stdout: '', stderr: '' };
    },
  };
  const never = Number.POSITIVE_INFINITY;
  const open = (name: string): number => fs.openSync(`${directory}/${name}`, 'w+');
  const isFree = (name: string): boolean =>
    spawnSync('flock', ['-n', `${directory}/${name}`, 'true']).status === 0;
  const helpers = (): number[] =>
    spawnSync('pgrep', ['-P', `${process.pid}`, '-x', 'perl'], { encoding: 'utf8' })
      .stdout.split('\n')
      .filter(Boolean)
      .map(Number);

  beforeAll(async () => {
    directory = fs.mkdtempSync(`${tmpdir()}/mayfly-helper-`);
    runner = await helperRunner(other);
  });
  afterAll(() => fs.rmSync(directory, { recursive: true }));

  it('takes a lock for us, which lasts until we close it, and is not free for others', async () => {
    const [first, second] = [open('a'), open('a')];
    expect(await runner.run(lockCommand(first, ['-n']), never)).toMatchObject({ code: 0 });
    expect(isFree('a')).toBe(false);
    expect(await runner.run(lockCommand(second, ['-n']), never)).toMatchObject({ code: 75 });
    expect(await runner.run(lockCommand(second, ['-w', '0.5']), never)).toMatchObject({ code: 75 });
    const waits = runner.run(lockCommand(second, ['-w', '60']), never);
    fs.closeSync(first);
    expect(await waits).toMatchObject({ code: 0 });
    expect(isFree('a')).toBe(false);
    fs.closeSync(second);
    expect(isFree('a')).toBe(true);
    expect(ran).toEqual([]);
  });

  it('does what the program that mounts does, or fails as it does, many at once', async () => {
    fs.writeFileSync(`${directory}/file`, '');
    const good = Array.from({ length: 30 }, (_, i) =>
      runner.run(dirs(`${directory}/d${i}`, `${directory}/d${i}/ä b`), never),
    );
    const bad = runner.run(dirs(`${directory}/file/x`), never);
    await expect(bad).rejects.toMatchObject({
      code: 'command',
      message: expect.stringMatching(
        /^"perl" failed with exit code 32: cannot create the directory .*Not a directory$/,
      ),
    });
    for (const one of await Promise.all(good)) expect(one).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(fs.readdirSync(directory).filter(name => fs.existsSync(`${directory}/${name}/ä b`))).toHaveLength(
      30,
    );
    expect(fs.statSync(`${directory}/d0`).mode & 0o777).toBe(0o755);
    expect(ran).toEqual([]);
  });

  it('mounts a tree, in which every later mount point is found by its descriptor, and detaches it', async () => {
    const root = `${directory}/root`;
    fs.mkdirSync(root);
    const mount = { type: 'tmpfs', source: 'mayfly-test' } as const;
    const plan = planMountOps({ ...mount, target: root, options: 'size=1M,mode=0755' }, [
      { ...mount, target: `${root}/a/b`, options: 'size=1M,nosuid,nodev' },
      { source: `${directory}/d0`, target: `${root}/c`, type: 'none', options: 'bind,slave' },
    ]);
    await runner.run(mountCommand(plan), never);
    const shown = fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map(line => line.split(' ')[4]);
    expect(shown.filter(place => place?.startsWith(root))).toEqual([root, `${root}/a/b`, `${root}/c`]);
    expect(fs.readdirSync(`${root}/c`)).toEqual(['ä b']);
    await runner.run(mountCommand([{ op: 'detach', target: root }]), never);
    expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(root);
    fs.rmdirSync(root);
    expect(ran).toEqual([]);
  });

  it('leaves to others what needs a descriptor that the kernel does not give', async () => {
    await runner.run(lockCommand(9999, ['-n']), never);
    await runner.run({ ...dirs(`${directory}/none`), inheritFds: [9999] }, never);
    expect(ran.splice(0)).toEqual(['flock', 'perl']);
    expect(fs.existsSync(`${directory}/none`)).toBe(false);
  });

  it('leaves everything else to others', async () => {
    await runner.run({ file: 'true', args: [], effect: 'read' }, never);
    expect(ran.splice(0)).toEqual(['true']);
  });

  it('does not wait longer than the deadline for one that hangs, delays no other, and keeps its lock', async () => {
    const lock = open('b');
    expect(await runner.run(lockCommand(lock, ['-n']), never)).toMatchObject({ code: 0 });
    const gate = `${directory}/gate`;
    spawnSync('mkfifo', [gate]);
    // To write a file opens it, and a FIFO waits for a reader.
    const entry = { type: 'f', mode: 0o600, uid: 0, gid: 0, data: '' } as const;
    const hangs = mountCommand([{ op: 'make', target: gate, entry }], [lock]);
    await expect(runner.run(hangs, monotonic() + 100)).rejects.toMatchObject({ code: 'timeout' });
    await expect(runner.run(hangs, monotonic() - 1)).rejects.toMatchObject({ code: 'timeout' });
    fs.closeSync(lock);
    expect(isFree('b')).toBe(false);
    expect(await runner.run(dirs(`${directory}/beside`), never)).toMatchObject({ code: 0 });
    const reader = spawn('cat', [gate], { stdio: 'ignore' });
    await new Promise(yes => reader.once('close', yes));
    while (!isFree('b')) await new Promise(setImmediate);
  });

  it('that is stopped is not waited for, and not asked again', async () => {
    const own = await helperRunner(other);
    const known = helpers();
    for (const pid of known) process.kill(pid, 'SIGSTOP');
    const lock = open('d');
    expect(await own.run(lockCommand(lock, ['-w', '60']), never)).toMatchObject({ code: 0 });
    expect(await own.run(dirs(`${directory}/after`), never)).toMatchObject({ code: 0 });
    expect(ran.splice(0)).toEqual(['flock', 'perl']);
    for (const pid of helpers()) process.kill(pid, 'SIGCONT');
    fs.closeSync(lock);
    expect(fs.existsSync(`${directory}/after`)).toBe(false);
  });

  it('that dies leaves a request undecided, and later ones to others', async () => {
    const [first, second] = [open('c'), open('c')];
    expect(await runner.run(lockCommand(first, ['-n']), never)).toMatchObject({ code: 0 });
    const waits = runner.run(lockCommand(second, ['-w', '60']), never);
    const pids = helpers();
    expect(pids).toHaveLength(1);
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await expect(waits).rejects.toMatchObject({ code: 'timeout' });
    for (const fd of [first, second]) fs.closeSync(fd);
    expect(await runner.run(dirs(`${directory}/later`), never)).toMatchObject({ code: 0 });
    expect(ran.splice(0)).toEqual(['perl']);
  });
});
