/** Bringing a session up to date with the host, run for real in a mount namespace of its own. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it } from 'vitest';
import { type MountOp, mountCommand } from '../../src/linux/mount-program.ts';
import { planMountOps } from '../../src/linux/mounts.ts';
import { refreshCommand } from '../../src/linux/refresh-session.ts';

const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)('a session that is brought up to date', () => {
  const base = mkdtempSync(`${tmpdir()}/mayfly-refresh-`);
  afterAll(() => rmSync(base, { recursive: true }));
  for (const path of ['roots', 'tree']) mkdirSync(`${base}/${path}`);
  const root = `${base}/roots/session`;
  const quoted = (words: readonly string[]): string =>
    words.map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const line = ({ file, args }: { file: string; args: readonly string[] }): string => quoted([file, ...args]);
  const tmpfs = (target: string) => ({ source: 'm', target, type: 'tmpfs', options: 'mode=0755' });
  const bind = (source: string) => ({
    ...{ source, target: root + source, type: 'none', options: 'bind,slave' },
  });
  const calls: MountOp[] = [
    ...planMountOps(tmpfs(root), [tmpfs(`${root}/run`), bind('/run/service')]),
    { op: 'share', target: root },
  ];
  const shared = ['/run/service', '/run/later', '/run/deep/er/socket', '/run/logs'].map(path => ({
    ...{ path, readOnly: path === '/run/logs' },
  }));
  const sticks = [
    { path: '/run/media', readOnly: false, recursive: true },
    { path: '/run/books', readOnly: true, recursive: true },
  ];

  const copies = ['/etc/resolv.conf', '/etc/localtime', '/etc/cups/client.conf'];
  const refresh = line(refreshCommand(root, 'alice', `${base}/roots/.way`, shared));
  const withSticks = line(refreshCommand(root, 'alice', `${base}/roots/.way`, sticks));
  const copy = line(refreshCommand(root, 'alice', `${base}/roots/.way`, [], copies));

  /** As PID 1 makes /run, and two processes of the session with namespaces of their own: `within` runs a command in one. */
  function run(script: string): string {
    const out = spawnSync(
      'timeout',
      [
        '-s',
        'KILL',
        '30',
        'unshare',
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-c',
        `exec 2>&1
        mount --make-rshared /
        mount -t tmpfs host /run; mkdir /run/service; echo old >/run/service/socket
        mount -t tmpfs etc ${base}/tree
        printf '%s\n' root:secret:1 alice:new:2 bob:hidden:3 >${base}/tree/shadow; mount --bind ${base}/tree/shadow /etc/shadow
        mount -t tmpfs --make-private roots ${base}/roots; mkdir ${root}
        ${line(mountCommand(calls))} || exit
        mkdir ${root}/etc; printf '%s\n' daemon:x:1 alice:old:2 uuidd:y:3 >${root}/etc/shadow; chmod 640 ${root}/etc/shadow; chown 0:42 ${root}/etc/shadow
        unshare --mount --propagation unchanged sleep 50 >/dev/null 2>&1 & peer=$!
        until [ "$(readlink /proc/$peer/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ]; do :; done
        within() { nsenter -t $peer -m -- "$@"; }
        refresh() { ${refresh}; echo "code $?"; }
        sticks() { ${withSticks}; echo "code $?"; }
        copy() { ${copy}; echo "code $?"; }
        cd /
        ${script}
        kill $peer`,
      ],
      { encoding: 'utf8' },
    );
    return out.stdout;
  }

  it('shows the directory of a service that was restarted, in all its namespaces', () => {
    const out = run(`rm -r /run/service; mkdir /run/service; echo new >/run/service/socket
      ls ${root}/run/service; refresh
      cat ${root}/run/service/socket; within cat ${root}/run/service/socket
      grep -c ${root}/run/service /proc/self/mountinfo; refresh; grep -c ${root}/run/service /proc/self/mountinfo`);
    expect(out).toBe('code 0\nnew\nnew\n1\ncode 0\n1\n');
  });
  it('shows directories and sockets that did not exist at the login, some of them read-only', () => {
    const out =
      run(`mkdir -p /run/later /run/deep/er /run/logs; echo here >/run/later/x; echo s >/run/deep/er/socket
      (umask 077; refresh); within cat ${root}/run/later/x ${root}/run/deep/er/socket
      stat -c %a ${root}/run/deep; within touch ${root}/run/logs/x; ls -A ${base}/roots; grep -c roots/.way /proc/self/mountinfo`);
    expect(out).toMatch(/^code 0\nhere\ns\n755\ntouch: .*Read-only file system\nsession\n0\n$/);
  });
  it('shows a directory that did not exist at the login with the mounts in it, and with those that come', () => {
    const out = run(`for d in media books; do mkdir -p /run/$d/first /run/$d/second; done
      mount -t tmpfs stick /run/media/first; echo 1 >/run/media/first/x; mount -t tmpfs stick /run/books/first
      sticks; within cat ${root}/run/media/first/x
      mount -t tmpfs stick /run/media/second; echo 2 >/run/media/second/x; within cat ${root}/run/media/second/x
      within touch ${root}/run/books/first/x ${root}/run/books/x 2>&1 | grep -c 'Read-only'
      umount /run/media/first; within ls ${root}/run/media/first
      within umount ${root}/run/media/second; within umount -l ${root}/run/media; cat /run/media/second/x
      sticks; cat ${root}/run/media/second/x; mount -t tmpfs stick /run/media/first; touch /run/media/first/3; within ls ${root}/run/media/first
      umount -l ${root}/run/media; ls /run/media/first; ls -A ${base}/roots`);
    expect(out).toBe('code 0\n1\n2\n2\n2\ncode 0\n2\n3\n3\nsession\n');
  });
  it('never becomes a peer of the host, which keeps its own mounts', () => {
    const out = run(`rm -r /run/service; mkdir -p /run/service/sub; refresh
      mount -t tmpfs sub /run/service/sub; touch /run/service/sub/file
      within umount -R ${root}/run/service 2>/dev/null || within umount -l ${root}/run/service
      ls /run/service/sub; grep -c ${root}/run/service /proc/self/mountinfo`);
    expect(out).toBe('code 0\nfile\n0\n');
  });
  it.each([
    ['a symlink to the host in the place of the directory', `ln -s ${base}/tree ${root}/run/later`],
    ['a symlink on the way', `ln -s ${base}/tree ${root}/run/deep`],
    ['a file on the way', `touch ${root}/run/deep`],
  ])('refuses %s, changes nothing on the host, and does the rest', (_what, trick) => {
    const out = run(`${trick}; mkdir -p /run/later /run/deep/er; echo s >/run/deep/er/socket
      rm -r /run/service; mkdir /run/service; echo new >/run/service/socket
      refresh 2>/dev/null; cat ${root}/run/service/socket; ls ${base}/tree; grep -c ${base}/tree/ /proc/self/mountinfo`);
    expect(out).toBe('code 1\nnew\nshadow\n0\n');
  });
  it('has the password that its user has now, and nobody else’s', () => {
    const out = run(`refresh; cat ${root}/etc/shadow; stat -c '%a %u %g' ${root}/etc/shadow; ls -A ${root}/etc
      printf '%s\\n' alice:!new:2 >/etc/shadow; refresh; grep alice ${root}/etc/shadow
      printf '%s\\n' alicette:x:2 >/etc/shadow; refresh; cat ${root}/etc/shadow`);
    const rest = 'daemon:x:1\nuuidd:y:3\n';
    expect(out).toBe(
      `code 0\n${rest}alice:new:2\n640 0 42\nshadow\ncode 0\nalice:!new:2\ncode 0\n${rest}alice:*:::::::\n`,
    );
  });
  it.each([
    ['a symlink', `ln -s ${base}/tree/victim ${root}/etc/shadow`],
    ['a pipe', `mkfifo ${root}/etc/shadow`],
    ['a directory', `mkdir ${root}/etc/shadow`],
    ['nothing', ':'],
  ])('leaves %s in the place of its shadow file alone', (_what, trick) => {
    const out = run(`echo mine >${base}/tree/victim; rm ${root}/etc/shadow; ${trick}
      refresh >/dev/null 2>&1; cat ${base}/tree/victim; ls -A ${root}/etc`);
    expect(out).toMatch(/^mine\n(shadow\n)?$/);
  });
  it('follows no symlink in the place of /etc, and no mount there', () => {
    const victim = `mkdir ${base}/tree/etc; echo alice:mine >${base}/tree/etc/shadow`;
    for (const trick of [
      `rm -r ${root}/etc; ln -s ${base}/tree/etc ${root}/etc`,
      `mount --bind ${base}/tree/etc ${root}/etc`,
    ])
      expect(run(`${victim}; ${trick}; refresh >/dev/null 2>&1; cat ${base}/tree/etc/shadow`)).toBe(
        'alice:mine\n',
      );
  });
  /** The host gets an /etc of its own, and the session what its copies go to. */
  const etc = `mkdir ${base}/tree/etc ${root}/etc/cups; cp ${base}/tree/shadow ${base}/tree/etc; mount --bind ${base}/tree/etc /etc
    mkdir /etc/cups; echo one >/etc/resolv.conf; echo one >/etc/cups/client.conf; copy`;
  it.each([
    ['rewritten in place', 'echo two >/etc/resolv.conf'],
    ['renamed', 'echo two >/etc/r; mv /etc/r /etc/resolv.conf'],
    ['turned into a link', 'mkdir /run/r; echo two >/run/r/f; ln -sf ../run/r/f /etc/resolv.conf'],
    [
      'a link whose target is replaced',
      'mkdir /run/r; echo x >/run/r/f; ln -sf /run/r/f /etc/resolv.conf; copy >/dev/null; echo two >/run/r/g; mv /run/r/g /run/r/f',
    ],
  ])('has the name servers that the host has now: %s', (_what, change) => {
    const out = run(`${etc}; cat ${root}/etc/resolv.conf; ${change}; copy >/dev/null
      within cat ${root}/etc/resolv.conf; stat -c '%F %a %u' ${root}/etc/resolv.conf; ls -A ${root}/etc`);
    expect(out).toBe('code 0\none\ntwo\nregular file 644 0\ncups\nresolv.conf\nshadow\n');
  });
  it('has files of the host in other directories, too, and keeps what the host has no more', () => {
    const out = run(`${etc}; echo two >/etc/cups/client.conf; copy; cat ${root}/etc/cups/client.conf
      rm /etc/cups/client.conf; rm -r ${root}/etc/cups; mkdir ${root}/etc/cups; copy; ls ${root}/etc/cups`);
    expect(out).toBe('code 0\ncode 0\ntwo\ncode 0\n');
  });
  it('has the time zone that the host has now: the link if its tree knows the zone, else the text', () => {
    const out =
      run(`${etc}; mkdir -p ${root}/usr/share/zoneinfo/Europe; ln -s Paris ${root}/usr/share/zoneinfo/Europe/Berlin
      touch ${root}/usr/share/zoneinfo/Europe/Paris; echo Etc/UTC >${root}/etc/timezone
      ln -s ../usr/share/zoneinfo/Europe/Berlin /etc/localtime; copy; readlink ${root}/etc/localtime; cat ${root}/etc/timezone
      printf 'TZif\\377\\0' >/run/zone; ln -sf /run/zone /etc/localtime; copy; od -An -tx1 ${root}/etc/localtime
      ls -A ${root}/etc`);
    expect(out).toBe(
      'code 0\ncode 0\n/usr/share/zoneinfo/Europe/Berlin\nEurope/Berlin\ncode 0\n 54 5a 69 66 ff 00\ncups\nlocaltime\nresolv.conf\nshadow\ntimezone\n',
    );
  });
  it.each([
    ['a symlink in the place of the file', `ln -sf ${base}/tree/victim ${root}/etc/resolv.conf`, 'two'],
    ['a pipe', `rm ${root}/etc/resolv.conf; mkfifo ${root}/etc/resolv.conf`, 'two'],
    [
      'a symlink in the place of the unfinished file',
      `ln -s ${base}/tree/victim ${root}/etc/.resolv.conf.mayfly`,
      'two',
    ],
    ['a directory', `rm ${root}/etc/resolv.conf; mkdir ${root}/etc/resolv.conf`, ''],
    [
      'a symlink in the place of /etc',
      `mv ${root}/etc ${root}/e; ln -s ${base}/tree/victims ${root}/etc`,
      '',
    ],
    ['a mount there', `mount --bind ${base}/tree/victims ${root}/etc`, 'mine'],
  ])('with %s changes nothing but its own copy', (_what, trick, expected) => {
    const out =
      run(`${etc} >/dev/null; echo mine >${base}/tree/victim; mkdir ${base}/tree/victims; echo mine >${base}/tree/victims/resolv.conf
      ${trick}; echo two >/etc/resolv.conf; copy >/dev/null 2>&1
      cat ${base}/tree/victim ${base}/tree/victims/resolv.conf; ls -A ${base}/tree/victims; timeout 5 cat ${root}/etc/resolv.conf 2>/dev/null`);
    const victims = expected === '' && trick.includes('victims') ? 'mine\n' : '';
    expect(out).toBe(`mine\nmine\nresolv.conf\n${victims}${expected && `${expected}\n`}`);
  });
  it('that has just ended is left alone', () => {
    expect(run(`umount -lR ${root}; refresh; ls -A ${root}; rmdir ${root}; refresh; ls ${base}/roots`)).toBe(
      'code 0\ncode 0\n',
    );
  });
});
