/** What the seals of generations are for, with real trees: a state directory that is lost, or of another day. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findings } from './findings.ts';
import { type } from './hints.ts';
import { BACKENDS, forgetUsers, Lab, must, sh, until, user } from './lab.ts';
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

const stableOf = (lab: Lab): string =>
  fs.readlinkSync(`${lab.dir}/state/stable`).replace(/^generations\/(\d+)\.json$/, '$1');

function mustLogIn(lab: Lab): void {
  expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  expect(lab.inside(A, 'true').code).toBe(0);
  expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
}

/** Without the spares of generations that are not stable: they are made anew. */
function recover(lab: Lab): Record<string, string[]> {
  const found = JSON.parse(lab.mayfly('recover', '--json').out) as Record<string, string[]>;
  return { ...found, swept: (found.swept ?? []).filter(name => !name.includes('.spare-')) };
}

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
      expect(recover(lab)).toEqual({ ended: [], swept: [], adopted: [], kept: [], stuck: [] });
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

describe('a root that was put back to a snapshot', () => {
  /** A btrfs whose subvolume `root` is mounted at `fs`; the rest of it is at `top`. */
  const makeRoot = (): string => {
    const dir = fs.mkdtempSync('/var/lib/mayfly-test-root-');
    for (const name of ['top', 'fs']) fs.mkdirSync(`${dir}/${name}`);
    must('truncate', ['-s', '1G', `${dir}/image`]);
    must('mkfs.btrfs', ['-q', `${dir}/image`]);
    must('mount', ['-o', 'loop,commit=5', `${dir}/image`, `${dir}/top`]);
    must('btrfs', ['subvolume', 'create', `${dir}/top/root`]);
    show(dir, 'root');
    return dir;
  };
  const show = (dir: string, subvolume: string): void => {
    const device = must('findmnt', ['-n', '-o', 'SOURCE', `${dir}/top`]).replace(/\[.*/, '');
    must('mount', ['-o', `subvol=${subvolume}`, device.trim(), `${dir}/fs`]);
  };
  const putBack = async (dir: string, name: string): Promise<void> => {
    must('btrfs', ['subvolume', 'snapshot', `${dir}/fs`, `${dir}/top/${name}`]);
    await until(() => sh('umount', [`${dir}/fs`]).code === 0); // what was a session is erased
    show(dir, name);
  };

  it.each([
    ['in it', false],
    ['a subvolume in it', true],
  ])(
    'takes the volumes of a pool that is %s: doctor names it, its hint leads out, and destroy works',
    async (_, isNested) => {
      const dir = makeRoot();
      const pool = `${dir}/fs/pool`;
      if (isNested) must('btrfs', ['subvolume', 'create', pool]);
      const config = `${UPDATE}[pool]\npath = "${pool}"\n`;
      const lab = new Lab({ config });
      try {
        const from = ['--from', source, '--quiet'];
        expect(lab.mayfly('init', '--backend', 'btrfs', ...from)).toMatchObject({ code: 0 });
        mustLogIn(lab);
        await putBack(dir, 'one');
        expect(fs.statSync(isNested ? pool : `${pool}/generations/1`).ino).toBe(2);
        expect(lab.hook('start', A).code).not.toBe(0);
        expect(lab.mayfly('recover').code).toBe(6);
        const seen = findings(lab.mayfly('doctor', '--json')).find(f => f.check === 'location');
        expect(seen?.what).toMatch(
          isNested ? /is gone, with all generations/ : /was probably put back to a snapshot/,
        );
        expect(type(lab, `${seen?.hint} ${from.join(' ')}`)).toMatchObject({ code: 0, err: '' });
        mustLogIn(lab);
        await putBack(dir, 'two');
        expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0, err: '' });
        expect(lab.mayfly('init', '--backend', 'btrfs', ...from)).toMatchObject({ code: 0 });
        mustLogIn(lab);
      } finally {
        lab.close();
        await until(() => sh('umount', [`${dir}/fs`]).code === 0);
        must('umount', [`${dir}/top`]);
        fs.rmSync(dir, { recursive: true });
      }
    },
  );
});
