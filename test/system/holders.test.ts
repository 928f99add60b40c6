/**
 * What keeps the files of an ended session, and what a person can make slow: a logout leaves nothing, or a record that says
 * who holds what.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Discarded } from '../../src/volume/backend.ts';
import { BACKENDS, forgetUsers, Lab, must, sh, until, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-a';

const running: ChildProcess[] = [];
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

/** Starts a Perl program that says "ready" and stays. */
async function stays(code: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn('perl', ['-e', `${code}; $| = 1; print "ready\\n"; sleep 1000`, ...args], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(child);
  await new Promise((yes, no) => {
    child.stdout?.once('data', yes);
    child.once('close', status => no(new Error(`perl ended with ${status}`)));
  });
  return child;
}

const ends = (child: ChildProcess): Promise<unknown> => {
  const end = new Promise(yes => child.once('close', yes));
  child.kill('SIGKILL');
  return end;
};

/** A descriptor of a file on its way between two sockets (SCM_RIGHTS): no process has it. */
const FLIGHT = `
  use Socket;
  open(my $f, "<", shift) or die;
  socketpair(our $from, our $to, AF_UNIX, SOCK_STREAM, 0) or die;
  my $byte = "x";
  my $part = pack("PQ", $byte, 1);
  my $rights = pack("QiiIx4", 20, 1, 1, fileno $f);
  my $message = pack("QIx4PQPQix4", 0, 0, $part, 1, $rights, length $rights, 0);
  syscall(46, fileno $from, $message, 0) == 1 or die;
  close $f`;

describe.each(BACKENDS)('what keeps the files of a session on %s', backend => {
  const more = '[logout]\nmax_stuck = 2\n';
  let lab: Lab;
  let before: unknown;

  beforeAll(() => {
    user(A);
    lab = new Lab({ config: more });
    const from = makeMiniTree(`${lab.dir}/tree`);
    expect(lab.mayfly('init', '--backend', backend, '--from', from, '--quiet')).toMatchObject({ code: 0 });
    lab.hook('start', A);
    lab.hook('stop', A);
    before = lab.picture();
  });
  beforeEach(() => {
    expect(lab.picture()).toEqual(before);
  });
  afterAll(() => {
    lab.close();
    forgetUsers();
  });

  const discarded = (): Discarded[] => JSON.parse(lab.mayfly('status', '--json').out).discarded;
  const root = (): string => lab.session(A)?.root ?? '/nonexistent';
  const put = (path: string): string => {
    fs.copyFileSync('/bin/sleep', root() + path);
    return root() + path;
  };

  it('a process of somebody else that has a file mapped without a descriptor', async () => {
    lab.hook('start', A);
    const load = 'require DynaLoader; DynaLoader::dl_load_file(shift, 0) or die DynaLoader::dl_error()';
    const [libc = ''] = /\/\S+\/libc\.so\S*/.exec(fs.readFileSync('/proc/self/maps', 'utf8')) ?? [];
    fs.copyFileSync(libc, `${root()}/usr/library`);
    const holder = await stays(load, `${root()}/usr/library`);
    expect(lab.hook('stop', A)).toMatchObject({ code: 6 });
    expect(lab.session(A)?.stuck).toMatch(`process ${holder.pid} perl (mapped file `);
    await ends(holder);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
  });

  it('a descriptor in flight, which no process shows', async () => {
    lab.hook('start', A);
    const held = await stays(FLIGHT, put('/usr/held'));
    const first = lab.session(A)?.id;
    const stopped = lab.hook('stop', A);
    if (backend === 'btrfs') {
      // Not known before it is deleted. What btrfs has not freed stays on record.
      expect(stopped).toMatchObject({ code: 0 });
      lab.hook('start', A);
      lab.hook('stop', A);
      await until(() => {
        lab.mayfly('recover');
        must('btrfs', ['filesystem', 'sync', `${lab.dir}/pool`]);
        return discarded().length === 1;
      });
      expect(discarded()).toEqual([expect.objectContaining({ session: first, deleted: true })]);
      expect(lab.mayfly('status').out).toMatch(
        /^erasing +1 volume of ended sessions whose space is not free yet$/m,
      );
    } else {
      expect(stopped).toMatchObject({ code: 6 });
      expect(lab.session(A)?.stuck).toMatch(
        /something that \/proc does not show, such as a descriptor in flight/,
      );
    }
    await ends(held);
    await until(() => {
      if (backend === 'btrfs') must('btrfs', ['filesystem', 'sync', `${lab.dir}/pool`]);
      return lab.mayfly('recover').code === 0 && discarded().length === 0;
    });
  });

  it('a loop device on a file in its /run, mounted on the host', async () => {
    const place = `${lab.dir}/mounted`;
    fs.mkdirSync(place);
    for (const isUsed of [false, true]) {
      lab.hook('start', A);
      const image = `${root()}/run/shm/a disk`;
      must('truncate', ['-s', '8M', image]);
      must('mkfs.ext4', ['-q', image]);
      const device = must('losetup', ['-f', '--show', image]).trim();
      must('mount', [device, place]);
      const user = isUsed ? await stays('chdir shift or die', place) : undefined;
      expect(lab.hook('stop', A).code).toBe(isUsed ? 6 : 0);
      if (user) {
        expect(lab.session(A)?.stuck).toMatch(
          `${device} on the session's file "${image}" is in use: its mount at ${place}, process ${user.pid} perl (cwd)`,
        );
        await ends(user);
        await until(() => lab.mayfly('recover').code === 0);
      }
      expect(sh('losetup', [device]).code).not.toBe(0);
      expect(lab.picture()).toEqual(before);
    }
    fs.rmdirSync(place);
  });

  it('swap space in a file of it, and on a loop device on one', () => {
    const swaps = (): string => fs.readFileSync('/proc/swaps', 'utf8');
    const others = swaps();
    lab.hook('start', A);
    const make = (path: string): void => {
      must('sh', ['-ec', ': >"$1"; chattr +C "$1" 2>/dev/null || true', 'sh', path]); // btrfs needs it
      must('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', 'count=4', 'status=none']);
      fs.chmodSync(path, 0o600);
      must('mkswap', ['-q', path]);
    };
    // A nested subvolume is where swap files on btrfs are usually put.
    if (backend === 'btrfs') must('btrfs', ['subvolume', 'create', `${root()}/a swap`]);
    else fs.mkdirSync(`${root()}/a swap`);
    const [file, disk] = [`${root()}/a swap/file`, `${root()}/run/shm/disk`];
    for (const path of [file, disk]) make(path);
    if (backend === 'overlay') expect(sh('swapon', [file]).err).toMatch(/Invalid argument/);
    else must('swapon', [file]);
    must('swapon', [must('losetup', ['-f', '--show', disk]).trim()]);
    expect(swaps().split('\n')).toHaveLength(others.split('\n').length + (backend === 'overlay' ? 1 : 2));
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(swaps()).toBe(others);
    expect(lab.picture()).toEqual(before);
  });

  it.each<[string, string]>([
    [
      'symlinks that lead in a circle',
      `umount -l home/${A} run; rm -rf home run; ln -s home home; ln -s run run`,
    ],
    ['files in the place of directories', `umount -l home/${A} run; rm -rf home run; touch home run`],
    ['nothing in the place of directories', `umount -l home/${A} run; rm -rf home run`],
    ['another file system over its root', 'mount -t tmpfs mayfly-test "$PWD"'],
    ['three more over its root', 'for i in 1 2 3; do mount -t tmpfs mayfly-test "$PWD"; done'],
    ['an end of all of it', 'rm -rf --one-file-system usr etc var lib bin sbin home || true'],
  ])('nothing, whatever root in the session of a guest has made of its tree: %s', async (_, script) => {
    lab.configure(`ephemeral_home = ["${A}"]`);
    lab.hook('start', A);
    const staying = 'sleep 1000077';
    lab.linger(A, true, `cd /usr; exec ${staying}`);
    const left = (): string => sh('pgrep', ['-fx', staying]).out;
    await until(() => left() !== '');
    // From outside, because the tree has no such programs; its mounts are the same.
    must('sh', ['-c', `set -e; cd "$1"; ${script}`, 'sh', root()]);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(left()).toBe('');
    lab.configure(more);
  });

  it('very many files and nested subvolumes: the next login does not wait for them to be erased', async () => {
    lab.hook('start', A);
    const at = root();
    await ends(
      await stays(
        'mkdir "$ARGV[0]/many" or die; for (1 .. 20000) { open(my $f, ">", "$ARGV[0]/many/$_") or die }',
        at,
      ),
    );
    if (backend === 'btrfs')
      for (let n = 0; n < 60; n++) must('btrfs', ['-q', 'subvolume', 'create', `${at}/many/s${n}`]);
    must('chattr', ['+i', backend === 'btrfs' ? `${at}/many/s7` : `${at}/many/1`]);
    const id = lab.session(A)?.id;
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.records()).toEqual([]);
    expect(fs.existsSync(`${lab.dir}/pool/sessions/${id}`)).toBe(false);
    expect(lab.hook('start', A)).toMatchObject({ code: 0 });
    expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
    expect(lab.mayfly('recover').code).toBe(0);
    expect(discarded().filter(d => !d.deleted)).toEqual([]);
  });

  if (backend === 'btrfs') return; // there it takes ten minutes; test/session/stuck.test.ts has them
  it('several of them: the login is refused at the limit', async () => {
    const all = [];
    for (let n = 0; n < 2; n++) {
      expect(lab.hook('start', A)).toMatchObject({ code: 0 });
      all.push(await stays(FLIGHT, put('/usr/held')));
      expect(lab.hook('stop', A)).toMatchObject({ code: 6 });
    }
    const refused = lab.hook('start', A);
    expect(refused).toMatchObject({ code: 6 });
    expect(refused.err).toMatch(
      /2 sessions of mayfly-a cannot be ended, and "logout.max_stuck" is 2; the first is u\d/,
    );
    await ends(all.pop() ?? (await stays('')));
    await until(() => lab.mayfly('recover').out.includes('ended'));
    expect(lab.hook('start', A)).toMatchObject({ code: 0 });
    lab.hook('stop', A);
    for (const held of all) await ends(held);
    await until(() => lab.mayfly('recover').code === 0);
  });
});
