/** The mount program, run for real in a mount namespace of its own. */
import { spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it } from 'vitest';
import { type Mount, makeMountOps, mountCommand } from '../../src/linux/mount-program.ts';
import { planMountOps } from '../../src/linux/mounts.ts';

const UNSHARE = ['--mount', '--propagation', 'private', ...(process.getuid?.() === 0 ? [] : ['-r'])];
const canUnshare = spawnSync('unshare', [...UNSHARE, 'true']).status === 0;

describe.skipIf(!canUnshare)('mounts in the tree of a session', () => {
  const base = mkdtempSync(`${tmpdir()}/mayfly-mount-program-`);
  afterAll(() => rmSync(base, { recursive: true }));
  const [tree, host, root] = [`${base}/tree`, `${base}/host`, `${base}/root`];
  for (const path of ['home', 'srv', 'usr/deep', 'shared']) mkdirSync(`${tree}/${path}`, { recursive: true });
  for (const path of ['home/alice', 'usr', 'shared/real']) mkdirSync(`${host}/${path}`, { recursive: true });
  mkdirSync(root);
  writeFileSync(`${host}/socket`, '');
  symlinkSync(`${host}/usr`, `${tree}/out`);
  symlinkSync('usr', `${tree}/within`);
  symlinkSync(`${host}/usr`, `${host}/shared/out`);
  symlinkSync('real', `${host}/shared/within`);

  const bind = (source: string, target: string): Mount => ({
    ...{ source: `${host}/${source}`, target: `${root}/${target}` },
    ...{ type: 'none', options: 'bind,slave' },
  });
  const top: Mount = { source: tree, target: root, type: 'none', options: 'bind' };

  /** Makes the mounts; returns the exit code, the message, and the mount points from /proc/self/mountinfo. */
  function run(...mounts: readonly Mount[]): { code: number | null; message: string; points: string[] } {
    const { file, args } = mountCommand(planMountOps(top, mounts));
    // The shell is in the same namespace, so it sees what was mounted although the program has failed.
    const script = '"$@"; code=$?; cat /proc/self/mountinfo; exit $code';
    const out = spawnSync('unshare', [...UNSHARE, 'sh', '-c', script, 'sh', file, ...args], {
      encoding: 'utf8',
    });
    const points = out.stdout.split('\n').map(line => line.split(' ')[4] ?? '');
    const ours = points.filter(point => point.startsWith(base)).map(point => point.slice(base.length));
    return { code: out.status, message: out.stderr, points: ours };
  }

  it('are made where they belong: directories, files, and below other mounts', () => {
    const shared = bind('shared', 'shared');
    const all = [
      bind('home', 'home'),
      shared,
      bind('usr', 'shared/real'),
      { ...bind('socket', 'run/socket'), file: true },
      bind('usr', 'new/place'),
    ];
    const points = ['/root', '/root/home', '/root/shared', '/root/shared/real', '/root/run/socket'];
    expect(run(...all)).toEqual({ code: 0, message: '', points: [...points, '/root/new/place'] });
  });

  it.each([
    ['".." that leads to the host', bind('usr', '../host/usr')],
    ['".." after a directory', bind('usr', 'srv/../../host/usr')],
    ['a symlink to the host', bind('usr', 'out')],
    ['a symlink within the tree', bind('usr', 'within')],
    ['a symlink on the way', bind('usr', 'within/deep')],
  ])('through %s are refused, and the host keeps its directories', (_what, mount) => {
    const { code, points } = run(mount);
    expect([code, points]).toEqual([32, ['/root']]);
  });

  it('of a home directory replace a symlink on the way by a directory', () => {
    symlinkSync('usr', `${tree}/old`);
    const mount = { ...bind('usr', 'old/deep'), plain: true };
    expect(run(mount)).toEqual({ code: 0, message: '', points: ['/root', '/root/old/deep'] });
    expect(lstatSync(`${tree}/old`).isDirectory()).toBe(true);
    symlinkSync('usr', `${tree}/opt`);
    expect(run({ ...bind('usr', 'opt'), plain: true }).code).toBe(32);
    expect(lstatSync(`${tree}/opt`).isSymbolicLink()).toBe(true);
  });

  it('of a plain source follow no symlink to it, whoever has put it there meanwhile', () => {
    const plain = (source: string): Mount => ({ ...bind(source, 'home'), plain: true });
    expect(run(plain('shared/real'))).toEqual({ code: 0, message: '', points: ['/root', '/root/home'] });
    for (const source of ['shared/out', 'shared/within']) {
      const { code, message, points } = run(plain(source));
      expect([code, points]).toEqual([32, ['/root']]);
      expect(message).toMatch(/^cannot open .* without following a symlink: Too many levels/);
    }
    expect(run(bind('shared/within', 'home')).code).toBe(0); // the administrator's own
  });

  it('are read-only with "ro", and keep nothing else from the host than what is read', () => {
    const { file, args } = mountCommand(
      planMountOps(top, [{ ...bind('shared', 'srv'), options: 'bind,slave,ro' }]),
    );
    const script = '"$@" && touch "$0/root/srv/new" "$0/root/home/new"';
    const out = spawnSync('unshare', [...UNSHARE, 'sh', '-c', script, base, file, ...args], {
      encoding: 'utf8',
    });
    expect(out.stderr).toMatch(/^touch: .*srv\/new.*: Read-only file system\n$/);
    rmSync(`${tree}/home/new`);
  });

  it.each(['out', 'within'])('through the symlink "%s" of a directory of the host are refused', name => {
    const { code, message, points } = run(bind('shared', 'shared'), bind('usr', `shared/${name}`));
    expect([code, points]).toEqual([32, ['/root', '/root/shared']]);
    expect(message).toMatch(
      /^cannot open .*\/root\/shared\/\w+ in .*\/root: Too many levels of symbolic links/,
    );
  });
});

describe('mount options become the arguments of mount(2)', () => {
  it.each([
    ['bind,slave', 'none', [4096, ''], 1 << 19],
    ['rbind,rslave', 'none', [4096 | 16384, ''], (1 << 19) | 16384],
    ['mode=0755,nosuid,nodev,size=20%', 'tmpfs', [2 | 4, 'mode=0755,size=20%'], 1 << 18],
    [
      'lowerdir=/a,upperdir=/b,workdir=/c,volatile',
      'overlay',
      [0, 'lowerdir=/a,upperdir=/b,workdir=/c,volatile'],
      1 << 18,
    ],
  ] as const)('%s on %s', (options, type, [flags, data], propagation) => {
    const mount = { op: 'mount', source: '/s', target: '/t', type, flags, data, propagation };
    const callFor = makeMountOps();
    for (let n = 0; n < 2; n++) expect(callFor({ source: '/s', target: '/t', type, options })).toEqual(mount);
  });
});

describe('a mount point, seen by the child process that mounts', () => {
  const base = mkdtempSync(`${tmpdir()}/mayfly-places-`);
  mkdirSync(`${base}/directory`);
  writeFileSync(`${base}/file`, '');
  symlinkSync('directory', `${base}/link`);
  symlinkSync('nowhere', `${base}/dangling`);
  afterAll(() => rmSync(base, { recursive: true }));
  it.each([
    ['dir', 'directory', 0],
    ['dir', 'new', 0],
    ['dir', 'new/below', 0],
    ['dir', 'link', 32],
    ['dir', 'dangling', 32],
    ['dir', 'file', 32],
    ['file', 'file', 0],
    ['file', 'fresh', 0],
    ['file', 'link', 32],
    ['file', 'directory', 32],
  ] as const)('a %s at %j gives the exit code %i', (op, name, code) => {
    const { file, args } = mountCommand([{ op, target: `${base}/${name}` }]);
    expect(spawnSync(file, args, { stdio: 'ignore' }).status).toBe(code);
    if (code === 0) expect(lstatSync(`${base}/${name}`).isDirectory()).toBe(op === 'dir');
  });
});

describe('what a boot would create is created', () => {
  const base = mkdtempSync(`${tmpdir()}/mayfly-entries-`);
  afterAll(() => rmSync(base, { recursive: true }));
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  it.each([
    ['d', 0o1777, ''],
    ['d', 0o2755, ''],
    ['f', 0o640, 'text\nand more'],
    ['f', 0o664, ''],
    ['l', 0o777, '/dev/shm'],
  ] as const)('as %s with the mode %o, whatever umask the caller has', (type, mode, data) => {
    const target = `${base}/${type}${mode}`;
    const { file, args } = mountCommand([{ op: 'make', target, entry: { type, mode, ...own, data } }]);
    expect(spawnSync('sh', ['-c', 'umask 077; exec "$@"', 'sh', file, ...args]).status).toBe(0);
    const there = lstatSync(target);
    expect(there.mode & 0o7777).toBe(mode);
    if (type === 'f') expect(readFileSync(target, 'utf8')).toBe(data);
    if (type === 'l') expect(readlinkSync(target)).toBe(data);
  });
  it('and so are directories for mounts', () => {
    const { file, args } = mountCommand([{ op: 'dir', target: `${base}/place` }]);
    expect(spawnSync('sh', ['-c', 'umask 077; exec "$@"', 'sh', file, ...args]).status).toBe(0);
    expect(lstatSync(`${base}/place`).mode & 0o777).toBe(0o755);
  });
});
