/**
 * Never a state without a way out: state, pool, generations, master, seals and pointers are damaged at random, alone and
 * in pairs. Then only doctor's hints are typed, as they stand, until it is content; then somebody logs in. On LVM it is the
 * state, and volumes and their tags.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chance, count } from '../campaign.ts';
import { findings } from './findings.ts';
import { type } from './hints.ts';
import { BACKENDS, forgetUsers, Lab, must, type Ran, sh, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-a';
const ROUNDS = count('DAMAGE', 10);
/** So many hints may be typed. */
const MOST_HINTS = 15;
const CONFIG = '[check]\ncommand = ["true"]\n[update]\ncommand = ["true"]\n';

let parent: string;
let source: string;

beforeAll(() => {
  user(A);
  parent = fs.mkdtempSync('/var/lib/mayfly-test-');
  source = makeMiniTree(`${parent}/tree`);
});
afterAll(() => {
  fs.rmSync(parent, { recursive: true });
  forgetUsers();
});

/** Removes a tree, which can be a subvolume. */
function discard(path: string): void {
  const isSubvolume = sh('stat', ['-c', '%i', path]).out.trim() === '256';
  if (isSubvolume && sh('btrfs', ['subvolume', 'delete', path]).code === 0) return;
  for (const name of isSubvolume ? [] : sh('find', [path, '-mindepth', '1', '-inum', '256']).out.split('\n'))
    if (name !== '') sh('btrfs', ['subvolume', 'delete', name]);
  must('rm', ['-rf', '--one-file-system', path]);
}

interface Damage {
  readonly name: string;
  act(lab: Lab): void;
}

/** What can be damaged, and how. */
function damagesOf(backend: string): Damage[] {
  const state = (lab: Lab, path: string): string => `${lab.dir}/state/${path}`;
  const pool = (lab: Lab, path: string): string => `${lab.dir}/pool/${path}`;
  const drop = (at: (lab: Lab) => string) => (lab: Lab) => {
    if (fs.lstatSync(at(lab), { throwIfNoEntry: false })) discard(at(lab));
  };
  const cut = (at: (lab: Lab) => string) => (lab: Lab) => {
    if (fs.existsSync(at(lab))) fs.truncateSync(at(lab), Math.min(20, fs.statSync(at(lab)).size));
  };
  const empty = (at: (lab: Lab) => string) => (lab: Lab) => {
    const directory = at(lab);
    for (const name of fs.existsSync(directory) ? fs.readdirSync(directory) : [])
      discard(`${directory}/${name}`);
  };
  const swap = (one: (lab: Lab) => string, other: (lab: Lab) => string) => (lab: Lab) => {
    const [a, b] = [one(lab), other(lab)];
    if (![a, b].every(path => fs.existsSync(path))) return;
    fs.renameSync(a, `${a}.aside`);
    fs.renameSync(b, a);
    fs.renameSync(`${a}.aside`, b);
  };
  const older = (at: (lab: Lab) => string) => (lab: Lab) => {
    const path = at(lab);
    const from = `${lab.dir}/older/${path.slice(path.lastIndexOf('/') + 1)}`;
    if (!fs.existsSync(from)) return;
    if (fs.existsSync(path)) discard(path);
    must('cp', ['-a', from, path]);
  };
  const files = [
    'pool.json',
    'generations/1.json',
    'generations/2.json',
    'generations/last',
    'probation.json',
  ];
  const of = (name: string, act: (lab: Lab) => void): Damage => ({ name, act });
  const seal = (n: number) => (lab: Lab) => pool(lab, `seals/${n}.json`);
  const tree = (n: number) => (lab: Lab) => pool(lab, `generations/${n}`);
  const inPool = [
    of(
      'the pool, emptied',
      empty(lab => pool(lab, '')),
    ),
    of(
      'the marker, deleted',
      drop(lab => pool(lab, '.mayfly-pool')),
    ),
    of(
      'the marker, truncated',
      cut(lab => pool(lab, '.mayfly-pool')),
    ),
    of(
      'master, deleted',
      drop(lab => pool(lab, 'master')),
    ),
    of(
      'generations, emptied',
      empty(lab => pool(lab, 'generations')),
    ),
    of(
      'generations, deleted',
      drop(lab => pool(lab, 'generations')),
    ),
    of(
      'seals, deleted',
      drop(lab => pool(lab, 'seals')),
    ),
    of('seals, swapped', swap(seal(1), seal(2))),
    of(
      'sessions, deleted',
      drop(lab => pool(lab, 'sessions')),
    ),
    ...[1, 2].flatMap(n => [
      of(`seal ${n}, deleted`, drop(seal(n))),
      of(`seal ${n}, truncated`, cut(seal(n))),
      of(`generation ${n}, deleted`, drop(tree(n))),
    ]),
  ];
  const onlyTrees = [
    of(
      'the pool, deleted',
      drop(lab => `${lab.dir}/pool`),
    ),
    of(
      'master, emptied',
      empty(lab => pool(lab, 'master')),
    ),
    of('generation 1, emptied', empty(tree(1))),
    of('generation 2, emptied', empty(tree(2))),
    of('generations, swapped', swap(tree(1), tree(2))),
    of('a copy of generation 2', lab => {
      if (fs.existsSync(tree(2)(lab))) must('cp', ['-a', tree(2)(lab), tree(7)(lab)]);
      if (fs.existsSync(seal(2)(lab))) fs.copyFileSync(seal(2)(lab), seal(7)(lab));
    }),
    of('the pool, copied', lab => {
      if (!fs.existsSync(`${lab.dir}/pool`)) return;
      must('cp', ['-a', `${lab.dir}/pool`, `${lab.dir}/pool.new`]);
      discard(`${lab.dir}/pool`);
      fs.renameSync(`${lab.dir}/pool.new`, `${lab.dir}/pool`);
    }),
  ];
  const inState = [
    of('the state, emptied', lab => {
      for (const name of fs.readdirSync(state(lab, ''))) if (name !== 'pool.img') discard(state(lab, name));
    }),
    of('the state, older', lab => {
      for (const name of ['generations', 'stable', 'update.json', 'probation.json'])
        older(at => state(at, name))(lab);
    }),
    of(
      'the records, emptied',
      empty(lab => state(lab, 'generations')),
    ),
    of(
      'the records, deleted',
      drop(lab => state(lab, 'generations')),
    ),
    of(
      'the pointer, deleted',
      drop(lab => state(lab, 'stable')),
    ),
    of('the pointer, to nothing', lab => {
      fs.rmSync(state(lab, 'stable'), { force: true });
      fs.symlinkSync('generations/9.json', state(lab, 'stable'));
    }),
    of(
      'the records, swapped',
      swap(
        lab => state(lab, 'generations/1.json'),
        lab => state(lab, 'generations/2.json'),
      ),
    ),
    ...files.flatMap(file => [
      of(
        `${file}, deleted`,
        drop(lab => state(lab, file)),
      ),
      of(
        `${file}, truncated`,
        cut(lab => state(lab, file)),
      ),
    ]),
  ];
  if (isOnLvm(backend)) return [...inState, ...damagesOfVolumes()];
  return [...inState, ...inPool, ...(backend === 'overlay' ? onlyTrees : [])];
}

const isOnLvm = (backend: string): boolean => backend.startsWith('lvm');

/** What can be damaged in a volume group. */
function damagesOfVolumes(): Damage[] {
  const group = process.env.MAYFLY_TEST_VG ?? '';
  /** The names of volumes with this tag, and all their tags. */
  const tagged = (lab: Lab, tag: string): { name: string; tags: string[] }[] =>
    must('lvs', ['--noheadings', '-o', 'lv_name,lv_tags', group])
      .split('\n')
      .map(line => line.trim().split(/\s+/))
      .map(([name = '', tags = '']) => ({ name, tags: tags.split(',') }))
      .filter(({ tags }) => tags.includes(`mayfly:${lab.lvmName}:${tag}`));
  const remove = (tag: string) => (lab: Lab) => {
    for (const { name } of tagged(lab, tag)) must('lvremove', ['-y', `${group}/${name}`]);
  };
  const unseal = (tag: string) => (lab: Lab) => {
    for (const { name, tags } of tagged(lab, tag))
      for (const seal of tags.filter(t => t.startsWith('mayfly-seal:')))
        must('lvchange', ['--deltag', seal, `${group}/${name}`]);
  };
  return [
    { name: 'master, removed', act: remove('master:master') },
    ...[1, 2].flatMap(n => [
      { name: `generation ${n}, removed`, act: remove(`generation:${n}`) },
      { name: `the seal of generation ${n}, removed`, act: unseal(`generation:${n}`) },
    ]),
  ];
}

/** A lab with two generations, and its state of the day before. */
function makeLab(backend: (typeof BACKENDS)[number]): Lab {
  const lab = Lab.make({ backend, from: source, config: CONFIG });
  const aside = `${lab.dir}/older`;
  fs.mkdirSync(aside);
  for (const name of ['generations', 'stable']) must('cp', ['-a', `${lab.dir}/state/${name}`, `${aside}/`]);
  expect(lab.mayfly('update', '--force', '--quiet')).toMatchObject({ code: 0, err: '' });
  return lab;
}

/** Types the first hint of doctor until it has none. Returns what was typed. */
function followHints(lab: Lab): string[] {
  const typed: string[] = [];
  for (let n = 0; n < MOST_HINTS; n++) {
    const [first] = findings(lab.mayfly('doctor', '--json'));
    if (!first) return typed;
    // Without a network, and without the questions of an administrator.
    const hint = first.hint.replace(/mayfly init\b.*$/, words => `${words} --from ${source} --quiet`);
    const r = type(lab, hint);
    typed.push(`${first.check}: ${first.what}\n  ${hint} -> ${r.code} ${r.err}`);
  }
  throw new Error(`doctor is not content after ${MOST_HINTS} hints:\n${typed.join('\n')}`);
}

/** Destroys the pool; what was put aside in it is put aside again, as the hint says. */
function destroy(lab: Lab): Ran {
  for (let n = 0; ; n++) {
    const r = lab.mayfly('destroy', '--yes');
    const hint = /^hint: (.*mv .*)$/m.exec(r.err)?.[1];
    if (hint === undefined || n === 5) return r;
    type(lab, hint);
  }
}

/** Removes the lab, whatever a test has left of it. */
function clear(lab: Lab): void {
  for (const s of lab.records()) lab.mayfly('end', s.id);
  lab.mayfly('destroy', '--yes');
  for (const at of [`${lab.dir}/run/roots`, `${lab.dir}/pool`])
    if (sh('mountpoint', ['-q', at]).code === 0) must('umount', [at]);
  discard(lab.dir);
}

describe.each(BACKENDS)('damage over %s', backend => {
  it(`leaves a way out, ${ROUNDS} times`, () => {
    const random = chance(`damage over ${backend}`, 2839435996);
    const all = damagesOf(backend);
    const pick = (): Damage => all[Math.floor(random() * all.length)] as Damage;
    for (let round = 0; round < ROUNDS; round++) {
      const damages = round % 2 === 0 ? [pick()] : [pick(), pick()];
      const words = damages.map(d => d.name).join(' + ');
      const lab = makeLab(backend);
      try {
        for (const d of damages) d.act(lab);
        let typed: string[];
        try {
          typed = followHints(lab);
        } catch (error) {
          throw new Error(`${words}: ${(error as Error).message}`);
        }
        const when = `${words}\n${typed.join('\n')}`;
        expect(lab.hook('start', A), when).toMatchObject({ code: 0, err: '' });
        expect(lab.inside(A, 'true').code, when).toBe(0);
        expect(lab.hook('stop', A), when).toMatchObject({ code: 0 });
        // What was put aside in a thin pool keeps the pool.
        if (!isOnLvm(backend))
          expect(destroy(lab), `destroy after ${when}`).toMatchObject({ code: 0, err: '' });
      } finally {
        clear(lab);
      }
    }
  });
});
