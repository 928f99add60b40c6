/** Making the first generation: every source, interrupted and refused ones too. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { chance, moments } from '../campaign.ts';
import { forgetUsers, Lab, MAYFLY, must, sleep, tarball, uidOf, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-a';
let lab: Lab;

/** A system of a few programs, for what does not depend on the content: a whole Debian takes seconds each time. */
const scratch = fs.mkdtempSync('/var/lib/mayfly-test-init-');
const small = `${scratch}/small.tar`;
must('tar', ['-cf', small, '-C', makeMiniTree(`${scratch}/tree`), '.']);
afterAll(() => fs.rmSync(scratch, { recursive: true }));

afterEach(() => {
  lab.close();
  forgetUsers();
});

function loginWorks(): void {
  user(A);
  expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  expect(lab.inside(A, 'cat', '/proc/self/status').out).toMatch(new RegExp(`^Uid:(\t${uidOf(A)}){4}$`, 'm'));
  expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
}

describe('init', () => {
  it('from debootstrap, with apt’s own mirror', () => {
    lab = new Lab();
    const r = lab.mayfly('init', '--from', 'debootstrap', '--variant', 'minbase', '--packages', 'sudo,less');
    expect(r.err).toMatch(/filling .* from debootstrap/);
    expect(r).toMatchObject({ code: 0 });
    expect(fs.existsSync(`${lab.dir}/pool/generations/1/usr/bin/less`)).toBe(true);
    loginWorks();
  });

  it('from a directory', () => {
    lab = new Lab();
    const tree = `${lab.dir}/tree`;
    fs.mkdirSync(tree);
    must('tar', ['-xf', tarball(), '-C', tree]);
    expect(lab.mayfly('init', '--from', tree)).toMatchObject({ code: 0 });
    loginWorks();
  });

  it.each(['overlay', 'btrfs'] as const)(
    'killed at random moments on %s: nothing half-made is taken as complete, and again works',
    async backend => {
      lab = new Lab();
      for (const moment of moments(6, chance(`kills of init on ${backend}`))) {
        const child = spawn(
          'node',
          [MAYFLY, 'init', '--config', lab.config, '--backend', backend, '--from', tarball()],
          { detached: true, stdio: 'ignore' },
        );
        const done = new Promise(yes => child.on('close', yes));
        await sleep(100 + moment * 1500);
        if (child.exitCode === null && child.pid) process.kill(-child.pid, 'SIGKILL');
        await done;
        const stable = fs.existsSync(`${lab.dir}/state/stable`);
        if (!stable) expect(lab.mayfly('generations').out).not.toMatch(/stable\)/);
        else break;
      }
      expect(lab.mayfly('recover').code).toBe(0);
      const again = lab.mayfly('init', '--backend', backend, '--from', tarball());
      expect([0, 4]).toContain(again.code);
      if (again.code === 4) expect(again.err).toMatch(/generation 1 is stable/);
      loginWorks();
    },
  );

  it.each([
    ['an empty directory', (dir: string) => dir, /not a complete system: it has no directory "\/etc"/],
    [
      'no archive',
      (dir: string) => {
        fs.writeFileSync(`${dir}.tar`, 'not a tar');
        return `${dir}.tar`;
      },
      /"tar .* failed/,
    ],
    ['nothing', (dir: string) => `${dir}-nowhere`, /" does not exist/],
  ] as const)('from %s: refused, and again with a good one works', (_what, source, message) => {
    lab = new Lab();
    const dir = `${lab.dir}/empty`;
    fs.mkdirSync(dir);
    const r = lab.mayfly('init', '--from', source(dir));
    expect(r.code).not.toBe(0);
    expect(r.err).toMatch(message);
    expect(fs.existsSync(`${lab.dir}/state/stable`)).toBe(false);
    expect(lab.mayfly('init', '--from', small)).toMatchObject({ code: 0 });
    loginWorks();
  });

  it('a tree that would not work is refused with the reason, nothing of it is left, and then a good one works', () => {
    lab = new Lab();
    const tree = `${lab.dir}/tree`;
    const cases: readonly [() => void, RegExp][] = [
      [
        () => {
          fs.mkdirSync(`${tree}/var/lib/dpkg/updates`, { recursive: true });
          fs.mkdirSync(`${tree}/var/lib/dpkg/info`);
          const fields = 'Maintainer: x\nArchitecture: all\nVersion: 1\nDescription: x\n';
          const text = `Package: lab\nStatus: install ok half-configured\n${fields}\n`;
          fs.writeFileSync(`${tree}/var/lib/dpkg/status`, text);
        },
        /packages: not completely installed: lab/,
      ],
      ...['run', 'var/tmp'].map((name): [() => void, RegExp] => [
        () => {
          fs.rmdirSync(`${tree}/${name}`);
          fs.mkdirSync(`${tree}/srv/elsewhere`, { recursive: true });
          fs.symlinkSync('/srv/elsewhere', `${tree}/${name}`);
        },
        new RegExp(`trial login failed: .*/${name}" `),
      ]),
      [() => fs.chmodSync(`${tree}/usr/share`, 0o700), /permissions: users cannot read \/usr\/share\n/],
      [() => fs.chmodSync(`${tree}/etc/nsswitch.conf`, 0o600), /users cannot read \/etc\/nsswitch\.conf\n/],
      [
        () => must('chown', ['-R', '1234:1234', tree]),
        /rights: "\/etc", "\/usr", .* do not belong to root: /,
      ],
      [() => fs.chmodSync(`${tree}/etc`, 0o777), /rights: users can write to "\/etc": /],
      [
        () => {
          // As cp(1) makes them without "-a".
          for (const name of ['su', 'passwd'])
            fs.copyFileSync(`/usr/bin/${name}`, `${tree}/usr/bin/${name}`, fs.constants.COPYFILE_EXCL);
          fs.chmodSync(`${tree}/usr/bin/su`, 0o755);
          fs.chmodSync(`${tree}/usr/bin/passwd`, 0o4755);
        },
        /rights: "\/usr\/bin\/su" has lost the set-id bit/,
      ],
      [
        () => {
          for (const path of ['usr/bin/sh', 'bin/sh']) fs.chmodSync(`${tree}/${path}`, 0o644);
        },
        /nobody cannot enter the session: .*\/bin\/sh/,
      ],
    ];
    for (const [spoil, message] of cases) {
      makeMiniTree(tree, ['dpkg']);
      fs.mkdirSync(`${tree}/usr/share`, { recursive: true });
      spoil();
      const r = lab.mayfly('init', '--from', tree);
      expect(r.err).toMatch(message);
      expect(r.code).toBe(4);
      expect(fs.readdirSync(`${lab.dir}/pool/generations`)).toEqual([]);
      expect(fs.existsSync(`${lab.dir}/pool/work`)).toBe(false);
      expect(lab.mayfly('status').out).not.toMatch(/generation 1/);
      fs.rmSync(tree, { recursive: true });
    }
    expect(lab.picture()).toMatchObject({ schroot: [], processes: [] });
    expect(lab.mayfly('init', '--from', small)).toMatchObject({ code: 0 });
    loginWorks();
  });

  it.each(['overlay', 'btrfs'] as const)('a tarball whose "./" is closed to users works on %s', backend => {
    lab = new Lab();
    const tree = makeMiniTree(`${lab.dir}/tree`);
    fs.chmodSync(tree, 0o700);
    fs.chownSync(tree, 1234, 1234);
    must('tar', ['-cf', `${lab.dir}/closed.tar`, '-C', tree, '.']);
    const r = lab.mayfly('init', '--backend', backend, '--from', `${lab.dir}/closed.tar`);
    expect(r).toMatchObject({ code: 0 });
    expect(r.err).toMatch(/"\/" of the tree is given to root, with mode 755/);
    loginWorks();
  });

  it('a pool directory with foreign files is refused and untouched', () => {
    lab = new Lab();
    fs.mkdirSync(`${lab.dir}/pool`);
    fs.writeFileSync(`${lab.dir}/pool/thesis.tex`, 'precious');
    const r = lab.mayfly('init', '--from', small);
    expect(r.err).toMatch(/is not empty \(it holds "thesis\.tex"\)/);
    expect(fs.readFileSync(`${lab.dir}/pool/thesis.tex`, 'utf8')).toBe('precious');
    fs.unlinkSync(`${lab.dir}/pool/thesis.tex`);
    expect(lab.mayfly('init', '--from', small)).toMatchObject({ code: 0 });
    loginWorks();
  });

  it('a pool on a file system of its own is used, and kept by destroy', () => {
    lab = new Lab();
    const pool = `${lab.dir}/pool`;
    fs.mkdirSync(pool);
    must('mount', ['-t', 'tmpfs', '-o', 'size=1G', 'x', pool]);
    expect(lab.mayfly('init', '--from', small)).toMatchObject({ code: 0 });
    loginWorks();
    expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
    expect(fs.readdirSync(pool)).toEqual([]);
    must('umount', [pool]);
  });

  it('a full pool fails with the reason, and again with room works', () => {
    lab = new Lab();
    const pool = `${lab.dir}/pool`;
    fs.mkdirSync(pool);
    must('mount', ['-t', 'tmpfs', '-o', 'size=2M', 'x', pool]);
    const r = lab.mayfly('init', '--from', small);
    expect(r.err).toMatch(/No space left on device/);
    expect(fs.existsSync(`${lab.dir}/state/stable`)).toBe(false);
    must('mount', ['-o', 'remount,size=1G', pool]);
    expect(lab.mayfly('init', '--from', small)).toMatchObject({ code: 0 });
    loginWorks();
    expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
    must('umount', [pool]);
  });

  it('a lost pointer to stable costs nothing: refused with the command that brings it back', () => {
    lab = Lab.make({ backend: 'overlay', from: small });
    user(A);
    fs.unlinkSync(`${lab.dir}/state/stable`);
    expect(lab.hook('start', A).err).toMatch(
      /the pointer to the stable .* is missing\n(.*\n)*hint: mayfly rollback$/m,
    );
    const r = lab.mayfly('init', '--from', small);
    expect(r).toMatchObject({ code: 4, out: '' });
    expect(r.err).toMatch(/there are complete generations: 1\nhint: mayfly rollback$/m);
    expect(lab.mayfly('gc')).toMatchObject({ code: 0 });
    expect(lab.mayfly('rollback')).toMatchObject({ code: 0 });
    loginWorks();
  });

  it('a pool of which nothing is on record is not taken for an earlier try, and is restored', () => {
    lab = Lab.make({ backend: 'overlay', from: small });
    fs.rmSync(`${lab.dir}/state`, { recursive: true });
    for (let i = 0; i < 2; i++) {
      const r = lab.mayfly('init', '--from', small);
      expect(r.code).toBe(4);
      expect(r.err).toMatch(/the record of the pool is lost; there is one at ".*"\nhint: mayfly recover$/m);
    }
    expect(fs.existsSync(`${lab.dir}/pool/generations/1/etc`)).toBe(true);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(fs.readlinkSync(`${lab.dir}/state/stable`)).toBe('generations/1.json');
    fs.rmSync(`${lab.dir}/state`, { recursive: true });
    expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0, err: '' });
    expect(lab.mayfly('init', '--from', small)).toMatchObject({ code: 0 });
    loginWorks();
  });

  it('destroy refuses while somebody is logged in', () => {
    lab = Lab.make({ backend: 'overlay', from: small });
    user(A);
    lab.hook('start', A);
    const r = lab.mayfly('destroy', '--yes');
    expect(r).toMatchObject({ code: 4 });
    expect(r.err).toMatch(/there are sessions: u\d+-/);
    expect(lab.inside(A, 'true').code).toBe(0);
    lab.hook('stop', A);
    expect(lab.picture()).toMatchObject({ schroot: [], processes: [] });
  });
});
