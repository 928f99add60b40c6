/**
 * The PAM module with the real schroot, in a mount and process namespace of its own: whom it gives a mount namespace, and
 * whom it does not. The session's tree is made of binds of this machine's, by the operations of a login.
 */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mountCommand } from '../../src/linux/mount-program.ts';
import { planMountOps } from '../../src/linux/mounts.ts';
import { namespaceOps } from '../../src/session/mount-namespace.ts';
import { must, sh } from './lab.ts';

const ALICE = 61001;
const BOB = 61002;
const ROOTS = '/run/mayfly/roots';
const ID = `u${ALICE}-0123abcd`;
const BOBS = `u${BOB}-4567cdef`;
/** Made by an earlier version: its tree is not prepared. */
const OLD = `u${ALICE}-89abcdef`;

let dir: string;

/** A command of a shell as a user, with schroot's exit status and output; the shell's own directory is "/". */
let run: (script: string) => { code: number; out: string; err: string };

beforeAll(() => {
  dir = fs.mkdtempSync(join(tmpdir(), 'mayfly-namespace-'));
  fs.chmodSync(dir, 0o755);
  const warnings = ['-std=gnu11', '-Wall', '-Wextra', '-Wconversion', '-Werror'];
  must('gcc', [
    ...warnings,
    '-O2',
    '-fPIC',
    '-shared',
    '-o',
    `${dir}/pam_mayfly.so`,
    `${process.cwd()}/hooks/pam/pam_mayfly.c`,
    '-lpam',
  ]);
  const stack = ['auth', 'account', 'session'].map(type => `${type} required pam_permit.so\n`).join('');
  fs.writeFileSync(`${dir}/pam`, `${stack}session optional ${dir}/pam_mayfly.so\n`);
  const users = `alice:x:${ALICE}:${ALICE}::/:/bin/sh\nbob:x:${BOB}:${BOB}::/:/bin/sh\n`;
  fs.writeFileSync(`${dir}/passwd`, fs.readFileSync('/etc/passwd', 'utf8') + users);
  const groups = `alice:x:${ALICE}:\nbob:x:${BOB}:\n`;
  fs.writeFileSync(`${dir}/group`, fs.readFileSync('/etc/group', 'utf8') + groups);
  fs.mkdirSync(`${dir}/chroot.d`);
  const entry = (id: string, user: string): void =>
    fs.writeFileSync(
      `${dir}/chroot.d/mayfly-${id}`,
      `[${id}]\ntype=plain\ndirectory=${ROOTS}/${id}\nusers=${user}\nroot-users=root\n`,
    );
  entry(ID, 'alice,bob');
  entry(BOBS, 'bob');
  entry(OLD, 'alice');
  fs.writeFileSync(`${dir}/chroot.d/build`, '[build]\ntype=plain\ndirectory=/\nusers=alice,bob\n');
  const bind = (source: string, target: string) => ({
    source,
    target,
    type: 'none',
    options: 'rbind,rslave',
  });
  const tmpfs = (target: string) => ({ source: 'tree', target, type: 'tmpfs', options: 'mode=0755' });
  const paths = { roots: ROOTS, run: '/run/mayfly' };
  const perl = (id: string, prepared = true): string => {
    const root = `${ROOTS}/${id}`;
    const binds = ['/usr', '/etc', '/proc', '/dev', '/tmp'].map(path => bind(path, root + path));
    const ops = planMountOps(tmpfs(root), [...binds, tmpfs(`${root}/run`)]);
    const { file, args } = mountCommand([...ops, ...(prepared ? namespaceOps(root, paths) : [])]);
    const words = [file, ...args].map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    return `mkdir ${root}
      ${words}
      for link in bin sbin lib lib64; do if [ -L /$link ]; then ln -s "$(readlink /$link)" ${root}/$link; fi; done
      mkdir -p ${root}${ROOTS} ${root}/home/alice ${root}/secret
      chmod 0700 ${root}/secret
      ln -s / ${root}${root}`;
  };
  const setUp = `set -e
    mount --make-rprivate /; mount --make-rshared / # as systemd does
    mkdir -p /run/mayfly; mount -t tmpfs -o mode=0755 mayfly /run/mayfly
    mkdir ${ROOTS}; mount -t tmpfs -o mode=0700 --make-private mayfly ${ROOTS}
    mount --bind ${dir}/passwd /etc/passwd
    mount --bind ${dir}/group /etc/group
    mount --bind ${dir}/pam /etc/pam.d/schroot
    mount --bind ${dir}/chroot.d /etc/schroot/chroot.d
    ${perl(ID)}
    ${perl(BOBS)}
    ${perl(OLD, false)}
    as() { user=$1; shift; setpriv --reuid=$user --regid=$user --clear-groups -- "$@"; }
    cd /
    set +e
    `;
  fs.writeFileSync(`${dir}/set-up`, setUp);
  run = script =>
    sh('timeout', [
      ...['-s', 'KILL', '60', 'unshare', '--kill-child', '--mount', '--pid', '--fork', '--mount-proc', '--'],
      ...['sh', '-c', `. ${dir}/set-up\n${script}`],
    ]);
});
afterAll(() => fs.rmSync(dir, { recursive: true }));

const lines = (script: string): string[] => {
  const r = run(script);
  expect(r.err).toBe('');
  return r.out.trim().split('\n');
};

const NAMESPACE = 'readlink /proc/self/ns/mnt';
const enter = (user: number | string, id: string, command: string): string =>
  `as ${user} schroot -c ${id} -d / -- ${command}`;

describe('what enters a session', () => {
  it('has a mount namespace whose root is the tree, with user namespaces, and nothing of the host in it', () => {
    const [host, inside, id, places] = lines(`${NAMESPACE}; ${enter(ALICE, ID, NAMESPACE)}
      ${enter(ALICE, ID, 'unshare -Ur id -u')}
      ${enter(ALICE, ID, "cut -d' ' -f5 /proc/self/mountinfo")} | grep -c -v -E '^/($|usr|etc|proc|dev|tmp|run)'`);
    expect(inside).not.toBe(host);
    expect([id, places]).toEqual(['0', '0']);
  });

  it('shares the mounts of all that is in the session, and none with the host outside of it', () => {
    const seen = lines(`${enter(0, ID, "sh -c 'mkdir /run/x && mount -t tmpfs inner /run/x'")}
      ${enter(ALICE, ID, 'findmnt -n -o TARGET -S inner')}
      findmnt -n -l -o TARGET -S inner
      mount -t tmpfs outer /tmp
      ${enter(ALICE, ID, 'findmnt -n -o TARGET -S outer')}`);
    expect(seen).toEqual(['/run/x', `${ROOTS}/${ID}/run/x`, '/tmp']);
  });

  it('keeps its working directory and its exit status', () => {
    const seen =
      lines(`mkdir /run/mayfly/home; mount --bind /run/mayfly/home /home; mkdir /home/alice; cd /home/alice
      as ${ALICE} schroot -c ${ID} -- pwd
      cd /run/mayfly; as ${ALICE} schroot -c ${ID} -- sh -c 'pwd; exit 7'; echo $?`);
    expect(seen).toEqual(['/home/alice', '/run/mayfly', '7']);
  });

  it('is not taken into a directory that its user may not search', () => {
    const r = run(
      `mkdir -p /secret && chmod 0755 /secret && cd /secret && as ${ALICE} schroot -c ${ID} -- pwd`,
    );
    expect(r.out + r.err).not.toMatch(/^\/secret$/m);
  });

  it('leaves nothing, and holds the volume until it ends', () => {
    const seen =
      lines(`${enter(ALICE, ID, 'sleep 1000')} 2>/dev/null & until pgrep -x sleep >/dev/null; do jobs %1 >/dev/null || exit; done
      umount -l ${ROOTS}/${ID}; rmdir ${ROOTS}/${ID}; findmnt -n -l -o TARGET | grep -c ${ID}
      pid=$(pgrep -x sleep); grep -c ' / / ' /proc/$pid/mountinfo; kill $pid; wait; lsns -n -t mnt | wc -l`);
    expect(seen).toEqual(['0', '1', '1']);
  });

  it.each([
    ['-c ID', `-c ${ID}`],
    ['-cID', `-c${ID}`],
    ['--chroot=ID', `--chroot=${ID}`],
    ['--chroot ID', `--chroot ${ID}`],
    ['its kind', `-c chroot:${ID}`],
    ['other options before', `-pc ${ID}`],
  ])('may be named by %s', (_what, words) => {
    const [host, inside] = lines(`${NAMESPACE}; as ${ALICE} schroot ${words} -d / -- ${NAMESPACE}`);
    expect(inside).not.toBe(host);
  });
});

describe('the host’s namespace is that of', () => {
  it.each([
    ['another chroot', `as ${ALICE} schroot -c build -d / -- ${NAMESPACE}`],
    [
      'a command that is given a session as an argument',
      `as ${ALICE} schroot -c build -d / -- sh -c '${NAMESPACE}' -c ${ID}`,
    ],
    ['a session of an earlier version, which is a chroot', enter(ALICE, OLD, NAMESPACE)],
    ['a session of somebody else, which schroot allows to enter by chroot', enter(BOB, ID, NAMESPACE)],
    [
      'a program that calls itself so',
      `as ${BOB} bash -c 'exec -a -c${ID} schroot -c build -d / -- ${NAMESPACE}'`,
    ],
  ])('%s', (_what, command) => {
    const [host, inside] = lines(`${NAMESPACE}; ${command}`);
    expect(inside).toBe(host);
  });

  it.each([
    'u61001-',
    'u61001-../..',
    'u-0123abcd',
    `u61001-${'a'.repeat(80)}`,
    '-c',
    'u18446744073709551615-ab',
    '',
  ])('a session named "%s", which does not exist', name => {
    const r = run(`as ${ALICE} schroot -c '${name}' -d / -- ${NAMESPACE}`);
    expect([r.code === 0, r.out]).toEqual([false, '']);
  });

  it('root in a session of somebody else is in its namespace, as its administrator', () => {
    const [host, inside] = lines(`${NAMESPACE}; ${enter(0, BOBS, NAMESPACE)}`);
    expect(inside).not.toBe(host);
  });
});
