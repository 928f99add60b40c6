/**
 * Attacks on the mount namespaces of sessions, by a person with an account: on the PAM module, and on teardown. The
 * sessions are those of a real login, in a mount and process namespace of their own.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, MAYFLY, must, sh } from './lab.ts';
import { makeMiniTree } from './mini.ts';
import { ALICE, BOB, enter, ID, makeNamespaceLab, NAMESPACE, type NamespaceLab } from './namespace-lab.ts';

const HOOKS = `${process.cwd()}/hooks`;

let lab: NamespaceLab;
beforeAll(() => {
  lab = makeNamespaceLab();
});
afterAll(() => lab.close());

const lines = (script: string): string[] => {
  const r = lab.run(script);
  return r.out.trim().split('\n');
};

/** The module with a main program: it prints the chroot of a command line, or tries random ones. */
const HARNESS = `#include "${HOOKS}/pam/pam_mayfly.c"
static const char *const parts[] = {"-", "--", "c", "-c", "=", "chroot", "--chroot", "--chroot=", "user", "-d", "p", "-p",
	"", "u61001-0123abcd", "u1-a", "chroot:", "-u", "-l", "--verbose", "-q", "-cu1-a", "-pcu1-a", "--chroot=u1-a", ":"};
int main(int argc, char **argv)
{
	if (argc > 1) {
		char words[4096];
		size_t size = 0;
		for (int i = 1; i < argc; i++)
			size += (size_t)sprintf(words + size, "%s", argv[i]) + 1;
		words[size] = '\\0';
		const char *name = named_chroot(words, size, true);
		puts(name == NULL ? "none" : name);
		return 0;
	}
	unsigned long state = 1, found = 0;
	for (int round = 0; round < 200000; round++) {
		size_t size = 0;
		char *words = malloc(400);
		while (size < 300 && (state = state * 6364136223846793005UL + 1442695040888963407UL) >> 60 != 0) {
			const char *part = parts[(state >> 33) % (sizeof parts / sizeof parts[0])];
			size += (size_t)sprintf(words + size, "%s", part);
			if (state >> 63)
				words[size++] = '\\0';
		}
		/* exactly as large, so that a read beyond it is seen; the last word may be cut off */
		char *exact = malloc(size + 1);
		memcpy(exact, words, size);
		exact[size] = '\\0';
		const char *name = named_chroot(exact, size, state >> 62 & 1);
		if (name != NULL && (name < exact || name > exact + size))
			abort();
		found += name != NULL && is_session(name, 1);
		free(exact);
		free(words);
	}
	printf("%lu\\n", found);
	return 0;
}
`;

describe('the chroot that a command line names', () => {
  const harness = (...args: string[]): string => {
    const r = sh(`${lab.dir}/harness`, args);
    expect([r.code, r.err]).toEqual([0, '']);
    return r.out.trim();
  };
  beforeAll(() => {
    fs.writeFileSync(`${lab.dir}/harness.c`, HARNESS);
    const checks = ['-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-std=gnu11', '-O1'];
    must('gcc', [...checks, '-o', `${lab.dir}/harness`, `${lab.dir}/harness.c`, '-lpam']);
  });

  it.each([
    ['-c x', 'x'],
    ['-pqcx -d / --', 'x'],
    ['--chroot=x --user root --', 'x'],
    ['-c x -- -c y', 'x'],
    ['-d -c -c x', 'x'],
    ['-c x ls -p', 'x'],
    ['-c x -c y', 'none'],
    ['-c x ls -c y', 'none'],
    ['--chroot x -cy', 'none'],
    ['-c x -a', 'none'],
    ['-c x --all-chroots', 'none'],
    ['-b -c x', 'none'],
    ['-c x -l', 'none'],
    ['--chr=x', 'none'],
    ['-c', 'none'],
    ['--quiet=yes -c x', 'none'],
    ['', 'none'],
  ])('schroot %s: %s', (words, name) => {
    expect(harness('-cz', ...words.split(' '))).toBe(name);
  });

  it('is found without reading a byte too many in 200,000 random ones', () => {
    expect(Number(harness())).toBeGreaterThan(1000);
  });
});

describe('the module', () => {
  it('leaves schroot on the host, where it sets up and cleans up, if a session is one of several chroots', () => {
    const several = (...words: string[]): string =>
      `as ${ALICE} schroot ${words.join(' ')} -d / -- ${NAMESPACE}`;
    const [host, ...seen] =
      lines(`${NAMESPACE}; ${several('-c build', `-c ${ID}`)}; ${several(`-c ${ID}`, '-c build')}
      as ${ALICE} schroot -c build -d / true -c ${ID}; ${several(`-c ${ID}`, '-c build')}`);
    expect(seen).toHaveLength(6);
    expect(new Set(seen)).toEqual(new Set([host]));
  });

  it('may be missing: schroot enters sessions as before', () => {
    const r =
      lab.run(`sed -i 's|[^ ]*pam_mayfly.so|pam_mayfly_is_missing.so|; s/^session optional/-&/' /etc/pam.d/schroot
      ${enter(ALICE, ID, 'echo entered')}`);
    expect(r).toMatchObject({ code: 0, out: 'entered\n' });
  });

  it('does nothing in a session, where the session’s root is a symlink', () => {
    const [outer, inner] = lines(
      `${enter(0, ID, `sh -c '${NAMESPACE}; exec schroot -c ${ID} -d / -- ${NAMESPACE}'`)}`,
    );
    expect(inner).toBe(outer);
  });

  it.each([
    ['no descriptor left', 'ulimit -n 5', 1],
    ['few descriptors', 'ulimit -n 12', 0],
    ['little memory', 'ulimit -v 80000', 0],
    ['a small stack', 'ulimit -s 200', 0],
    ['no file larger than a block', 'ulimit -f 1', 0],
    ['one process', 'ulimit -p 1', 0],
    ['no standard files', 'exec <&- 2>&-', 0],
  ])('with %s: schroot enters the session, or says why not, and never another tree', (_what, limit) => {
    const inside = `sh -c "ls -d /only-inside"`;
    const r = lab.run(`(${limit}; as ${ALICE} schroot -c ${ID} -d / -- ${inside}) | cat; ls -d /only-inside`);
    expect(['/only-inside\n', '']).toContain(r.out);
  });

  it('does not keep the volumes of other sessions where its process is stopped half-way', () => {
    const other = `/run/mayfly/roots/u${BOB}-00000000`;
    const seen = lines(`
      truncate -s 16M /run/mayfly/image; mkfs.ext4 -q /run/mayfly/image; mkdir ${other}
      loop=$(losetup -f --show /run/mayfly/image); mount $loop ${other}; mount --make-shared ${other}
      strace -f -o /run/mayfly/trace -e inject=umount2:delay_enter=60s schroot -c ${ID} -d / -- true &
      until grep -q 'umount2.*roots/.old' /run/mayfly/trace 2>/dev/null || [ -e /run/mayfly/roots/${ID}/x ]; do
        for root in /proc/[0-9]*/root/run/mayfly/roots/.old/usr; do if [ -d $root ]; then break 2; fi; done
      done
      ls -d /sys/fs/ext4/\${loop#/dev/}
      umount -l ${other}; rmdir ${other}
      n=0; while [ -e /sys/fs/ext4/\${loop#/dev/} ] && [ $n -lt 1000 ]; do n=$((n + 1)); sleep 0.02; done
      ls -d /sys/fs/ext4/\${loop#/dev/} 2>/dev/null || echo free
      losetup -d $loop`);
    expect(seen.at(-1)).toBe('free');
    expect(seen).toHaveLength(2);
  });
});

/** Says in a file of her home that it is ready, and stays. */
const STAY = 'open(F, ">/home/alice/ready"); print F "x"; close F; sleep 1000';
const RAW = `sub sys { my ($n, @a) = @_; my $r = syscall($n, @a); $r >= 0 or die "$n: $!"; return $r }`;
/** Takes the descriptor of a copy of the tree from process T, with the rights of the same user. */
const TAKE = `$p = sys(434, $ENV{T} + 0, 0); ($n) = grep { (readlink("/proc/$ENV{T}/fd/$_") // "") eq "/" } 3..9; $f = sys(438, $p, $n, 0);`;
const COPY = `inside unshare -Urm perl -e '${RAW} $r = "/"; sys(428, -100, $r, 0x8001); ${STAY}'; ready; export T=$(pgrep -n -x perl)`;

/** By a person, each in the background; \`inside\` is in the session, \`outside\` beside it. */
const HOLDERS: [string, string][] = [
  [
    'a descriptor of the namespace, of a process outside',
    `target; outside perl -e 'open(N, "<", "/proc/$ENV{P}/ns/mnt") or die; ${STAY}'; ready`,
  ],
  [
    'a process of root that has entered the namespace',
    'target; setsid nsenter --mount=/proc/$P/ns/mnt sleep 1000 & until [ "$(readlink /proc/$!/ns/mnt)" = "$(readlink /proc/$P/ns/mnt)" ]; do sleep 0.02; done',
  ],
  ['a nested namespace', `inside unshare -Urm --propagation private perl -e '${STAY}'; ready`],
  [
    'a nested namespace with the tree below another root, and a program elsewhere',
    'cp $D/hold /home/alice; inside /home/alice/hold; ready',
  ],
  ['a descriptor of a copy of the tree', COPY],
  [
    'a descriptor of a copy of the tree, of a process outside',
    `${COPY}; outside perl -e '${RAW} ${TAKE} ${STAY}'; ready`,
  ],
  [
    'a copy of the tree in a namespace outside',
    `${COPY}; outside perl -e '${RAW} ${TAKE} sys(272, 0x10020000); ($e, $t) = ("", "/mnt"); sys(429, $f, $e, -100, $t, 4); open(C, "<&=", $f); close C; ${STAY}'; ready`,
  ],
  [
    'thousands of mounts in nested namespaces',
    `inside unshare -Urm sh -c 'mkdir /home/alice/b; mount -t tmpfs x /home/alice/b
      for i in 1 2 3 4 5 6 7 8 9 10 11 12; do mkdir /home/alice/b/$i; mount --rbind /home/alice/b /home/alice/b/$i; done
      for i in 1 2 3; do unshare -Urm sleep 1000 & done; exec perl -e "open(F, q(>/home/alice/ready)); print F q(x); close F; sleep 1000"'; ready`,
  ],
  [
    'a file server that never answers in a nested namespace, with a process that waits for it',
    `mount --bind /run/mayfly/fuse /run/mayfly/roots/$S/dev/fuse
      inside unshare -Urm perl -e '${RAW} sysopen($d, "/dev/fuse", 2) or die "fuse: $!"; ($s, $t, $o, $p) = ("s", "fuse", "fd=" . fileno($d) . ",rootmode=40000,user_id=0,group_id=0,allow_other", "/tmp"); sys(165, $s, $p, $t, 0, $o); if (fork == 0) { chdir "/tmp"; open(X, "<", "/tmp/x"); exit } ${STAY}'; ready`,
  ],
];

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

describe.runIf(process.arch === 'x64').each(BACKENDS.filter(b => b === 'overlay' || b === 'btrfs'))(
  'a logout on %s',
  backend => {
    it('ends whatever a person left to hold the session, and disturbs nobody else', () => {
      const { dir } = lab;
      fs.writeFileSync(`${dir}/hold.c`, HOLD);
      must('gcc', ['-static', '-O1', '-o', `${dir}/hold`, `${dir}/hold.c`]);
      const programs = ['perl', 'unshare', 'mount', 'mkdir', 'readlink'];
      if (!fs.existsSync(`${dir}/tree`)) makeMiniTree(`${dir}/tree`, programs);
      for (const [name, uid] of [
        ['alice', ALICE],
        ['bob', BOB],
      ] as const) {
        fs.mkdirSync(`${dir}/home/${name}`, { recursive: true });
        fs.chownSync(`${dir}/home/${name}`, uid, uid);
      }
      const pool = `[pool]\npath = "${dir}/pool-${backend}"\nimage_size = "1G"\n`;
      const rest = `[logout]\ngrace = 0\n[directories]\nstate = "${dir}/state-${backend}"\n`;
      fs.writeFileSync(`${dir}/${backend}.toml`, `${rest}${pool}`);
      const attacks = HOLDERS.map(
        ([what, script]) => `hook setup :0 alice; S=$(cat /run/mayfly/users/${ALICE}/session)
        rm -rf --one-file-system /home/alice/*
        ${script}
        hook cleanup :0 alice || echo "$?"; mayfly recover >/dev/null
        echo "${what}: $(mayfly sessions --json | grep -c '"user": "alice"') $(pgrep -u ${ALICE} | wc -l) $(lsns -n -t mnt | wc -l) $(ls ${dir}/pool-${backend}/sessions | grep -c $S)"
        pkill -KILL -u ${ALICE}; mayfly recover >/dev/null`,
      );
      const r = lab.runMachine(`D=${dir}
        mount --bind ${dir}/home /home
        mount -t tmpfs -o mode=0755 none /run/mayfly; mknod -m 666 /run/mayfly/fuse c 10 229
        sed -i -E 's|^(alice\\|bob)(:x:.*)::/:|\\1\\2::/home/\\1:|' /etc/passwd
        mayfly() { node ${MAYFLY} "$@" --config ${dir}/${backend}.toml; }
        hook() { env -i PATH=/usr/bin:/bin USER=$3 DISPLAY=$2 ${HOOKS}/lightdm/session-$1 --config ${dir}/${backend}.toml --quiet; }
        outside() { as ${ALICE} "$@" & }
        inside() { outside schroot -c $S -d / -- "$@" 2>/run/mayfly/said; }
        ready() { n=0; until [ -s /home/alice/ready ]; do n=$((n + 1)); if [ $n -gt 500 ]; then echo "not ready"; cat /run/mayfly/said; return; fi; sleep 0.02; done; rm /home/alice/ready; }
        target() { inside perl -e '${STAY}'; ready; export P=$(pgrep -n -x perl); }
        mayfly init --backend ${backend} --from ${dir}/tree --quiet
        hook setup :1 bob; B=$(cat /run/mayfly/users/${BOB}/session)
        as ${BOB} schroot -c $B -d / -- sleep 1000 &
        ${attacks.join('\n')}
        as ${BOB} schroot -c $B -d / -- true && echo "bob is not disturbed"; pgrep -c -u ${BOB} -x sleep
        hook cleanup :1 bob; mayfly destroy --yes; findmnt -l -n -o TARGET | grep -c -e roots/ -e ${dir}/pool`);
      const kept = 2; // namespaces: the machine's, and that of what bob runs
      expect(r.out.trim().split('\n')).toEqual([
        ...HOLDERS.map(([what]) => `${what}: 0 0 ${kept} 0`),
        'bob is not disturbed',
        '1',
        'removed the pool and all generations',
        '0',
      ]);
    });
  },
);
