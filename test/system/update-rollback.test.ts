/** Going back: by an administrator, by itself, and what is kept for it. */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { forgetUsers, Lab, type Ran, readAt, spawnMayfly, until, user } from './lab.ts';
import { attempt, loginWorks, stable } from './updates.ts';

const A = 'mayfly-up';
const B = 'mayfly-up2';
/** People whose homes are in a place of their own, so that a tree can be broken for them alone. */
const FAR = ['mayfly-up3', 'mayfly-up4', 'mayfly-up5'] as const;
const [S, SECOND, THIRD] = FAR;
let lab: Lab;

beforeAll(() => {
  user(A);
  user(B);
  for (const name of FAR) user(name, ['-d', `/srv/${name}`]);
});
afterAll(forgetUsers);
beforeEach(() => {
  lab = Lab.make({ backend: 'btrfs' });
});
afterEach(() => lab.close());

/** An update to a tree that says `word`, kept as the configuration says. */
function update(word: string, more = ''): void {
  expect(attempt(lab, { run: `echo ${word} >/etc/word`, update: more })).toMatchObject({ code: 0 });
}

const word = (name: string): string => lab.inside(name, 'cat', '/etc/word').out.trim();
const kept = (): { number: number; stable: boolean; demoted: string | null }[] =>
  JSON.parse(lab.mayfly('generations', '--json').out);
const numbers = (): number[] => kept().map(g => g.number);

describe('rollback', () => {
  it('is for the next login at once; who is in stays; nothing is promoted again by itself', () => {
    update('good');
    update('bad');
    lab.hook('start', A, ':0');
    expect(word(A)).toBe('bad');
    const r = lab.mayfly('rollback');
    expect(r).toMatchObject({
      code: 0,
      out: '',
      err: expect.stringMatching(
        /^mayfly: generation 2 is stable; it was 3\nmayfly: updates start from generation 2 now/,
      ),
    });
    expect(word(A)).toBe('bad');
    lab.hook('start', B, ':1');
    expect(word(B)).toBe('good');
    lab.hook('stop', B, ':1');
    expect(lab.mayfly('generations').out).toMatch(/^3 .*; demoted: rolled back to generation 2$/m);

    // The next update starts from what is stable, and not from master, which is as what was rolled back.
    lab.configure('[update]\ncommand = ["true"]');
    expect(lab.mayfly('update').err).toMatch(
      /starting from generation 2.*nothing has changed; no new generation was created\n$/s,
    );
    lab.mayfly('recover');
    expect(stable(lab)).toBe(2);
    update('mended');
    expect(stable(lab)).toBe(4);
    expect(word(A)).toBe('bad');
    lab.hook('stop', A, ':0');

    // From there, back past the one that is known to be bad; and to that one only if asked for by number.
    expect(lab.mayfly('rollback')).toMatchObject({ code: 0 });
    expect(stable(lab)).toBe(2);
  });

  it('goes to any generation that is kept, forwards too, and says what it can not do', () => {
    update('two');
    update('three');
    const json = (...words: string[]) => JSON.parse(lab.mayfly('rollback', '--json', ...words).out);
    expect(json('1')).toEqual({ from: 3, to: 1 });
    loginWorks(lab, A);
    expect(json('3')).toEqual({ from: 1, to: 3 });
    expect(kept().map(g => g.demoted)).toEqual([null, null, null]);
    expect(lab.mayfly('rollback', '--dry-run').out).toMatch(/^generation 2 would be stable\n/);
    expect(lab.mayfly('rollback', '3').out).toBe('generation 3 is stable already\n');
    const refused: [string, Ran, number, RegExp][] = [
      ['9', lab.mayfly('rollback', '9'), 4, /^mayfly: there is no generation 9\nhint: mayfly generations\n$/],
      ['x', lab.mayfly('rollback', 'x'), 2, /invalid generation "x"\n/],
    ];
    for (const [what, r, code, says] of refused) {
      expect(r.err, what).toMatch(says);
      expect(r, what).toMatchObject({ code, out: '' });
    }
    expect(stable(lab)).toBe(3);
    lab.mayfly('rollback', '1');
    const none = lab.mayfly('rollback');
    expect(none).toMatchObject({ code: 4 });
    expect(none.err).toMatch(/^mayfly: there is no usable generation before 1 to roll back to\n/);
  });
});

/** Whether a process has the lab's lock of promotions, as a login between the pointer and its fork. */
function isForking(pid: number): boolean {
  try {
    const fds = `/proc/${pid}/fd`;
    const links = fs.readdirSync(fds).map(fd => fs.readlinkSync(`${fds}/${fd}`, 'utf8'));
    return links.includes(`${lab.dir}/run/locks/forks`);
  } catch {
    return false; // it has ended, or closed a descriptor
  }
}

/** Begins a login and stops its process while it forks; a fork without a spare takes a few milliseconds. */
async function stopped(name: string, display: string): Promise<{ pid: number; done: Promise<Ran> }> {
  for (let tries = 0; tries < 50; tries++) {
    const hook = lab.hookAsync('start', name, display);
    const childOf = (): number =>
      Number(readAt(`/proc/${hook.pid}/task/${hook.pid}/children`)?.split(' ')[0]);
    const end = Date.now() + 60_000;
    let pid = 0;
    // Without a pause: this process must be quicker than the fork.
    for (; Date.now() < end && fs.existsSync(`/proc/${hook.pid}`); pid ||= childOf()) {
      if (pid === 0 || !isForking(pid)) {
        if (pid !== 0 && !fs.existsSync(`/proc/${pid}/exe`)) break;
        continue;
      }
      process.kill(pid, 'SIGSTOP');
      if (isForking(pid)) return { pid, done: hook.done };
      process.kill(pid, 'SIGCONT');
    }
    expect(await hook.done).toMatchObject({ code: 0 });
    expect(lab.hook('stop', name, display)).toMatchObject({ code: 0 });
  }
  throw new Error('no login was stopped while it forks');
}

describe('a promotion and a login that forks', () => {
  const promotion = (): unknown => JSON.parse(lab.mayfly('status', '--json').out).promotion;
  const file = (): string => `${lab.dir}/run/promotion.json`;

  it('wait for each other: the login is done, or dead, before the pointer is moved; others get in', async () => {
    update('good');
    update('bad');
    lab.hook('start', S, ':5'); // takes the spare
    const login = await stopped(A, ':0');
    const rollback = spawnMayfly(lab, 'rollback');
    await until(() => fs.existsSync(file()));
    const what = 'the rollback to generation 2';
    expect(promotion()).toMatch(
      new RegExp(`^${what} \\(process \\d+\\) waits for the login of ${A} \\(process ${login.pid}\\)`),
    );
    expect(lab.mayfly('status').out).toMatch(new RegExp(`^promotion   ${what} .*login of ${A}`, 'm'));
    expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0 });
    expect(word(B)).toBe('bad');
    expect(stable(lab)).toBe(3);
    process.kill(login.pid, 'SIGCONT');
    expect(await login.done).toMatchObject({ code: 0 });
    expect(await rollback).toMatchObject({
      code: 0,
      err: expect.stringMatching(/^mayfly: generation 2 is stable; it was 3\n/),
    });
    expect(word(A)).toBe('bad');
    expect(promotion()).toBeNull();
    for (const [name, display] of [
      [A, ':0'],
      [B, ':1'],
      [S, ':5'],
    ] as const)
      expect(lab.hook('stop', name, display)).toMatchObject({ code: 0 });

    // A login that is killed keeps nobody waiting, and neither does a promotion.
    lab.hook('start', S, ':5');
    const dying = await stopped(A, ':0');
    const dead = spawnMayfly(lab, 'rollback', '3');
    await until(() => fs.existsSync(file()));
    process.kill(JSON.parse(readAt(file()) ?? '').holder.pid, 'SIGKILL');
    expect((await dead).code).not.toBe(0);
    expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0 });
    expect(word(B)).toBe('good');
    const second = spawnMayfly(lab, 'rollback', '3');
    await until(() => JSON.parse(readAt(file()) ?? '').state === 'waiting');
    process.kill(dying.pid, 'SIGKILL');
    expect(await second).toMatchObject({ code: 0, err: 'mayfly: generation 3 is stable; it was 2\n' });
    expect(await dying.done).toMatchObject({ code: 137 });
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    loginWorks(lab, A);
    lab.hook('stop', B, ':1');
    lab.hook('stop', S, ':5');
    expect(lab.picture()).toMatchObject({ processes: [], schroot: [], stuck: [] });
  });
});

describe('a generation that people can not log in to', () => {
  const broken = 'rm -r /srv; touch /srv';
  const says = /"\/srv" in the generation is a file; cannot mount "\/srv\/[^"]+" on it/;

  it('is demoted when as many people as configured have failed, and the last of them gets in', () => {
    update('good');
    loginWorks(lab, S);
    expect(attempt(lab, { run: broken })).toMatchObject({ code: 0 });
    expect(stable(lab)).toBe(3);
    for (const name of [S, S, S, S, SECOND]) {
      const r = lab.hook('start', name);
      expect(r.code).not.toBe(0);
      expect(r.err).toMatch(says);
      expect(stable(lab)).toBe(3);
      expect(lab.records()).toEqual([]);
    }
    const third = lab.hook('start', THIRD);
    expect(third).toMatchObject({ code: 0 });
    expect(third.err).toMatch(
      /generation 3 is demoted and 2 is stable again: the first logins of 3 users failed/,
    );
    expect(third.err).toMatch(says);
    expect(word(THIRD)).toBe('good');
    lab.hook('stop', THIRD);
    expect(stable(lab)).toBe(2);
    expect(lab.mayfly('generations').out).toMatch(
      /^3 .*; demoted: the first logins of 3 users failed; .*"\/srv"/m,
    );
    expect(lab.picture()).toMatchObject({ processes: [], schroot: [], stuck: [] });
    loginWorks(lab, A);
    loginWorks(lab, S);

    // The next good one is promoted, and goes back to the good one before it.
    // It starts from the good one, not from master.
    expect(attempt(lab, { run: '[ -d /srv ] && echo next >/etc/next' })).toMatchObject({ code: 0 });
    expect(stable(lab)).toBe(4);
    loginWorks(lab, S);
    lab.mayfly('rollback');
    expect(stable(lab)).toBe(2);
  });

  it('is not, once somebody has logged in to it, or where that is not wanted', () => {
    expect(attempt(lab, { run: broken })).toMatchObject({ code: 0 });
    loginWorks(lab, A);
    for (let n = 0; n < 4; n++) expect(lab.hook('start', S).err).toMatch(says);
    expect(stable(lab)).toBe(2);
    lab.mayfly('rollback');
    expect(attempt(lab, { run: `${broken}; touch /etc/other` })).toMatchObject({ code: 0 });
    lab.configure('[check]\ndemote_after = 0');
    for (let n = 0; n < 4; n++) expect(lab.hook('start', S).err).toMatch(says);
    expect(stable(lab)).toBe(3);
    expect(kept().find(g => g.number === 3)?.demoted).toBeNull();
  });

  it('is not for a failure that is not its own', () => {
    update('good');
    lab.configure('[admission]\nmin_free = "100T"');
    for (let n = 0; n < 4; n++)
      expect(lab.hook('start', A).err).toMatch(/[MG]iB left; a new login needs 102400\.0 GiB/);
    lab.configure('');
    expect(stable(lab)).toBe(2);
    loginWorks(lab, A);
  });
});

describe('what is kept', () => {
  it('is the newest, what sessions use, and what a new one falls back to', () => {
    update('two');
    loginWorks(lab, B);
    lab.hook('start', A, ':0');
    update('three', 'keep = 2');
    loginWorks(lab, B);
    update('four', 'keep = 2');
    loginWorks(lab, B);
    expect(numbers()).toEqual([2, 3, 4]);
    update('five', 'keep = 1');
    expect(numbers()).toEqual([2, 4, 5]);

    lab.configure('[update]\nkeep = 1');
    const lines = [
      'generation 2 is kept: 1 session uses it',
      'generation 4 is kept: no session of generation 5 has lasted yet',
      'generation 5 is kept: it is stable',
    ];
    expect(lab.mayfly('gc', '--dry-run').out).toBe(`${lines.join('\n')}\n`);
    expect(lab.mayfly('gc')).toMatchObject({ code: 0, out: 'nothing to remove\n' });
    expect(word(A)).toBe('two');
    lab.hook('stop', A, ':0');
    loginWorks(lab, B);
    const plan = JSON.parse(lab.mayfly('gc', '--dry-run', '--json').out);
    expect(plan.map((f: { number: number; fate: string }) => [f.number, f.fate])).toEqual([
      [2, 'go'],
      [4, 'go'],
      [5, 'keep'],
    ]);
    expect(numbers()).toEqual([2, 4, 5]); // a dry run
    expect(lab.mayfly('gc')).toMatchObject({ code: 0, out: 'removed generations 2, 4\n' });
    expect(numbers()).toEqual([5]);
    expect(fs.readdirSync(`${lab.dir}/pool/generations`).filter(n => !n.startsWith('.'))).toEqual(['5']);
    loginWorks(lab, A);
  });

  it('is not what was demoted, and less where the pool is full', () => {
    for (const w of ['two', 'three', 'four']) {
      update(w);
      loginWorks(lab, A);
    }
    expect(numbers()).toEqual([2, 3, 4]);
    lab.mayfly('rollback');
    const demoted = lab.mayfly('gc', '--dry-run').out;
    expect(demoted).toMatch(/^generation 2 is kept while there is space: the newest 3 are kept$/m);
    expect(demoted).toMatch(/^generation 4 would be removed: it was demoted$/m);
    lab.mayfly('gc');
    expect(numbers()).toEqual([2, 3]);
    lab.configure('[update]\nmax_used_percent = 1');
    expect(lab.mayfly('gc').out).toBe('removed generation 2\n');
    expect(numbers()).toEqual([3]);
    loginWorks(lab, A);
  });
});
