/** What the seals of generations are for, with real trees: a state directory that is lost, or of another day. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, forgetUsers, Lab, must, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-a';
let source: string;

beforeAll(() => {
  user(A);
  source = fs.mkdtempSync('/var/lib/mayfly-test-source-');
  makeMiniTree(source);
});
afterAll(() => {
  fs.rmSync(source, { recursive: true });
  forgetUsers();
});

const UPDATE = '[check]\ncommand = ["true"]\n[update]\ncommand = ["true"]\n';

/** A lab with two generations, of which the second is stable. */
function labOf(backend: (typeof BACKENDS)[number]): Lab {
  const lab = Lab.make({ backend, from: source, config: UPDATE });
  update(lab);
  return lab;
}

function update(lab: Lab): void {
  expect(lab.mayfly('update', '--force', '--quiet')).toMatchObject({ code: 0, err: '' });
}

const stableOf = (lab: Lab): string => {
  const { out } = lab.mayfly('status', '--json');
  return String((JSON.parse(out) as { stable?: { number: number } }).stable?.number);
};

function mustLogIn(lab: Lab): void {
  expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  expect(lab.inside(A, 'true').code).toBe(0);
  expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
}

const recover = (lab: Lab) => JSON.parse(lab.mayfly('recover', '--json').out) as Record<string, string[]>;

/** The state directory without the image of a pool, which is no state. */
const STATE = ['generations', 'sessions', 'stable', 'pool.json', 'update.json', 'probation.json'];
const lose = (lab: Lab): void => {
  for (const name of STATE) fs.rmSync(`${lab.dir}/state/${name}`, { recursive: true, force: true });
};

describe.each(BACKENDS)('over %s', backend => {
  it('a state directory that is lost is made again from the pool', () => {
    const lab = labOf(backend);
    try {
      const before = lab.inPool();
      lose(lab);
      expect(lab.hook('start', A).code).not.toBe(0);
      expect(recover(lab)).toMatchObject({ swept: [], stuck: [] });
      expect(lab.inPool()).toEqual(before);
      expect(stableOf(lab)).toBe('2');
      expect(recover(lab)).toEqual({ ended: [], swept: [], adopted: [], stuck: [] });
      mustLogIn(lab);
      update(lab);
      expect(stableOf(lab)).toBe('3');
      mustLogIn(lab);
    } finally {
      lab.close();
    }
  });
  it('a state directory of three updates ago leads to the newest generation', () => {
    const lab = labOf(backend);
    try {
      const aside = `${lab.dir}/older`;
      must('cp', ['-a', '--sparse=always', `${lab.dir}/state`, aside]);
      for (let i = 0; i < 3; i++) {
        fs.rmSync(`${lab.dir}/state/probation.json`, { force: true }); // a session has lasted
        update(lab);
      }
      fs.rmSync(`${lab.dir}/state/probation.json`, { force: true });
      expect(lab.inPool().generations).not.toContain('2');
      lose(lab);
      for (const name of STATE)
        if (fs.existsSync(`${aside}/${name}`)) must('cp', ['-a', `${aside}/${name}`, `${lab.dir}/state/`]);
      expect(recover(lab)).toMatchObject({ swept: [], stuck: [] });
      expect(stableOf(lab)).toBe('5');
      mustLogIn(lab);
      update(lab);
      expect(stableOf(lab)).toBe('6');
    } finally {
      lab.close();
    }
  });
  it('a seal that is damaged, and a copy of a generation, are kept and stop nothing', () => {
    if (backend !== 'overlay') return;
    const lab = labOf(backend);
    try {
      const pool = `${lab.dir}/pool`;
      must('cp', ['-a', `${pool}/generations/2`, `${pool}/generations/7`]);
      fs.copyFileSync(`${pool}/seals/2.json`, `${pool}/seals/7.json`);
      fs.truncateSync(`${pool}/seals/1.json`, 20);
      lose(lab);
      expect(recover(lab)).toMatchObject({ swept: [], stuck: [] });
      expect(stableOf(lab)).toBe('2');
      expect(lab.inPool().generations).toEqual(['1', '2', '7']);
      mustLogIn(lab);
    } finally {
      lab.close();
    }
  });
  it('people cannot read the mark in the tree', () => {
    if (backend === 'lvm' || backend === 'lvm-thin') return;
    const lab = labOf(backend);
    try {
      expect(lab.hook('start', A)).toMatchObject({ code: 0 });
      expect(lab.inside(A, 'cat', '/.mayfly-seal').code).not.toBe(0);
      expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
      const { out } = lab.mayfly('diff', '1', '2', '--json');
      expect(out).not.toContain('mayfly-seal');
    } finally {
      lab.close();
    }
  });
});

describe('a pool that was copied to another disk', () => {
  it('by cp -a is known by the marks in its trees; a tree that was replaced is not', () => {
    const lab = labOf('overlay');
    try {
      const pool = `${lab.dir}/pool`;
      must('cp', ['-a', pool, `${pool}.new`]);
      fs.renameSync(pool, `${pool}.old`);
      fs.renameSync(`${pool}.new`, pool);
      expect(recover(lab)).toMatchObject({
        adopted: ['generation 1, which was moved', 'generation 2, which was moved'],
        stuck: [],
      });
      mustLogIn(lab);
      expect(lab.mayfly('doctor').out).not.toContain('was changed after it was sealed');
      fs.rmSync(`${pool}.old`, { recursive: true });
      must('cp', ['-a', `${pool}/generations/1`, `${pool}/other`]);
      fs.renameSync(`${pool}/generations/2`, `${pool}/two`);
      fs.renameSync(`${pool}/other`, `${pool}/generations/2`);
      expect(recover(lab).stuck?.join()).toContain('the stable generation 2 is unusable');
      expect(lab.hook('start', A).code).not.toBe(0);
      expect(lab.mayfly('rollback', '1')).toMatchObject({ code: 0 });
      mustLogIn(lab);
      fs.rmSync(`${pool}/two`, { recursive: true });
    } finally {
      lab.close();
    }
  });
});
