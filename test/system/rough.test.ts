/**
 * Rough conditions: what Mayfly needs is full or read-only, the time of day jumps, it is killed at random moments, two
 * recoveries run at once and are killed as well, and all the while others log in and out. When the condition is over,
 * one recovery gives the state of before. Then records that are cut and damaged, many at a time.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chance, count } from '../campaign.ts';
import { BACKENDS, forgetUsers, killTree, Lab, MAYFLY, must, type Ran, sh, sleep, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const [A, B, C] = ['mayfly-a', 'mayfly-b', 'mayfly-c'];
/** Per backend. */
const ROUNDS = count('ROUGH', 8);
const RECORDS = count('RECORDS', 40);
/** Records that one recovery finds. */
const AT_ONCE = 20;
/** Milliseconds for one command; only proves "not for ever". */
const FOR_EVER = 600_000;

/** Words of the JavaScript engine: a fault of the program, in whatever condition the machine is. */
const ENGINE = /cannot read prop|is not a function|is not iterable|maximum call stack|\bat .*\.[cm]?js:\d+/i;

/** Loaded before the program: at each look the time of day is another, up to a day before or after. */
const JUMPING_CLOCK = `let n = Number(process.env.SEED) || 1;
const now = Date.now;
Date.now = () => now() + (n = (n * 48271) % 2147483647) % 172800000 - 86400000;
`;

type Area = 'state' | 'run' | 'pool';
type Trouble = 'none' | 'clock' | `${Area} ${'full' | 'read-only'}`;
const TROUBLES: readonly Trouble[] = [
  ...(['none', 'clock', 'state full', 'state read-only'] as const),
  ...(['run full', 'run read-only', 'pool full', 'pool read-only'] as const),
];
type Action = 'start' | 'stop' | 'update' | 'recover';
const ACTIONS: readonly Action[] = ['start', 'stop', 'update', 'recover'];

describe.each(BACKENDS)('rough conditions on %s', backend => {
  let lab: Lab;
  let before: Record<string, unknown>;
  /** How long each action takes undisturbed; moments of kills are drawn from that. */
  const span: Record<Action, number> = { start: 0, stop: 0, update: 0, recover: 0 };

  beforeAll(async () => {
    for (const name of [A, B, C]) user(name);
    lab = new Lab();
    // Each has a file system of its own, which can be full or read-only while the others are not.
    for (const name of ['state', 'run', 'pool', 'refresh.d']) fs.mkdirSync(`${lab.dir}/${name}`);
    for (const name of ['state', 'run'])
      must('mount', ['-t', 'tmpfs', '-o', 'size=64M,mode=0755', 'mayfly-test', `${lab.dir}/${name}`]);
    if (backend === 'btrfs') {
      must('truncate', ['-s', '512M', `${lab.dir}/disk`]);
      must('mkfs.btrfs', ['-q', `${lab.dir}/disk`]);
      must('mount', ['-o', 'loop', `${lab.dir}/disk`, `${lab.dir}/pool`]);
    } else must('mount', ['-t', 'tmpfs', '-o', 'size=512M', 'mayfly-test', `${lab.dir}/pool`]);
    const stamp = '#!/bin/sh\ndate +%s%N >"$1/etc/stamp"\n';
    fs.writeFileSync(`${lab.dir}/refresh.d/stamp`, stamp, { mode: 0o755 });
    fs.writeFileSync(`${lab.dir}/clock.cjs`, JUMPING_CLOCK);
    fs.writeFileSync(`${lab.dir}/precious`, 'precious');
    // No limit of admission: what is full is met, not announced.
    const limits = '[admission]\nmax_used_percent = 100\nmin_free = "0"\n';
    lab.configure(`${limits}[update]\ncommand = ["true"]\nkeep = 2\nmax_used_percent = 100\n`);
    const from = makeMiniTree(`${lab.dir}/tree`);
    expect(lab.mayfly('init', '--backend', backend, '--from', from, '--quiet')).toMatchObject({ code: 0 });
    expect(lab.hook('start', B, ':9')).toMatchObject({ code: 0 });
    lab.linger(B, false, 'sleep 100000');
    for (let i = 0; i < 3; i++)
      for (const action of ['start', 'stop', 'update', 'recover'] as const) {
        const begun = performance.now();
        expect(await run(action, 'none', 0).done, action).toMatchObject({ code: 0 });
        span[action] = performance.now() - begun;
      }
    before = picture();
  });
  afterAll(() => {
    for (const name of ['state', 'run', 'pool']) writable(name);
    lab.hook('stop', B, ':9');
    for (const s of lab.records()) lab.mayfly('end', s.id);
    expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
    for (const name of ['pool', 'run', 'state']) must('umount', [`${lab.dir}/${name}`]);
    lab.close();
    forgetUsers();
  });

  /** One action, as the display manager or an administrator does it. */
  function run(action: Action, trouble: Trouble, seed: number): { pid: number; done: Promise<Ran> } {
    const isHook = action === 'start' || action === 'stop';
    const words = isHook ? ['hook', 'lightdm', action] : [action, '--quiet'];
    const clock = trouble === 'clock' ? ['--require', `${lab.dir}/clock.cjs`] : [];
    const child = spawn('node', [...clock, MAYFLY, ...words, '--config', lab.config], {
      cwd: '/',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', USER: A, DISPLAY: ':0', SEED: String(seed) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const said = { out: '', err: '' };
    child.stdout.on('data', text => {
      said.out += text;
    });
    child.stderr.on('data', text => {
      said.err += text;
    });
    const done = new Promise<Ran>((yes, no) => {
      const timer = setTimeout(() => {
        killTree(child.pid ?? 0);
        no(new Error(`${action} with ${trouble} does not end: ${said.err}`));
      }, FOR_EVER);
      child.on('close', code => {
        clearTimeout(timer);
        if (ENGINE.test(said.out + said.err))
          no(new Error(`${action} with ${trouble}: ${said.out}${said.err}`));
        else yes({ code: code ?? 255, ...said });
      });
    });
    return { pid: child.pid ?? 0, done };
  }

  /** Killed at a part of its time. */
  async function killed(action: Action, trouble: Trouble, part: number): Promise<boolean> {
    const { pid, done } = run(action, trouble, 1 + Math.floor(part * 1e6));
    await sleep(part * span[action]);
    killTree(pid);
    return (await done).code === 255;
  }

  const filler = (area: string): string => `${lab.dir}/${area}/.filler`;

  function writable(area: string): void {
    must('mount', ['-o', 'remount,rw', `${lab.dir}/${area}`]);
    fs.rmSync(filler(area), { force: true });
  }

  /** Makes the trouble; returns how it ends, or undefined if it cannot be had now: somebody is writing. */
  function cause(trouble: Trouble): (() => void) | undefined {
    const [area = '', kind] = trouble.split(' ');
    const path = `${lab.dir}/${area}`;
    if (kind === 'read-only') {
      if (sh('mount', ['-o', 'remount,ro', path]).code !== 0) return undefined;
    } else if (kind === 'full') {
      for (let size = 2 ** 29; size >= 4096; size /= 2) {
        // Without asking what is free, which btrfs only guesses.
        while (
          sh('fallocate', ['-o', String(sizeOf(filler(area))), '-l', String(size), filler(area)]).code === 0
        );
      }
    } else return () => {};
    return () => writable(area);
  }

  const sizeOf = (path: string): number => (fs.existsSync(path) ? fs.statSync(path).size : 0);

  /** The neighbour comes and goes until `isOver`; they may be refused, and the next time they are not. */
  async function neighbour(isOver: () => boolean): Promise<number> {
    let logins = 0;
    while (!isOver()) {
      const { code, err } = await lab.hookAsync('start', C, ':5').done;
      expect(err).not.toMatch(ENGINE);
      if (code === 0) logins += 1;
      expect((await lab.hookAsync('stop', C, ':5').done).err).not.toMatch(ENGINE);
    }
    return logins;
  }

  /** A login or none may have come between the last update and now. */
  function picture(): Record<string, unknown> {
    const { state, ...rest } = lab.picture();
    return { ...rest, state: (state as string[]).filter(path => path !== '/state/probation.json') };
  }

  /** Numbers of generations change with each update; how many there are, and their places, do not. */
  const withoutNumbers = (picture: Record<string, unknown>): unknown =>
    JSON.parse(JSON.stringify(picture).replace(/generations\/\d+/g, 'generations/N'));

  it(`${ROUNDS} times: after it all is as before, and the others live`, async () => {
    const random = chance(`rough conditions on ${backend}`);
    const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
    const met = new Map<string, number>();
    let kills = 0;
    let logins = 0;
    let refused = 0;
    /** A full disk never keeps anything from being taken away; only what cannot be written at all does. */
    const judge = (action: Action, trouble: Trouble, r: Ran): void => {
      refused += Number(r.code !== 0);
      const mayFail =
        trouble.endsWith('read-only') ||
        (trouble.endsWith('full') && action !== 'stop' && action !== 'recover');
      if (!mayFail) expect(r, `${action} with ${trouble}`).toMatchObject({ code: 0 });
    };
    for (let i = 0; i < ROUNDS; i++) {
      // Each trouble in turn, so that a few rounds meet all of them.
      const trouble = TROUBLES[i % TROUBLES.length] ?? 'none';
      const action = pick(ACTIONS);
      const parts = [random(), random(), random()];
      const when = `round ${i}: ${action} with ${trouble}, moments ${parts.map(p => p.toFixed(3)).join(', ')}`;
      if (action === 'stop' || action === 'recover')
        expect(lab.hook('start', A), when).toMatchObject({ code: 0 });
      if (action === 'stop') lab.linger(A, false, 'trap "" TERM; sleep 1000');
      let isOver = false;
      const others = neighbour(() => isOver);
      const end = cause(trouble);
      try {
        if (random() < 0.75) kills += Number(await killed(action, trouble, parts[0] ?? 0));
        else judge(action, trouble, await run(action, trouble, 1).done);
        // What reality does next: somebody, and the service, recover; one of the two may die at it.
        const two = [
          run('recover', trouble, 2).done,
          random() < 0.5 ? killed('recover', trouble, parts[1] ?? 0) : run('recover', trouble, 3).done,
        ];
        for (const result of await Promise.all(two)) {
          if (typeof result === 'boolean') kills += Number(result);
          else judge('recover', trouble, result);
        }
      } finally {
        isOver = true;
        logins += await others;
        end?.();
      }
      met.set(trouble, (met.get(trouble) ?? 0) + Number(end !== undefined));
      expect(lab.mayfly('recover'), when).toMatchObject({ code: 0 });
      // Both log in again, also if their session is still there; then nobody has a reason of a refusal to read.
      for (const [name, display] of [
        [A, ':0'],
        [C, ':5'],
      ] as const)
        for (const step of ['start', 'stop'] as const)
          expect(lab.hook(step, name, display), `${when}: ${step} of ${name}`).toEqual({
            code: 0,
            out: '',
            err: '',
          });
      const after = picture();
      expect(withoutNumbers(after), when).toEqual(withoutNumbers(before));
      if (action === 'update') before = after;
      else expect(after, when).toEqual(before);
      expect(lab.inside(B, 'true').code, `${when}: the neighbour`).toBe(0);
      expect(lab.inMaster('/etc/passwd'), when).toMatch(/^root:/);
      expect(fs.readFileSync(`${lab.dir}/precious`, 'utf8'), when).toBe('precious');
    }
    const told = [...met].map(([trouble, n]) => `${trouble} ${n}`).join(', ');
    console.log(
      `${backend}: ${ROUNDS} rounds (${told}), ${kills} kills, ${refused} refused, ${logins} logins of others meanwhile`,
    );
  });

  it(`${RECORDS} records that are cut or damaged: only what they stand for goes`, async () => {
    const random = chance(`damaged records on ${backend}`);
    const own = lab.session(B);
    if (!own) throw new Error('no session');
    // Of another boot, so that whatever can still be read is over.
    const whole = `${JSON.stringify({ ...own, boot: 'another' })}\n`;
    for (let from = 0; from < RECORDS; from += AT_ONCE) {
      const all = Array.from({ length: Math.min(AT_ONCE, RECORDS - from) }, (_, i) => {
        const id = `u4242-${(from + i).toString(16).padStart(8, '0')}`;
        // Some are the neighbour's word by word, and stand where another's should.
        const text = random() < 0.3 ? whole : whole.replaceAll(own.id, id);
        const at = Math.floor(random() * text.length);
        const flipped = String.fromCharCode(text.charCodeAt(at) ^ (1 << Math.floor(random() * 7)));
        const zeros = '\0'.repeat(Math.min(512, text.length - at));
        const put = [flipped, zeros, ''][Math.floor(random() * 3)] ?? '';
        const damaged =
          put === '' ? text.slice(0, at) : text.slice(0, at) + put + text.slice(at + put.length);
        fs.writeFileSync(`${lab.dir}/run/sessions/${id}.json`, damaged, { mode: 0o600 });
        const how = put === '' ? 'cut' : put === flipped ? 'one bit changed' : 'zeros';
        return `${id}${text === whole ? ' (a copy)' : ''}: ${how} at ${at} of ${text.length}`;
      });
      const r = await run('recover', 'none', 0).done;
      expect(r, all.join('; ')).toMatchObject({ code: 0 });
      expect(picture(), all.join('; ')).toEqual(before);
      expect(lab.inside(B, 'true').code).toBe(0);
    }
  });
});
