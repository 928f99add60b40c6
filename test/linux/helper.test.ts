/** The runner of the agent, and its helper. */

import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { monotonic } from '../../src/linux/clock.ts';
import type { Command, Runner } from '../../src/linux/command.ts';
import { type HelperRunner, helperRunner, jobOf } from '../../src/linux/helper.ts';
import { requestBytes, startHelper, takeAnswers } from '../../src/linux/helper-process.ts';
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
  let runner: HelperRunner;
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

  /** A runner of its own, and the process of its helper; `tick` lets it start another one. */
  async function runnerOf(): Promise<{ own: HelperRunner; pid: number; tick: () => void }> {
    const known = helpers();
    let clock = 0;
    const own = await helperRunner(other, () => clock);
    const pid = helpers().find(one => !known.includes(one)) ?? 0;
    expect(pid).toBeGreaterThan(1);
    const tick = (): void => {
      clock += 60_000;
    };
    return { own, pid, tick };
  }

  /** Resolves when commands are run by a helper again. */
  async function isReplaced(own: HelperRunner): Promise<void> {
    for (let n = 0; ; n++) {
      await own.run(dirs(`${directory}/again${n}`), never);
      if (ran.splice(0).length === 0) break;
      await new Promise(setImmediate);
    }
  }

  const isGone = (pid: number): boolean => !helpers().includes(pid);
  async function ends(pid: number): Promise<void> {
    while (!isGone(pid)) await new Promise(setImmediate);
  }

  it('that has ended is replaced, and nobody waits for the new one', async () => {
    const { own, pid, tick } = await runnerOf();
    process.kill(pid, 'SIGKILL');
    await ends(pid);
    await own.run(dirs(`${directory}/not-yet`), never);
    tick();
    await own.run(dirs(`${directory}/starting`), never);
    expect(ran.splice(0)).toEqual(['perl', 'perl']);
    await isReplaced(own);
  });

  it('that is stopped is not waited for, and replaced; what it was asked is done once, by others', async () => {
    const { own, pid, tick } = await runnerOf();
    process.kill(pid, 'SIGSTOP');
    const lock = open('d');
    const all = [own.run(lockCommand(lock, ['-w', '60']), never), own.run(dirs(`${directory}/after`), never)];
    for (const one of await Promise.all(all)) expect(one).toMatchObject({ code: 0 });
    expect(ran.splice(0)).toEqual(['flock', 'perl']);
    await ends(pid);
    expect(fs.existsSync(`${directory}/after`)).toBe(false);
    fs.closeSync(lock);
    tick();
    await isReplaced(own);
  });

  it('that is stopped while nobody asks is found by a check, and one that answers is kept', async () => {
    const { own, pid, tick } = await runnerOf();
    tick();
    await own.check();
    expect(isGone(pid)).toBe(false);
    process.kill(pid, 'SIGSTOP');
    await own.check();
    await ends(pid);
    await isReplaced(own);
  });

  it('does not carry out later what was given up, with another file of ours', async () => {
    const { own, pid } = await runnerOf();
    process.kill(pid, 'SIGSTOP');
    const lock = open('e');
    const late = { ...dirs(`${directory}/late`), inheritFds: [lock] };
    await expect(own.run(late, monotonic() + 50)).rejects.toMatchObject({ code: 'timeout' });
    process.kill(pid, 'SIGCONT');
    await ends(pid);
    fs.closeSync(lock);
    expect(fs.existsSync(`${directory}/late`)).toBe(false);
  });

  it('does nothing with a descriptor that is another file by now', async () => {
    const helper = await startHelper();
    const [first, second] = [open('f'), open('g')];
    const at = (fd: number, file = fd): string => `${fd}=${fs.fstatSync(file).dev}:${fs.fstatSync(file).ino}`;
    expect(await helper?.ask(['lock', at(first, second), '0', '75'], never)).toBe('nothing done');
    expect(isFree('f')).toBe(true);
    expect(await helper?.ask(['lock', at(first), '0', '75'], never)).toMatchObject({ code: 0 });
    expect(isFree('f')).toBe(false);
    for (const fd of [first, second]) fs.closeSync(fd);
  });

  it('that has no descriptors left leaves the work to others: that is no failure of the command', async () => {
    const { own, pid } = await runnerOf();
    spawnSync('prlimit', ['--pid', `${pid}`, '--nofile=6:6']);
    const lock = open('h');
    expect(await own.run(lockCommand(lock, ['-n']), never)).toMatchObject({ code: 0 });
    expect(await own.run(dirs(`${directory}/no-room`), never)).toMatchObject({ code: 0 });
    expect(ran.splice(0)).toEqual(['flock', 'perl']);
    fs.closeSync(lock);
  });

  it('that is killed while it works: a mount is completed and heard of, a lock is taken by others', async () => {
    const { own, pid } = await runnerOf();
    const gate = `${directory}/gate2`;
    spawnSync('mkfifo', [gate]);
    const entry = { type: 'f', mode: 0o600, uid: 0, gid: 0, data: '' } as const;
    const [first, second] = [open('i'), open('i')];
    expect(await own.run(lockCommand(first, ['-n']), never)).toMatchObject({ code: 0 });
    const mounts = own.run(mountCommand([{ op: 'make', target: gate, entry }]), never);
    const locks = own.run(lockCommand(second, ['-w', '60']), never);
    const childrenOf = (): string[] =>
      fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
    const inode = fs.fstatSync(second).ino;
    const waiter = (): number =>
      Number(
        new RegExp(`-> FLOCK +\\S+ +\\S+ +(\\d+) \\S+:${inode} `).exec(fs.readFileSync('/proc/locks', 'utf8'))?.[1],
      );
    while (childrenOf().length < 2 || !(waiter() > 1)) await new Promise(setImmediate);
    process.kill(pid, 'SIGKILL');
    const reader = spawn('cat', [gate], { stdio: 'ignore' });
    expect(await mounts).toMatchObject({ code: 0, stderr: '' });
    expect(ran).toEqual([]);
    process.kill(waiter(), 'SIGKILL');
    expect(await locks).toMatchObject({ code: 0 });
    expect(ran.splice(0)).toEqual(['flock']);
    for (const fd of [first, second]) fs.closeSync(fd);
    if (reader.exitCode === null) await new Promise(yes => reader.once('close', yes));
  });

  it('that dies with its child leaves a mount undecided', async () => {
    const { own, pid } = await runnerOf();
    const gate = `${directory}/gate3`;
    spawnSync('mkfifo', [gate]);
    const entry = { type: 'f', mode: 0o600, uid: 0, gid: 0, data: '' } as const;
    const mounts = own.run(mountCommand([{ op: 'make', target: gate, entry }]), never);
    const children = (): string => fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    while (children() === '') await new Promise(setImmediate);
    const child = Number(children());
    for (const one of [pid, child]) process.kill(one, 'SIGKILL');
    await expect(mounts).rejects.toMatchObject({ code: 'timeout' });
    expect(ran).toEqual([]);
  });

  it('whose child is killed while it waits for a lock: others take it', async () => {
    const { own, pid } = await runnerOf();
    const [first, second] = [open('j'), open('j')];
    expect(await own.run(lockCommand(first, ['-n']), never)).toMatchObject({ code: 0 });
    const locks = own.run(lockCommand(second, ['-w', '60']), never);
    const children = (): string => fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    while (children() === '') await new Promise(setImmediate);
    process.kill(Number(children()), 'SIGKILL');
    expect(await locks).toMatchObject({ code: 0 });
    expect(ran.splice(0)).toEqual(['flock']);
    for (const fd of [first, second]) fs.closeSync(fd);
  });
});
