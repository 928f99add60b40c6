/** Accounts that a copy of the running system lacks, and what names them. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import { errorLines } from '../../src/update/chroot.ts';
import { settleMissingNames, splitOverrides } from '../../src/update/missing-names.ts';
import { makeDeb } from '../system/debs.ts';
import { sh } from '../system/lab.ts';

const dir = fs.mkdtempSync(`${tmpdir()}/mayfly-names-`);
afterAll(() => fs.rmSync(dir, { recursive: true }));

describe('names of people in a copy of the system', () => {
  const known = new Set(['root', 'games']);
  it.each([
    ['root games 2755 /usr/games/x', []],
    ['alice games 2755 /x', ['alice games 2755 /x']],
    ['root alice 2755 /a b', ['root alice 2755 /a b']],
    ['#1000 #1000 755 /x', []],
    ['', []],
  ])('the override %j', (line, removed) => {
    expect(splitOverrides(`${line}\nroot root 755 /kept\n`, known, known)).toEqual({
      kept: removed.length > 0 || line === '' ? 'root root 755 /kept\n' : `${line}\nroot root 755 /kept\n`,
      removed,
    });
  });

  it('dpkg works again, and every other file that names one is said', () => {
    const put = (path: string, text: string): void => {
      fs.mkdirSync(`${dir}${path.slice(0, path.lastIndexOf('/'))}`, { recursive: true });
      fs.writeFileSync(dir + path, text);
    };
    put('/host/etc/passwd', 'root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n');
    put('/host/etc/group', 'root:x:0:\nalice:x:1000:\n');
    put('/tree/etc/passwd', 'root:x:0:0::/:/bin/sh\n');
    put('/tree/etc/group', 'root:x:0:\n');
    put('/tree/var/lib/dpkg/status', '');
    put('/tree/var/lib/dpkg/available', '');
    for (const name of ['info', 'updates', 'triggers']) fs.mkdirSync(`${dir}/tree/var/lib/dpkg/${name}`);
    put('/tree/var/lib/dpkg/statoverride', 'alice root 4755 /usr/bin/x\nroot root 755 /usr/bin/y\n');
    put(
      '/tree/etc/crontab',
      '17 * * * * root run-parts\n0 5 * * 1 alice /home/alice/backup\n# 1 1 1 1 1 alice x\n',
    );
    put('/tree/etc/cron.d/site', '@daily alice /x\nMAILTO=alice\n');
    put('/tree/etc/cron.d/quiet', '@daily root /home/alice/x\n');
    put('/tree/etc/sudoers.d/staff', 'alice ALL=(ALL) NOPASSWD: ALL\n%alice ALL=(ALL) ALL\n');
    put('/tree/etc/systemd/system/site.service', '[Service]\nUser=alice\nExecStart=/x\n');
    put('/tree/etc/logrotate.d/site', '/x {\n  su alice root\n}\n');

    const deb = makeDeb(dir, { name: 'lab-x', version: '1' });
    const args = ['--root', `${dir}/tree`, '--force-not-root', '--unpack', deb];
    const problem = (): string => sh('dpkg', args).err;
    const before = problem();
    expect(errorLines(before.split('\n')).join('; ')).toMatch(
      /unrecoverable fatal error.*unknown system user 'alice'/,
    );
    const said: string[] = [];
    settleMissingNames(realHost(), `${dir}/host`, `${dir}/tree`, line => said.push(line));
    expect(said.map(line => /^(?:the override )?"([^"]+)"/.exec(line)?.[1])).toEqual([
      'alice root 4755 /usr/bin/x',
      ...['/etc/crontab', '/etc/cron.d/site', '/etc/sudoers.d/staff', '/etc/systemd/system/site.service'],
      '/etc/logrotate.d/site',
    ]);
    expect(problem()).not.toMatch(/fatal/);
    expect(execFileSync('cat', [`${dir}/tree/var/lib/dpkg/statoverride`], { encoding: 'utf8' })).toBe(
      'root root 755 /usr/bin/y\n',
    );
  });
});

it.each([
  [
    "dpkg: unrecoverable fatal error, aborting:\n unknown system user 'x' in statoverride file\nE: Sub-process /usr/bin/dpkg returned an error code (2)",
    /^dpkg: unrecoverable fatal error, aborting: unknown system user 'x'.*; E: Sub-process/,
  ],
  ['a\ndpkg-deb: error: paste subprocess was killed\nb', /^dpkg-deb: error: paste/],
])('the fatal line of dpkg is shown: %j', (output, reason) =>
  expect(errorLines(output.split('\n')).join('; ')).toMatch(reason),
);
