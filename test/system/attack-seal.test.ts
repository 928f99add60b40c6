/** Attacks on the seals, with real trees. Each test says what should be; those that fail are findings. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findings } from './findings.ts';
import { type } from './hints.ts';
import { forgetUsers, Lab, MAYFLY, must, sh, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-a';
let source: string;
beforeAll(() => {
  user(A);
  source = fs.mkdtempSync('/var/lib/mayfly-test-source-');
  makeMiniTree(source);
  fs.symlinkSync('/usr/share/zoneinfo/UTC', `${source}/etc/localtime`);
  fs.writeFileSync(`${source}/usr/bin/su`, 'x');
  fs.chownSync(`${source}/usr/bin/su`, 0, 29);
  fs.chmodSync(`${source}/usr/bin/su`, 0o4755);
});
afterAll(() => {
  fs.rmSync(source, { recursive: true });
  forgetUsers();
});

const UPDATE = '[check]\ncommand = ["true"]\n[update]\ncommand = ["true"]\n';
function labOf(config = UPDATE): Lab {
  const lab = Lab.make({ backend: 'overlay', from: source, config });
  update(lab);
  return lab;
}
function update(lab: Lab): void {
  expect(lab.mayfly('update', '--force', '--quiet')).toMatchObject({ code: 0, err: '' });
}
const stableOf = (lab: Lab): string => {
  try {
    return fs.readlinkSync(`${lab.dir}/state/stable`).replace(/^generations\/(\d+)\.json$/, '$1');
  } catch {
    return 'none';
  }
};
function mustLogIn(lab: Lab): void {
  expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  expect(lab.inside(A, 'true').code).toBe(0);
  expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
}
const recover = (lab: Lab): Record<string, string[]> => JSON.parse(lab.mayfly('recover', '--json').out);
const STATE = ['generations', 'sessions', 'stable', 'pool.json', 'update.json', 'probation.json'];
const lose = (lab: Lab): void => {
  for (const name of STATE) fs.rmSync(`${lab.dir}/state/${name}`, { recursive: true, force: true });
};
/** Types the first hint of doctor until it has none. */
function followHints(lab: Lab): string[] {
  const typed: string[] = [];
  for (let n = 0; n < 8; n++) {
    const [first] = findings(lab.mayfly('doctor', '--json'));
    if (!first) return typed;
    const hint = first.hint.replace(/mayfly init\b.*$/, words => `${words} --from ${source} --quiet`);
    const r = type(lab, hint);
    typed.push(`${first.check}: ${first.what}\n  ${hint} -> ${r.code} ${r.err}`);
  }
  throw new Error(`doctor is not content:\n${typed.join('\n')}`);
}
function clear(lab: Lab): void {
  for (const s of lab.records()) lab.mayfly('end', s.id);
  lab.mayfly('destroy', '--yes');
  for (const at of [`${lab.dir}/run/roots`, `${lab.dir}/pool`])
    if (sh('mountpoint', ['-q', at]).code === 0) must('umount', [at]);
  fs.rmSync(lab.dir, { recursive: true, force: true });
}
function withLab(act: (lab: Lab, pool: string) => void, lab = labOf()): void {
  try {
    act(lab, `${lab.dir}/pool`);
  } finally {
    clear(lab);
  }
}

describe('S', () => {
  it('S1 tar that was interrupted in master: its absolute symlinks are placeholders, files of no bytes', () =>
    withLab((lab, pool) => {
      fs.writeFileSync(`${pool}/master/zzz`, Buffer.alloc(2 ** 20));
      must('tar', ['--sort=name', '-cf', `${lab.dir}/p.tar`, '-C', lab.dir, 'pool']);
      const size = fs.statSync(`${lab.dir}/p.tar`).size;
      fs.truncateSync(`${lab.dir}/p.tar`, size - 2 ** 19); // in master/zzz
      fs.renameSync(pool, `${pool}.old`);
      const r = sh('tar', ['-xpf', `${lab.dir}/p.tar`, '-C', lab.dir]);
      console.log('S1 tar', r.code, r.err, fs.lstatSync(`${pool}/generations/2/etc/localtime`));
      const found = recover(lab);
      console.log('S1', found);
      const isLink = fs.lstatSync(`${pool}/generations/2/etc/localtime`).isSymbolicLink();
      fs.rmSync(`${pool}.old`, { recursive: true });
      expect(isLink || !(found.adopted ?? []).join().includes('generation 2, which was moved')).toBe(true);
    }));
  it('S2 cp -r: owners and set-user-ID bits are lost', () =>
    withLab((lab, pool) => {
      must('cp', ['-r', pool, `${pool}.new`]);
      fs.renameSync(pool, `${pool}.old`);
      fs.renameSync(`${pool}.new`, pool);
      const found = recover(lab);
      const s = fs.statSync(`${pool}/generations/2/usr/bin/su`);
      console.log('S2', found.adopted, (s.mode & 0o7777).toString(8), s.gid);
      fs.rmSync(`${pool}.old`, { recursive: true });
      const isWhole = (s.mode & 0o7777) === 0o4755 && s.gid === 29;
      expect(isWhole || !(found.adopted ?? []).join().includes('generation 2, which was moved')).toBe(true);
    }));
  it('S3 tar leaves sockets out: the copy is complete, and is never accepted', () =>
    withLab((lab, pool) => {
      const make = 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])';
      must('python3', ['-c', make, `${pool}/master/etc/a.sock`]);
      update(lab);
      expect(fs.existsSync(`${pool}/generations/3/etc/a.sock`)).toBe(true);
      must('tar', ['-cf', `${lab.dir}/p.tar`, '-C', lab.dir, 'pool']);
      fs.renameSync(pool, `${pool}.old`);
      must('tar', ['-xpf', `${lab.dir}/p.tar`, '-C', lab.dir]);
      fs.rmSync(`${pool}.old`, { recursive: true });
      const found = recover(lab);
      console.log('S3', found);
      expect(found.adopted?.join()).toContain('generation 3, which was moved');
    }));
  it('S4 a seal that is a FIFO does not stop a boot', () =>
    withLab((lab, pool) => {
      fs.rmSync(`${pool}/seals/1.json`);
      must('mkfifo', [`${pool}/seals/1.json`]);
      const r = sh('timeout', ['-s', 'KILL', '20', 'node', MAYFLY, 'recover', '--config', lab.config]);
      fs.rmSync(`${pool}/seals/1.json`);
      expect(r.code).toBe(0);
    }));
  it('S4b a seal of 1 GB', () =>
    withLab((lab, pool) => {
      fs.truncateSync(`${pool}/seals/1.json`, 2 ** 30);
      const script = 'import resource,subprocess,sys; p=subprocess.run(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss//1024); sys.exit(p.returncode)';
      const r = sh('python3', ['-c', script, 'node', MAYFLY, 'recover', '--config', lab.config, '--quiet']);
      console.log('S4b MiB', r);
      expect(r.code).toBe(0);
      expect(Number(r.out.trim().split('\n').at(-1))).toBeLessThan(400);
    }));
  it.each(['recover', 'destroy'])('S5 no inode is left, and the pool has no directory of seals yet (an earlier version made it): %s', verb => {
    const lab = new Lab({ config: UPDATE });
    const pool = `${lab.dir}/pool`;
    fs.mkdirSync(pool);
    must('truncate', ['-s', '400M', `${lab.dir}/img`]);
    must('mkfs.ext4', ['-q', '-N', '2048', `${lab.dir}/img`]);
    must('mount', ['-o', 'loop', `${lab.dir}/img`, pool]);
    try {
      const i = lab.mayfly('init', '--backend', 'overlay', '--from', source, '--quiet');
      expect(i).toMatchObject({ code: 0 });
      fs.rmSync(`${pool}/seals`, { recursive: true });
      const fill = `${pool}/generations/1/fill`; // in a tree, so that it goes with it
      fs.mkdirSync(fill);
      let n = 0;
      try {
        for (; ; n++) fs.writeFileSync(`${fill}/${n}`, '');
      } catch (e) {
        console.log('S5', n, String(e));
      }
      const r = verb === 'destroy' ? lab.mayfly('destroy', '--yes') : lab.mayfly('recover');
      console.log('S5', verb, r);
      fs.rmSync(fill, { recursive: true, force: true });
      expect(r.err).not.toContain('ENOSPC');
      expect(r.code).toBe(0);
    } finally {
      clear(lab);
    }
  });
  it('S6 a state from before destroy and init: the pool has another ID', () =>
    withLab(lab => {
      must('cp', ['-a', `${lab.dir}/state`, `${lab.dir}/older`]);
      expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
      expect(lab.mayfly('init', '--backend', 'overlay', '--from', source, '--quiet')).toMatchObject({ code: 0 });
      fs.rmSync(`${lab.dir}/state`, { recursive: true });
      fs.renameSync(`${lab.dir}/older`, `${lab.dir}/state`);
      const typed = followHints(lab);
      console.log('S6', typed);
      mustLogIn(lab);
    }));
  it('S8 a directory with the name of the mark in master does not stop updates for ever', () =>
    withLab((lab, pool) => {
      fs.mkdirSync(`${pool}/master/.mayfly-seal`);
      const r = lab.mayfly('update', '--force', '--quiet');
      console.log('S8', r);
      fs.rmSync(`${pool}/master/.mayfly-seal`, { recursive: true, force: true });
      expect(r.code).toBe(0);
    }));
  it('S9 moved, and then the state is lost: doctor does not want good generations removed', () =>
    withLab((lab, pool) => {
      must('cp', ['-a', pool, `${pool}.new`]);
      fs.rmSync(pool, { recursive: true });
      fs.renameSync(`${pool}.new`, pool);
      recover(lab);
      lose(lab);
      recover(lab);
      const seen = findings(lab.mayfly('doctor', '--json')).filter(f => /changed after it was sealed/.test(f.what));
      console.log('S9', seen);
      expect(seen).toEqual([]);
    }));
  it('S10 only a demoted generation is left, and the pointer is lost', () =>
    withLab((lab, pool) => {
      expect(lab.mayfly('rollback', '1')).toMatchObject({ code: 0 });
      fs.rmSync(`${pool}/generations/1`, { recursive: true });
      fs.rmSync(`${lab.dir}/state/stable`);
      const typed = followHints(lab);
      console.log('S10', typed);
      mustLogIn(lab);
    }));
  it.each(['overlay', 'btrfs'] as const)('S12 a second recovery writes no seal: %s', backend => {
    const lab = Lab.make({ backend, from: source, config: UPDATE });
    withLab((l, pool) => {
      update(l);
      expect(l.mayfly('rollback', '1')).toMatchObject({ code: 0 });
      recover(l);
      const times = () => fs.readdirSync(`${pool}/seals`).map(f => `${f} ${fs.statSync(`${pool}/seals/${f}`).ino} ${fs.statSync(`${pool}/seals/${f}`).ctimeMs}`);
      const before = times();
      expect(recover(l)).toMatchObject({ adopted: [], kept: [], stuck: [] });
      expect(times()).toEqual(before);
    }, lab);
  });
  it('S13 btrfs: a pool of subvolumes that was copied with cp -a (plain directories)', () => {
    const lab = Lab.make({ backend: 'btrfs', from: source, config: UPDATE });
    withLab((l, pool) => {
      update(l);
      for (const n of ['generations/1', 'generations/2', 'master']) {
        must('cp', ['-a', `${pool}/${n}`, `${pool}/x`]);
        sh('btrfs', ['property', 'set', '-f', '-ts', `${pool}/${n}`, 'ro', 'false']);
        must('btrfs', ['subvolume', 'delete', `${pool}/${n}`]);
        fs.renameSync(`${pool}/x`, `${pool}/${n}`);
      }
      console.log('S13', recover(l));
      console.log('S13', followHints(l));
      mustLogIn(l);
    }, lab);
  });
  it('S11 a file system with a foreign file is mounted where the pool will be', () => {
    const lab = new Lab({ config: UPDATE });
    fs.mkdirSync(`${lab.dir}/pool`);
    must('mount', ['-t', 'tmpfs', 'tmpfs', `${lab.dir}/pool`]);
    fs.writeFileSync(`${lab.dir}/pool/foreign`, '');
    try {
      console.log('S11', followHints(lab));
      mustLogIn(lab);
    } finally {
      clear(lab);
    }
  });
});
void stableOf;
