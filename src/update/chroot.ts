/**
 * Running commands in the working copy of master. Each runs in a mount and a process namespace of its own
 * (unshare(1)): its mounts are seen by nobody else and go with it, and so does every process it leaves behind, also
 * when we are killed in the middle (PR_SET_PDEATHSIG). It has a /run of its own, so that no package raises a flag
 * of the host's there or finds the host's systemd.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { type Mount, mountCommand } from '../linux/mount-program.ts';
import { isPlainDirectory, planMountOps, requireMountTargets } from '../linux/mounts.ts';
import type { Machine } from '../state/machine.ts';
import { ensureMountRoot } from '../state/mount-root.ts';

export interface ChrootOptions {
  /** The directory that shows the copy. */
  readonly tree: string;
  /** Seconds all commands together may take; no limit where a person is at the terminal. */
  readonly timeout: number;
  /** When that began, milliseconds since the epoch. */
  readonly began: number;
  /** Gets each line that is said. */
  readonly onLine: (line: string) => void;
}

/** What every package manager needs in order not to ask anybody. */
const ENVIRONMENT = [
  'HOME=/root',
  'DEBIAN_FRONTEND=noninteractive',
  'DEBCONF_NONINTERACTIVE_SEEN=true',
  'APT_LISTCHANGES_FRONTEND=none',
  'NEEDRESTART_SUSPEND=1',
];

const TMPFS = 'mode=0755,nosuid,nodev,nr_inodes=200k,size=20%';

/** Where the copy is shown to a command; nobody else sees it there. */
export function workRoot({ paths }: Machine): string {
  return `${paths.roots}/work`;
}

/** /run and /tmp are the command's own; names are resolved as the host does. */
function mountsOf(host: Host, root: string, tree: string): Mount[] {
  const bind = (source: string, target = source): Mount => ({
    source,
    target: root + target,
    type: 'none',
    options: 'bind,slave',
  });
  const own = (target: string, options: string): Mount => ({
    source: 'mayfly',
    target: root + target,
    type: 'tmpfs',
    options,
  });
  const mounts = [
    { source: 'proc', target: `${root}/proc`, type: 'proc', options: 'nosuid,nodev' },
    bind('/sys'),
    bind('/dev'),
    bind('/dev/pts'),
    own('/dev/shm', 'mode=1777,nosuid,nodev'),
    own('/run', TMPFS),
    own('/tmp', 'mode=1777,nosuid,nodev,nr_inodes=200k,size=50%'),
  ];
  const resolver = resolverIn(host, tree);
  if (resolver !== undefined && host.pathType('/etc/resolv.conf') === 'other')
    mounts.push({ ...bind('/etc/resolv.conf', resolver), file: true });
  return mounts;
}

/** Where the copy looks for its resolver's file, when that is a place one can be put. */
function resolverIn(host: Host, tree: string): string | undefined {
  const path = '/etc/resolv.conf';
  const there = host.lstat(tree + path);
  if (there?.kind === 'file') return path;
  if (there?.kind !== 'link') return undefined;
  const target = host.readlink(tree + path) ?? '';
  const absolute = target.startsWith('../') && !target.slice(3).includes('..') ? target.slice(2) : target;
  return /^\/run(\/[\w.-]+)+$/.test(absolute) && !absolute.includes('/.') ? absolute : undefined;
}

/** `chroot`: with the copy as its root; otherwise on the host, the copy and its mounts being at {@link workRoot}. */
function argumentsFor(
  on: Machine,
  o: ChrootOptions,
  argv: readonly string[],
  chroot: boolean,
  merge: boolean,
) {
  const { host } = on;
  const root = workRoot(on);
  const copy: Mount = { source: o.tree, target: root, type: 'none', options: 'bind' };
  const calls = planMountOps(copy, mountsOf(host, root, o.tree));
  requireMountTargets(host, o.tree, calls);
  const words = chroot ? ['env', ...ENVIRONMENT, ...argv] : argv;
  const perl = mountCommand([...calls, { op: 'enter', target: chroot ? root : '', merge, argv: words }]);
  return isolated([perl.file, ...perl.args], OWN_MOUNTS);
}

/** Options of unshare(1): its mounts are seen by nobody else. */
export const OWN_MOUNTS = ['--mount', '--propagation', 'slave'];

/** Arguments of setpriv(1) for a command that dies with us, and everything it has started with it. */
export function isolated(argv: readonly string[], options: readonly string[] = []): string[] {
  return [
    '--pdeathsig',
    'KILL',
    '--',
    'unshare',
    ...options,
    '--pid',
    '--fork',
    '--kill-child',
    '--',
    ...argv,
  ];
}

/** The same for setpriv's own arguments, with an end after some seconds: exit code 124, or 137 if it was deaf. */
export function withTimeout(seconds: number, args: readonly string[]): string[] {
  const timeout = ['timeout', '--kill-after=10', String(Math.ceil(seconds))];
  return ['--pdeathsig', 'KILL', '--', ...timeout, 'setpriv', ...args];
}

async function prepare(on: Machine): Promise<void> {
  await ensureMountRoot(on);
  on.host.mkdir(workRoot(on), 0o755);
}

export interface RunOptions {
  /** Default: the copy is the root. */
  readonly chroot?: boolean;
  /** Default: what it says goes to `onLine`; with this it is returned. */
  readonly read?: boolean;
  readonly okCodes?: readonly number[];
  /** What people are told it was; default: all its words. */
  readonly name?: string;
}

/** Runs a command to its end; throws `command` where it fails and `update` where its time was over. */
export async function runInChroot(
  on: Machine,
  o: ChrootOptions,
  argv: readonly string[],
  { chroot = true, read = false, okCodes: expect = [0], name: called = argv.join(' ') }: RunOptions = {},
): Promise<{ readonly code: number; readonly stdout: string }> {
  await prepare(on);
  const left = o.timeout - (on.host.now() - o.began) / 1000;
  if (left <= 0) throw new MayflyError('update', `the refresh was not done within ${o.timeout} s`);
  const said: string[] = [];
  const out = await on.host.run({
    file: 'setpriv',
    args: withTimeout(left, argumentsFor(on, o, argv, chroot, !read)),
    effect: read ? 'read' : 'write',
    describe: () => [`run ${called} in the working copy`],
    okCodes: [...Array(256).keys()],
    onLine: line => {
      said.push(line);
      if (said.length > 20) said.shift();
      o.onLine(line);
    },
  });
  if (out.code === 124 || out.code === 137) {
    throw new MayflyError('update', `"${called}" was not done within ${o.timeout} s and was killed`);
  }
  if (!expect.includes(out.code)) {
    const words = errorLines([...out.stdout.split('\n'), ...said]).join('; ');
    throw new MayflyError(
      'command',
      `"${called}" failed with exit code ${out.code}${words === '' ? '' : `: ${words}`}`,
    );
  }
  return out;
}

/** apt and dpkg say what is wrong among much else; otherwise the last words count. A line that ends in a colon goes on. */
function errorLines(lines: readonly string[]): string[] {
  const all = lines.map(line => line.trim()).filter(Boolean);
  const wrong = all.flatMap((line, i) => {
    if (!/^(E:|dpkg: error|dpkg: dependency|error|fatal)|unmet dependencies:$/i.test(line)) return [];
    return line.endsWith(':') && all[i + 1] !== undefined ? [`${line} ${all[i + 1]}`] : [line];
  });
  return (wrong.length > 0 ? wrong : all).slice(-4);
}

/** A shell or command in the copy for the person at the terminal; returns its exit code. */
export async function runInteractiveInChroot(
  on: Machine,
  o: ChrootOptions,
  argv: readonly string[],
): Promise<number> {
  await prepare(on);
  const words =
    argv.length > 0 ? argv : ['/bin/sh', '-c', 'command -v bash >/dev/null && exec bash -l; exec sh'];
  const code = await on.host.runInteractive(
    { file: 'setpriv', args: argumentsFor(on, o, words, true, false) },
    false,
  );
  await on.host.runInteractive({ file: 'perl', args: ['-MPOSIX', '-e', TAKE_TERMINAL] }, false);
  return code;
}

/** A shell in a process namespace of its own can not give the terminal back: it does not see whose it was. */
const TAKE_TERMINAL = '$SIG{TTOU} = "IGNORE"; POSIX::tcsetpgrp(0, getpgrp())';

/** Services are not started in the copy: invoke-rc.d(8) asks this script, and 101 is "forbidden by policy". */
const POLICY = '#!/bin/sh\n# Put here by mayfly(8) while it refreshes this tree.\nexit 101\n';

const POLICY_PATH = '/usr/sbin/policy-rc.d';

/** Forbids services in the copy; returns what takes that back. A policy of the administrator's own is left alone. */
export function forbidServices(host: Host, tree: string): () => void {
  const path = tree + POLICY_PATH;
  if (!isPlainDirectory(host, tree, '/usr/sbin')) return () => undefined;
  const there = host.lstat(path);
  if (there && host.read(path) !== POLICY) return () => undefined;
  host.write(path, POLICY, { mode: 0o755 });
  return () => {
    if (host.lstat(path)?.kind === 'file' && host.read(path) === POLICY) host.unlink(path); // else the refresh made its own
  };
}
