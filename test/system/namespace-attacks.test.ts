/**
 * Attacks on the PAM module, by a person with an account. The sessions are those of a real login, in a mount and process
 * namespace of their own.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must, sh } from './lab.ts';
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
