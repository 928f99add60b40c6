/** SIGKILL of an update at random moments: stable works, what is left is taken away, and the next update succeeds. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chance, count, moments } from '../campaign.ts';
import { BACKENDS, forgetUsers, killTree, Lab, MAYFLY, must, sh, sleep, until, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-k';
const B = 'mayfly-l';
/** A group of the host that the tree does not know. */
const NUMBER = 7999;
/** Per backend. */
const KILLS = count('KILLS', 8);

describe.each(BACKENDS)('SIGKILL of an update at random moments on %s', backend => {
  let lab: Lab;
  let span = 0;
  let serial = 0;

  beforeAll(async () => {
    user(A);
    user(B);
    lab = new Lab();
    const from = makeMiniTree(`${lab.dir}/tree`);
    const r = lab.mayfly('init', '--backend', backend, '--from', from, '--quiet');
    if (r.code !== 0) throw new Error(r.err);
    fs.mkdirSync(`${lab.dir}/refresh.d`);
    const stamp = `cat ${lab.dir}/next >"$1/etc/stamp" && chown 0:${NUMBER} "$1/etc/stamp"`;
    fs.writeFileSync(`${lab.dir}/refresh.d/stamp`, `#!/bin/sh\n${stamp}\n`, { mode: 0o755 });
    must('groupadd', ['-g', String(NUMBER), 'mayfly-kill']); // so that each update has a file to give another group
    lab.configure('[update]\ncommand = ["true"]\nkeep = 2\n');
    expect(lab.hook('start', B, ':9')).toMatchObject({ code: 0 });
    for (let i = 0; i < 3; i++) {
      const begun = performance.now();
      expect(update()).toMatchObject({ code: 0 });
      span = performance.now() - begun;
    }
  });
  afterAll(() => {
    lab.hook('stop', B, ':9');
    lab.close();
    forgetUsers();
    sh('groupdel', ['mayfly-kill']);
  });

  function nextStamp(): void {
    serial += 1;
    fs.writeFileSync(`${lab.dir}/next`, `${serial}\n`);
  }

  function update() {
    nextStamp();
    return lab.mayfly('update', '--quiet');
  }

  const stable = (): number => Number(/(\d+)\.json$/.exec(fs.readlinkSync(`${lab.dir}/state/stable`))?.[1]);

  /** What must hold with no update at work. */
  function mustBeSound(when: string): void {
    const generations = fs.readdirSync(`${lab.dir}/state/generations`);
    const pool = lab.inPool();
    const proven = generations.filter(n => n.endsWith('.json')).map(n => n.replace('.json', ''));
    expect(pool.generations, when).toEqual(proven.sort());
    expect(proven, when).toContain(String(stable()));
    expect(
      generations.filter(n => /candidate|retired|tmp/.test(n)),
      when,
    ).toEqual([]);
    expect(pool.others, when).toEqual(['master']);
    expect(pool.sessions, when).toEqual([lab.session(B)?.id]);
    expect(fs.existsSync(`${lab.dir}/state/adopt`), when).toBe(false);
    expect(
      fs.readdirSync(`${lab.dir}/state`).filter(n => n.startsWith('renumber')),
      when,
    ).toEqual([]);
    const beside = generations.filter(n => /\.(owners|run)/.test(n)).sort();
    expect(beside, when).toEqual(proven.flatMap(n => [`${n}.owners`, `${n}.run`]).sort());
    const group = lab.withMaster(root => fs.statSync(`${root}/etc/stamp`).gid);
    expect(group, when).not.toBe(NUMBER);
    expect(lab.inMaster('/etc/stamp'), when).toBe(lab.inGeneration(stable(), '/etc/stamp'));
  }

  it(`${KILLS} times`, async () => {
    const random = chance(`kills of an update on ${backend}`);
    let killed = 0;
    let i = 0;
    const where = new Map<string, number>();
    // An update that was quicker than its kill is one more case, and another moment is drawn for the kill.
    for (const queue = moments(KILLS, random); queue.length > 0; i++) {
      nextStamp();
      const begun = performance.now();
      const child = spawn('node', [MAYFLY, 'update', '--quiet', '--config', lab.config], {
        cwd: '/',
        stdio: 'ignore',
      });
      const ended = new Promise<{ signal: NodeJS.Signals | null; ms: number }>(yes =>
        child.on('close', (_code, signal) => yes({ signal, ms: performance.now() - begun })),
      );
      const after = (queue.pop() ?? 0) * span;
      await sleep(after);
      // Every other time only the program itself: what it runs must die with it, but storage commands finish.
      if (i % 2 === 0) killTree(child.pid ?? 0);
      else child.kill('SIGKILL');
      const { signal, ms } = await ended;
      if (signal === 'SIGKILL') killed += 1;
      else {
        span = ms;
        if (i < 5 * KILLS) queue.push(random());
      }
      const told = JSON.parse(fs.readFileSync(`${lab.dir}/state/update.json`, 'utf8'));
      const phase = signal === 'SIGKILL' && told.result === 'running' ? told.phase : 'outside';
      where.set(phase, (where.get(phase) ?? 0) + 1);
      await until(() => sh('flock', ['-n', `${lab.dir}/run/locks/update`, 'true']).code === 0, 20_000);
      const when = `killed after ${after.toFixed(0)} ms in ${phase}`;
      // A login needs no recovery first: stable is whole all the time.
      if (i % 5 === 0) {
        expect(lab.hook('start', A), when).toEqual({ code: 0, out: '', err: '' });
        expect(lab.inside(A, 'true'), when).toMatchObject({ code: 0 });
        expect(lab.hook('stop', A), when).toMatchObject({ code: 0 });
      }
      expect(lab.mayfly('recover'), when).toMatchObject({ code: 0 });
      mustBeSound(when);
      if (i % 5 === 4) {
        const next = update();
        expect(next, `the update after ${when}: ${next.err}`).toMatchObject({ code: 0 });
        mustBeSound(`an update after ${when}`);
      }
    }
    expect(lab.inside(B, 'true')).toMatchObject({ code: 0 });
    console.log(`${backend}: ${killed} of ${i} died: ${[...where].map(([p, n]) => `${p} ${n}`).join(', ')}`);
    expect(killed).toBe(KILLS);
  });
});
