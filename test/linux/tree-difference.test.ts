/** What counts as a change of a tree, on real files. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, it, onTestFinished } from 'vitest';
import { setxattrNumber } from '../../src/linux/ownership.ts';
import {
  differenceCommand,
  listDifferencesCommand,
  parseDifferences,
} from '../../src/linux/tree-difference.ts';

const FILES = `mkdir -p usr/bin usr/lib/deep/er etc/skip var; cd usr; for f in a b c d; do echo $f >bin/$f; done
  ln -s a bin/link; mkfifo bin/pipe; mknod bin/null c 1 3; echo x >lib/deep/er/x; cd ..; echo 1 >etc/conf; echo 1 >etc/skip/1`;

/** A command that sets an extended attribute to a value, which is an expression of Perl. */
const attribute = (path: string, name: string, value: string): string =>
  `perl -e '($f, $k, $v) = ("${path}", "${name}", ${value}); syscall(${setxattrNumber(process.arch)}, $f, $k, $v, length $v, 0) == 0 or die $!'`;

/** The user 1000 may read, in the form of the kernel. */
const ACL = 'pack("V(vvV)*", 2, 1,6,-1, 2,4,1000, 4,4,-1, 16,4,-1, 32,4,-1)';

/** How many differences there are after `script` in a copy of a tree. All files are older than the copy. */
function count(script: string, { since = 1000 } = {}): number {
  const top = fs.mkdtempSync(`${tmpdir()}/mayfly-difference-`);
  onTestFinished(() => {
    spawnSync('chattr', ['-R', '-ia', top]);
    fs.rmSync(top, { recursive: true });
  });
  const sh = (text: string): void => {
    const r = spawnSync('sh', ['-ec', text], { cwd: top, encoding: 'utf8' });
    if (r.status !== 0) throw new Error(r.stderr);
  };
  sh(`mkdir before; cd before; ${FILES}; cd ..; cp -a before after; cd after; ${script}`);
  const names = { derived: ['__pycache__'], ignored: ['etc/skip'] };
  const { file, args } = differenceCommand(`${top}/before`, `${top}/after`, since, names);
  const r = spawnSync(file, args, { encoding: 'utf8' });
  expect(r.stderr).toBe('');
  return Number(r.stdout);
}

describe.skipIf(process.getuid?.() !== 0)('a tree', () => {
  it.each([
    ['nothing', 'true', 0],
    ['a file', 'echo 1 >usr/new', 1],
    ['a directory with a file', 'mkdir usr/new; echo 1 >usr/new/1', 2],
    ['a file that is gone', 'rm usr/bin/a', 1],
    ['a directory that is gone', 'rm -r usr/lib', 4],
    ['a text of the same length', 'echo z >usr/bin/a', 1],
    [
      'a text of the same length and time',
      'touch -r usr/bin/a t; echo z >usr/bin/a; touch -r t usr/bin/a; rm t',
      1,
    ],
    [
      'a large text that differs at its end',
      'true; head -c 3000000 /dev/zero >big; cp big ../before/; printf x >>big',
      1,
    ],
    ['a time', 'touch usr/bin/a usr/bin/pipe; touch -h usr/bin/link', 0],
    ['a cache that is made anew', 'cat usr/bin/a >n; mv n usr/bin/a; chmod 644 usr/bin/a', 0],
    ['a mode', 'chmod u+s usr/bin/a', 1],
    ['an owner', 'chown 1000 usr/bin/a', 1],
    ['a group of a symlink', 'chgrp -h 1000 usr/bin/link', 1],
    ['a symlink of the same length', 'ln -sfn b usr/bin/link', 1],
    ['a type', 'rm usr/bin/a; mkdir usr/bin/a', 1],
    ['a device', 'rm usr/bin/null; mknod usr/bin/null c 1 5', 1],
    [
      'a capability',
      attribute('usr/bin/a', 'security.capability', 'pack("V5", 0x2000001, 1 << 13, 0, 0, 0)'),
      1,
    ],
    ['an ACL', attribute('usr/bin/a', 'system.posix_acl_access', ACL), 1],
    ['an ACL that others inherit', attribute('etc', 'system.posix_acl_default', ACL), 1],
    ['a flag', 'chattr +i usr/bin/a', 1],
    ['a flag of a directory', 'chattr +a usr/lib', 1],
    ['an attribute', attribute('usr/bin/a', 'trusted.x', '"1"'), 1],
    [
      'an attribute, in its value',
      `${attribute('usr/bin/a', 'trusted.x', '"1"')}; cp -a usr/bin/a ../before/usr/bin; ${attribute('usr/bin/a', 'trusted.x', '"2"')}`,
      1,
    ],
    ['what is ignored', 'echo 2 >etc/skip/1; echo 2 >etc/skip/2', 0],
    ['a directory with such a name elsewhere', 'mkdir -p usr/etc/skip', 2],
    ['what is made from other files', 'mkdir usr/__pycache__; echo 1 >usr/__pycache__/1', 0],
    ['a directory that is a symlink now', 'mv usr/lib/deep usr/deep; ln -s ../deep usr/lib/deep', 6],
  ])('with a change of %s', (_what, script, expected) => {
    expect(count(script)).toBe(expected);
  });
  it('is not read where nothing was touched since it was copied', () => {
    const quiet = 'touch -r usr/bin/a t; echo z >usr/bin/a; touch -r t usr/bin/a; rm t';
    expect(count(quiet, { since: Date.now() + 60_000 })).toBe(0);
    expect(count('echo z >usr/bin/a; touch -d "1 day" usr/bin/a', { since: Date.now() + 60_000 })).toBe(1); // the clock was set
  });
});

it.skipIf(process.getuid?.() !== 0)(
  'a list of differences has paths, kinds and sizes, and reads no content',
  () => {
    const top = fs.mkdtempSync(`${tmpdir()}/mayfly-difference-`);
    onTestFinished(() => fs.rmSync(top, { recursive: true }));
    const script = `mkdir before; cd before; mkdir a skip; echo 1 >a/gone; echo 1 >a/same; echo 1 >a/edited; echo 1 >a/hidden
    cd ..; cp -a before after; cd after; rm a/gone; echo 22 >a/edited; printf 'x\\ny' >'a/n
w'; touch -r a/hidden t; echo 2 >a/hidden; touch -r t a/hidden; rm t; touch skip/x`;
    const r = spawnSync('sh', ['-ec', script], { cwd: top, encoding: 'utf8' });
    expect(r.stderr).toBe('');
    const { file, args } = listDifferencesCommand(`${top}/before`, `${top}/after`, {
      derived: [],
      ignored: ['skip'],
    });
    const out = spawnSync(file, args, { encoding: 'utf8' });
    expect(out.stderr).toBe('');
    expect(parseDifferences(out.stdout)).toEqual([
      { kind: 'changed', before: 2, after: 3, path: 'a/edited' },
      { kind: 'gone', before: 2, after: 0, path: 'a/gone' },
      { kind: 'new', before: 0, after: 3, path: 'a/n\nw' },
    ]);
  },
);
