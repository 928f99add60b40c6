/** Who works on ending, by what the kernel says of a process; and real processes that do so, or do not. */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { identify, isAlive } from '../../src/linux/process-id.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { settle, signalState, waitForAll } from '../../src/linux/terminate.ts';
import { until } from '../system/lab.ts';

const host = realHost();
const TERM = 1n << 14n;
const HUP = 1n;

const status = (o: Record<string, string | bigint>): string =>
  Object.entries<string | bigint>({ Name: 'x', State: 'S (sleeping)', PPid: '7', ...o })
    .map(
      ([name, value]) =>
        `${name}:\t${typeof value === 'bigint' ? value.toString(16).padStart(16, '0') : value}\n`,
    )
    .join('');

describe('a process that was told to end', () => {
  it.each<[string, Record<string, string | bigint>, string]>([
    ['handles it', { SigCgt: TERM }, 'works'],
    ['handles it and others', { SigCgt: 0x0000000180014a07n }, 'works'],
    ['handles others', { SigCgt: ~TERM & 0xffffffffffffffffn }, 'ends'],
    ['does nothing about it', {}, 'ends'],
    ['ignores it', { SigIgn: TERM }, 'ignores'],
    ['ignores others', { SigIgn: ~TERM & 0xffffffffffffffffn }, 'ends'],
    ['ignores and blocks it', { SigIgn: TERM, SigBlk: TERM }, 'ignores'],
    ['blocks it', { SigBlk: TERM, ShdPnd: TERM }, 'ends'],
    ['blocks it in its first thread, which was told', { SigBlk: TERM, SigPnd: TERM }, 'ends'],
    ['blocks it, and would handle it', { SigBlk: TERM, SigCgt: TERM, ShdPnd: TERM }, 'ends'],
    ['has taken it by a file descriptor', { SigBlk: TERM }, 'works'],
    ['handles it, and has not yet been scheduled', { SigCgt: TERM, ShdPnd: TERM }, 'works'],
  ])('and %s', (_, fields, does) => {
    expect(signalState(status(fields))).toMatchObject({ does, parent: 7, stopped: false });
  });

  it('and has ended is none any more', () => {
    for (const State of ['Z (zombie)', 'X (dead)']) expect(signalState(status({ State }))).toBeUndefined();
  });

  it('and is stopped, or ends by SIGHUP, is seen', () => {
    expect(signalState(status({ State: 'T (stopped)' }))?.stopped).toBe(true);
    expect(signalState(status({ SigIgn: TERM, SigCgt: HUP }))).toMatchObject({
      does: 'ignores',
      handlesHup: true,
    });
  });
});

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) if (child.pid) process.kill(-child.pid, 'SIGKILL');
});

/** Starts a program that prints a line when it is ready. */
async function start(file: string, ...args: string[]): Promise<number> {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  child.on(
    'exit',
    () => child.pid && children.splice(children.indexOf(child), children.includes(child) ? 1 : 0),
  );
  children.push(child);
  await new Promise(resolve => child.stdout?.once('data', resolve));
  return child.pid ?? 0;
}
const sh = (script: string): Promise<number> => start('sh', '-c', script);
const python = (script: string): Promise<number> => start('python3', '-c', script);

/** The processes of these groups, which they lead. */
const inGroups = (leaders: readonly number[]): number[] =>
  fs.readdirSync('/proc').flatMap(name => {
    const stat = /^\d+$/.test(name) ? host.read(`/proc/${name}/stat`) : undefined;
    const group = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[2]);
    return leaders.includes(group) && identify(host, Number(name)) ? [Number(name)] : [];
  });

/** Tells these and settles; returns which of them are left, and who of all works. */
async function ending(leaders: readonly number[], time = 5000) {
  const signals: string[] = [];
  const told: number[] = [];
  const spied = {
    ...host,
    kill: (pid: number, signal: NodeJS.Signals): boolean => {
      signals.push(signal);
      told.push(pid);
      return host.kill(pid, signal);
    },
  };
  const first = inGroups(leaders);
  for (const pid of first) host.kill(pid, 'SIGTERM');
  const find = async (): Promise<number[]> => inGroups(leaders);
  const { working, storm } = await settle(spied, first, { find, told: new Set(first), known: [], time });
  return { working: working.map(id => id.pid), left: inGroups(leaders), storm, signals, told };
}

const SAVES = 'trap "sleep 0.3; kill \\$p; exit" TERM; sleep 1000 & p=$!; echo; while :; do wait; done';

describe('of real processes', () => {
  it('those that ignore or block SIGTERM are killed, those that work on ending are left', async () => {
    const saver = await sh('trap "sleep 1000; exit" TERM; echo; while :; do sleep 1000; done');
    const deaf = await sh('trap "" TERM; echo; while :; do sleep 1000; done');
    const plain = await sh('echo; sleep 1000; true');
    const { working, left, storm, signals, told } = await ending([saver, deaf, plain]);
    expect(working).toContain(saver);
    expect(left).toContain(saver);
    expect([deaf, plain].filter(pid => left.includes(pid))).toEqual([]);
    expect(storm).toBe(false);
    expect(signals).toContain('SIGKILL');
    expect(left.filter(pid => told.includes(pid))).toEqual([]); // what the saver has started is told nothing
  });

  it('one that blocks the signal is killed, one that takes it by a descriptor works', async () => {
    const wait = 'import signal, os, time; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print(flush=True)';
    const deaf = await python(`${wait}; time.sleep(1000)`);
    const taker = await python(`${wait}; signal.sigwait([15]); time.sleep(1000)`);
    const { working, left } = await ending([deaf, taker], 1000);
    expect(working).toEqual([taker]);
    expect(left).toEqual([taker]);
  });

  it('a stopped one goes on, and works', async () => {
    const saver = await sh(SAVES);
    process.kill(saver, 'SIGSTOP');
    await until(() => signalState(host.read(`/proc/${saver}/status`) ?? '')?.stopped === true);
    const { working, signals } = await ending([saver]);
    expect(working).toContain(saver);
    expect(signals).toContain('SIGCONT');
    const over = host.monotonic() + 30_000;
    expect(await waitForAll(host, [identify(host, saver) ?? { pid: 0, start: '' }], over)).toEqual([]);
  });

  it('an interactive shell, which ignores SIGTERM, ends by SIGHUP and can save its history', async () => {
    const shell = await start(
      'perl',
      '-e',
      '$SIG{TERM} = "IGNORE"; $SIG{HUP} = sub { exit 0 }; $| = 1; print "\\n"; sleep 1 while 1',
    );
    const { working, left, signals } = await ending([shell]);
    expect([working, left, signals]).toEqual([[], [], ['SIGHUP']]);
  });

  it('those that keep forking are a storm', async () => {
    const bomb = await sh(
      'f() { while :; do sleep 100 & done; }; echo; trap f TERM; while :; do sleep 0.01; done',
    );
    const first = await ending([bomb], 20_000);
    let storm = first.storm;
    if (!storm) {
      const id = identify(host, bomb);
      const left = await waitForAll(host, id ? [id] : [], host.monotonic() + 300_000);
      const find = async (): Promise<number[]> => inGroups([bomb]);
      ({ storm } = await settle(host, await find(), { find, told: new Set(), known: left, time: 20_000 }));
    }
    expect(storm).toBe(true);
  });

  it('the wait is for what they start, too, and has an end', async () => {
    const dir = fs.mkdtempSync(`${tmpdir()}/mayfly-wait-`);
    onTestFinished(() => fs.rmSync(dir, { recursive: true }));
    const wait = (name: string): string => `until [ -e ${dir}/${name} ]; do sleep 0.02; done`;
    const parent = await sh(`(${wait('second')}) & echo; ${wait('first')}`);
    const id = identify(host, parent);
    if (!id) throw new Error('it is gone');
    let looks = 0;
    const spied = {
      ...host,
      list: (path: string): string[] => {
        // It has been seen with its child, and then it is gone, and the child is not.
        if (looks++ > 0) fs.writeFileSync(`${dir}/${isAlive(host, id) ? 'first' : 'second'}`, '');
        return host.list(path);
      },
    };
    expect(await waitForAll(spied, [id], host.monotonic() + 60_000)).toEqual([]);
    expect(inGroups([parent])).toEqual([]);
    const stays = await sh('echo; sleep 1000; true');
    const stay = identify(host, stays);
    if (!stay) throw new Error('it is gone');
    const left = await waitForAll(host, [stay], host.monotonic() + 50);
    expect(left).toContainEqual(stay);
  });
});
