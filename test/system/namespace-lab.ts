/**
 * A mount and process namespace of its own with the real schroot, our PAM module and sessions, whose trees are made of
 * binds of this machine's by the operations of a login. Nothing of it reaches the machine.
 */
import * as fs from 'node:fs';
import { mountCommand } from '../../src/linux/mount-program.ts';
import { planMountOps } from '../../src/linux/mounts.ts';
import { namespaceOps } from '../../src/session/mount-namespace.ts';
import { must, type Ran, sh } from './lab.ts';

/** How many times an emulator takes what a machine does. */
const SLOW = Number(process.env.MAYFLY_TEST_SLOW ?? 1);

export const ALICE = 61001;
export const BOB = 61002;
export const ROOTS = '/run/mayfly/roots';
export const ID = `u${ALICE}-0123abcd`;
export const BOBS = `u${BOB}-4567cdef`;
/** Made by an earlier version: its tree is not prepared. */
export const OLD = `u${ALICE}-89abcdef`;

/** Prints the mount namespace. */
export const NAMESPACE = 'readlink /proc/self/ns/mnt';

/** Runs a command in a session as a user. */
export const enter = (user: number | string, id: string, command: string): string =>
  `as ${user} schroot -c ${id} -d / -- ${command}`;

/**
 * An /etc of its own with our accounts, entries and PAM stack. Binds of files would be gone when useradd(8), which other
 * tests run at the same time, exchanges the host's.
 */
const ownEtc = (dir: string): string => `
    mkdir -p ${dir}/etc; mount -t tmpfs etc ${dir}/etc; mkdir ${dir}/etc/upper ${dir}/etc/work
    mount -t overlay -o lowerdir=/etc,upperdir=${dir}/etc/upper,workdir=${dir}/etc/work etc /etc
    cat ${dir}/passwd >/etc/passwd; cat ${dir}/group >/etc/group; cat ${dir}/pam >/etc/pam.d/schroot
    mount --bind ${dir}/chroot.d /etc/schroot/chroot.d`;

/** Without any user or group of its own in the map but hers, all by system calls: a static program needs no file. */
const HOLD = `#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0644);
	return fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd);
}
int main(void)
{
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) || put("/proc/self/uid_map", "0 ${ALICE} 1") ||
	    put("/proc/self/setgroups", "deny") || put("/proc/self/gid_map", "0 ${ALICE} 1") ||
	    mkdir("/home/alice/root", 0755) || mount("x", "/home/alice/root", "tmpfs", 0, "") ||
	    mkdir("/home/alice/root/old", 0755) || syscall(SYS_pivot_root, "/home/alice/root", "/home/alice/root/old") ||
	    chdir("/") || put("/old/home/alice/ready", "x"))
		return 1;
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	for (;;)
		pause();
}
`;

/** Programs that are compiled: the module, and what holds a session. */
const PROGRAMS = ['pam_mayfly.so', 'hold'];

/** Where they are if they are built before, because the machine of the test has no compiler. */
const BUILT = process.env.MAYFLY_TEST_BUILT;

/** Compiles them. */
export function buildPrograms(dir: string): void {
  const warnings = ['-std=gnu11', '-Wall', '-Wextra', '-Wconversion', '-Werror'];
  const module = `${process.cwd()}/hooks/pam/pam_mayfly.c`;
  must('gcc', [...warnings, '-O2', '-fPIC', '-shared', '-o', `${dir}/pam_mayfly.so`, module, '-lpam']);
  fs.writeFileSync(`${dir}/hold.c`, HOLD);
  must('gcc', ['-static', '-O1', '-o', `${dir}/hold`, `${dir}/hold.c`]);
}

export interface NamespaceLab {
  /** For the test's own files. */
  readonly dir: string;
  /** A command of a shell as root, with its exit status and output; the shell's own directory is "/". */
  readonly run: (script: string) => Ran;
  /** The same without the sessions: a machine on which nobody is logged in. It may take so many seconds. */
  readonly runMachine: (script: string, seconds?: number) => Ran;
  readonly close: () => void;
}

export function makeNamespaceLab(): NamespaceLab {
  const dir = fs.mkdtempSync('/var/lib/mayfly-test-');
  fs.chmodSync(dir, 0o755);
  if (BUILT === undefined) buildPrograms(dir);
  else for (const name of PROGRAMS) fs.copyFileSync(`${BUILT}/${name}`, `${dir}/${name}`);
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
      mkdir -p ${root}${ROOTS} ${root}/home/alice ${root}/only-inside ${root}/run/mayfly/secret
      chmod 0700 ${root}/run/mayfly/secret
      ln -s / ${root}${root}`;
  };
  const setUp = (sessions: string): string => `set -e
    mount --make-rprivate /; mount --make-rshared / # as systemd does
    mount -t tmpfs none /sys/fs/cgroup # groups of sessions on the machine are not this one's leftovers
    mkdir -p /run/mayfly; mount -t tmpfs -o mode=0755 mayfly /run/mayfly
    ${ownEtc(dir)}
    ${sessions}
    as() { user=$1; shift; setpriv --reuid=$user --regid=$user --clear-groups -- "$@"; }
    cd /
    set +e
    `;
  const sessions = `mkdir ${ROOTS}; mount -t tmpfs -o mode=0700 --make-private mayfly ${ROOTS}
    ${perl(ID)}
    ${perl(BOBS)}
    ${perl(OLD, false)}`;
  fs.writeFileSync(`${dir}/set-up`, setUp(sessions));
  fs.writeFileSync(`${dir}/set-up-machine`, setUp('mount -t tmpfs none /etc/schroot/chroot.d'));
  const within = (file: string, script: string, seconds = 100): Ran =>
    sh('timeout', [
      ...[
        '-s',
        'KILL',
        `${seconds * SLOW}`,
        'unshare',
        '--kill-child',
        '--mount',
        '--pid',
        '--fork',
        '--mount-proc',
        '--',
      ],
      ...['sh', '-c', `. ${dir}/${file}\n${script}`],
    ]);
  const run = (script: string): Ran => within('set-up', script);
  const runMachine = (script: string, seconds?: number): Ran => within('set-up-machine', script, seconds);
  return { dir, run, runMachine, close: () => fs.rmSync(dir, { recursive: true }) };
}
