/**
 * Runs commands in the working copy of master. Each command has its own mount and process namespace (unshare(1)): its
 * mounts are private and end with it, and so does every process that it leaves behind, also if this process is killed
 * (PR_SET_PDEATHSIG). It has its own /run, so that no package sets a flag file of the host there or finds the host's
 * systemd, and cannot change the machine through /proc, /sys or /dev.
 */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { type Mount, mountCommand } from '../linux/mount-program.ts';
import { isPlainDirectory, requireMountTargets } from '../linux/mounts.ts';
import type { Machine } from '../state/machine.ts';
import { ensureMountRoot } from '../state/mount-root.ts';
import { chrootMountOps } from './chroot-mounts.ts';

export interface ChrootOptions {
  /** The directory with the tree of the copy. */
  readonly tree: string;
  /** Seconds that all commands together may take; it does not apply to interactive commands. */
  readonly timeout: number;
  /** When that time began, on the monotonic clock. */
  readonly began: number;
  /** Gets each line of the commands' output. */
  readonly onLine: (line: string) => void;
  /** Gets what the administrator should know although the update goes on. */
  readonly warn: (line: string) => void;
}

/** Keeps package managers from asking questions, and systemd-tmpfiles(8) from creating subvolumes. */
const ENVIRONMENT = [
  'HOME=/root',
  'DEBIAN_FRONTEND=noninteractive',
  'DEBCONF_NONINTERACTIVE_SEEN=true',
  'APT_LISTCHANGES_FRONTEND=none',
  'APT_LISTBUGS_FRONTEND=none', // it asks a server, and then a person
  'NEEDRESTART_SUSPEND=1',
  'SYSTEMD_TMPFILES_FORCE_SUBVOL=0',
];

/**
 * systemd-detect-virt(1) reads this in the environment of the namespace's first process. Maintainer scripts ask it before
 * they write to the machine: that of grub-pc, in a copy of a host, would write the host's boot sector.
 */
const CONTAINER = ['env', 'container=mayfly'];

/**
 * Without a terminal: a hook that asks on /dev/tty would be stopped, and wait until the time is over. timeout(1) comes
 * after setsid(1), because it sends SIGTERM to its own process group: unshare(1) ignores it, and the command must get it.
 */
const OWN_SESSION = ['--pdeathsig', 'KILL', '--', 'setsid', '--wait', 'setpriv'];

/** Where a command sees the copy; the mount is private to the command. */
export function workRoot({ paths }: Machine): string {
  return `${paths.roots}/work`;
}

/**
 * With `chroot`, the copy is the command's root; otherwise the command runs on the host and sees the copy at {@link
 * workRoot}.
 */
function argumentsFor(
  on: Machine,
  o: ChrootOptions,
  argv: readonly string[],
  { chroot, merge, terminal = false }: { chroot: boolean; merge: boolean; terminal?: boolean },
) {
  const { host } = on;
  const root = workRoot(on);
  const copy: Mount = { source: o.tree, target: root, type: 'none', options: 'bind,nodev' };
  const mountOps = chrootMountOps(host, copy, terminal);
  requireMountTargets(host, o.tree, mountOps);
  const command = chroot ? ['env', ...ENVIRONMENT, ...argv] : argv;
  const perl = mountCommand([...mountOps, { op: 'enter', target: chroot ? root : '', merge, argv: command }]);
  return isolated([...(chroot ? CONTAINER : []), perl.file, ...perl.args], OWN_MOUNTS);
}

/** Options of unshare(1) for private mounts. */
export const OWN_MOUNTS = ['--mount', '--propagation', 'slave'];

/** Arguments of setpriv(1) for a command that dies with this process, together with everything it has started. */
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

/**
 * Adds a timeout to the arguments `args` of setpriv(1). After the timeout the exit code is 124, or 137 if the command
 * had to be killed.
 */
export function withTimeout(seconds: number, args: readonly string[]): string[] {
  const timeout = ['timeout', '--kill-after=10', String(Math.ceil(seconds))];
  return ['--pdeathsig', 'KILL', '--', ...timeout, 'setpriv', ...args];
}

async function prepare(on: Machine): Promise<void> {
  await ensureMountRoot(on);
  on.host.mkdir(workRoot(on), 0o755);
}

export interface RunOptions {
  /** Whether the copy is the command's root; default true. */
  readonly chroot?: boolean;
  /** Returns standard output instead of passing it to `onLine`. */
  readonly read?: boolean;
  readonly okCodes?: readonly number[];
  /** The command's name in messages; default: the whole command line. */
  readonly name?: string;
}

/** Runs a command. Throws `command` if it fails, and `update` if the time is over; it is then killed. */
export async function runInChroot(
  on: Machine,
  o: ChrootOptions,
  argv: readonly string[],
  { chroot = true, read = false, okCodes = [0], name = argv.join(' ') }: RunOptions = {},
): Promise<{ readonly code: number; readonly stdout: string }> {
  await prepare(on);
  const left = o.timeout - (on.host.monotonic() - o.began) / 1000;
  if (left <= 0) throw new MayflyError('update', `the refresh did not finish within ${o.timeout} s`);
  const lastLines: string[] = [];
  const out = await on.host.run({
    file: 'setpriv',
    args: [...OWN_SESSION, ...withTimeout(left, argumentsFor(on, o, argv, { chroot, merge: !read }))],
    effect: read ? 'read' : 'write',
    describe: () => [`run ${name} in the working copy`],
    okCodes: [...Array(256).keys()],
    onLine: line => {
      lastLines.push(line);
      if (lastLines.length > 100) lastLines.shift();
      o.onLine(line);
    },
  });
  // timeout(1) sends SIGKILL to its own process group, too.
  const isKilled = out.code === 137 || out.code === 255;
  if (out.code === 124 || (isKilled && on.host.monotonic() - o.began >= o.timeout * 1000)) {
    throw new MayflyError('update', `"${name}" did not finish within ${o.timeout} s and was killed`);
  }
  if (!okCodes.includes(out.code)) {
    const reason = errorLines([...out.stdout.split('\n'), ...lastLines]).join('; ');
    throw new MayflyError(
      'command',
      `"${name}" failed with exit code ${out.code}${reason === '' ? '' : `: ${reason}`}`,
      { exitCode: out.code, stderr: lastLines.join('\n') },
    );
  }
  return out;
}

/**
 * Up to four lines that name the error: those that apt and dpkg mark as errors, each with the next line if it ends in
 * a colon; otherwise the last lines.
 */
export function errorLines(lines: readonly string[]): string[] {
  const all = lines.map(line => line.trim()).filter(Boolean);
  const marked = all.flatMap((line, i) => {
    if (
      !/^(E:|dpkg(-[a-z]+)?: (error|dependency|unrecoverable)|error|fatal)|unmet dependencies:$/i.test(line)
    )
      return [];
    return line.endsWith(':') && all[i + 1] !== undefined ? [`${line} ${all[i + 1]}`] : [line];
  });
  return (marked.length > 0 ? marked : all).slice(-4);
}

/** Runs a command, by default a shell, in the copy on the user's terminal. Returns its exit code. */
export async function runInteractiveInChroot(
  on: Machine,
  o: ChrootOptions,
  argv: readonly string[],
): Promise<number> {
  await prepare(on);
  const command =
    argv.length > 0 ? argv : ['/bin/sh', '-c', 'command -v bash >/dev/null && exec bash -l; exec sh'];
  const code = await on.host.runInteractive(
    { file: 'setpriv', args: argumentsFor(on, o, command, { chroot: true, merge: false, terminal: true }) },
    false,
  );
  await on.host.runInteractive({ file: 'perl', args: ['-MPOSIX', '-e', TAKE_TERMINAL] }, false);
  return code;
}

/** Takes the terminal back: a shell in its own process namespace cannot see the process group to return it to. */
const TAKE_TERMINAL = '$SIG{TTOU} = "IGNORE"; POSIX::tcsetpgrp(0, getpgrp())';

/** Keeps services from starting in the copy: invoke-rc.d(8) runs this script, and 101 means "forbidden by policy". */
const POLICY = '#!/bin/sh\n# Put here by mayfly(8) while it refreshes this tree.\nexit 101\n';

const POLICY_PATH = '/usr/sbin/policy-rc.d';

/**
 * Forbids services in the copy; returns a function that allows them again. A policy of the administrator is left
 * alone.
 */
export function forbidServices(host: Host, tree: string): () => void {
  const path = tree + POLICY_PATH;
  if (!isPlainDirectory(host, tree, '/usr/sbin')) return () => undefined;
  const there = host.lstat(path);
  if (there && host.read(path) !== POLICY) return () => undefined;
  host.write(path, POLICY, { mode: 0o755 });
  return () => {
    // Another text is a policy that the refresh installed.
    if (host.lstat(path)?.kind === 'file' && host.read(path) === POLICY) host.unlink(path);
  };
}
