/** The built-in checks that every generation must pass in its trial session. */
import { isPerson } from '../config/config.ts';
import { allEntries, parseDesktopEntry } from '../linux/desktop-entry.ts';
import type { Host } from '../linux/host.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import type { Session } from '../state/sessions.ts';
import { masterOf } from '../volume/backend.ts';
import { XSESSION_WORDS } from './greeter.ts';
import { incompletePackages } from './refresh.ts';
import { describeLostBits, lostBits, ownerProblem } from './tree-rights.ts';
import { describeShells, usersWithoutShell } from './user-shells.ts';
import { withMountedVolume } from './volume-tree.ts';

/** Runs a command in the trial session, as root or as `user`. */
export type RunInTrial = (
  argv: readonly string[],
  user?: string,
) => Promise<{ code: number; stdout: string; stderr: string }>;

export interface GenerationCheck {
  readonly name: string;
  /** Returns what is wrong, or undefined if nothing is. */
  problem(run: RunInTrial, s: Session, on: Machine): Promise<string | undefined>;
}

/** The first lines of a command's output, joined by "; ". */
export function firstLines(text: string, count = 4): string {
  return text.trim().split('\n').filter(Boolean).slice(0, count).join('; ');
}

const packagesComplete: GenerationCheck = {
  name: 'packages',
  async problem(run, s, { host }) {
    if (!host.lstat(`${s.root}/var/lib/dpkg/status`)) return undefined; // not a Debian system
    const { code, stdout, stderr } = await run(['dpkg', '--audit']);
    const names = incompletePackages(stdout);
    if (names.length > 0) return `not completely installed: ${names.join(', ')}`;
    const failed = `dpkg --audit: exit code ${code}${stderr === '' ? '' : `: ${firstLines(stderr)}`}`;
    return code === 0 || stdout.trim() !== '' ? undefined : failed;
  },
};

const usersResolve: GenerationCheck = {
  name: 'users',
  async problem(run, s) {
    for (const name of new Set(['root', s.user.name])) {
      const { code, stderr } = await run(['getent', 'passwd', name]);
      if (code !== 0)
        return `the user "${name}" is unknown in the generation${stderr === '' ? '' : `: ${firstLines(stderr)}`}`;
    }
    return undefined;
  },
};

const libraryCache: GenerationCheck = {
  name: 'libraries',
  async problem(run, s, { host }) {
    if (!host.lstat(`${s.root}/etc/ld.so.cache`)) return undefined; // a system without the cache
    const { code, stdout, stderr } = await run(['ldconfig', '-p']);
    const count = Number(/^(\d+) libs found/.exec(stdout)?.[1] ?? '0');
    if (code === 0 && count > 0) return undefined;
    return `"/etc/ld.so.cache" does not work: ${firstLines(stdout + stderr) || 'it is empty'}`;
  },
};

/** A shell script that prints those of its arguments that are not commands. */
const MISSING = 'for p; do command -v -- "$p" >/dev/null 2>&1 || printf "%s\\n" "$p"; done';

/**
 * Programs that the session entries below `root` start, by entry (`xsessions/NAME`). They are named by Exec, see the
 * Desktop Entry Specification.
 */
export function sessionPrograms(host: Host, root: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const { kind, name, text } of allEntries(host, root)) {
    const keys = new Map(parseDesktopEntry(text));
    const program = programOf(keys.get('Exec') ?? '');
    if (/^(true|1)$/.test(keys.get('Hidden') ?? '') || program === '' || XSESSION_WORDS.includes(program))
      continue;
    found.set(`${kind}/${name}`, program);
  }
  return found;
}

/** The program of an Exec value: quoted, or up to a blank; for "env A=b prog" it is "prog". Pure. */
export function programOf(line: string): string {
  const argv = line.match(/"(?:\\.|[^"\\])*"|\S+/g)?.map(w => w.replace(/^"(.*)"$/, '$1')) ?? [];
  const start =
    argv[0] === 'env' || argv[0] === '/usr/bin/env'
      ? argv.findIndex((w, i) => i > 0 && !w.includes('=') && !w.startsWith('-'))
      : 0;
  return argv[start] ?? '';
}

const sessionsStart: GenerationCheck = {
  name: 'session programs',
  async problem(run, s, { host }) {
    const programs = sessionPrograms(host, s.root);
    // On Debian, /etc/X11/Xsession starts every X session, so it must exist if there is an X session entry.
    const x = [...programs.keys()].some(entry => entry.startsWith('xsessions/'));
    const wanted = [...new Set([...programs.values(), ...(x ? ['/etc/X11/Xsession'] : [])])];
    if (wanted.length === 0) return undefined;
    const { stdout } = await run(['sh', '-c', MISSING, 'sh', ...wanted]);
    const missing = stdout.split('\n').filter(Boolean);
    if (missing.length === 0) return undefined;
    const entries = [...programs].filter(([, program]) => missing.includes(program)).map(([entry]) => entry);
    return `missing: ${missing.join(', ')}${entries.length > 0 ? ` (${entries.join(', ')})` : ''}`;
  },
};

/**
 * What `act` finds in master; undefined if there is none, as during `init`. Master is still unchanged, because the candidate
 * was made from a copy of it.
 */
async function inMaster<T>(on: Machine, act: (tree: string) => T): Promise<T | undefined> {
  const pool = readPool(on.host, on.paths);
  if (!pool) return undefined;
  const master = masterOf(pool);
  if ((await on.backend(pool.backend).identity(master)) === undefined) return undefined;
  return withMountedVolume(on, master, async tree => act(tree));
}

/** Those of `shells` that master has: one that it never had must not block updates for ever. */
async function shellsOfMaster(on: Machine, shells: readonly string[]): Promise<readonly string[]> {
  const known = await inMaster(on, tree => shells.filter(shell => on.host.lstat(tree + shell)));
  return known ?? (readPool(on.host, on.paths) ? [] : shells);
}

/** Shells of root and of this machine's users: a login whose shell is missing ends at once. */
const shellsWork: GenerationCheck = {
  name: 'shells',
  async problem(run, _s, on) {
    const { host, config } = on;
    const lines = (host.read('/etc/passwd') ?? '').split('\n').map(line => line.split(':'));
    const users = lines.filter(f => f[2] === '0' || isPerson(config, Number(f[2])));
    const known = (host.read('/etc/shells') ?? '').split('\n');
    const all = [...new Set(users.map(f => f[6] ?? ''))].filter(shell => known.includes(shell));
    const shells = await shellsOfMaster(on, all);
    const { code, stdout, stderr } = await run(['sh', '-c', MISSING, 'sh', '/bin/sh', ...shells]);
    const missing = stdout.split('\n').filter(Boolean);
    if (code !== 0) return `the shell does not run: ${firstLines(stderr)}`;
    return missing.length > 0 ? `missing: ${missing.join(', ')}` : undefined;
  },
};

/** Directories and files without which nothing works for anybody but root. */
const PUBLIC = [
  ...['/', '/etc', '/usr', '/usr/bin', '/usr/lib', '/usr/share', '/var', '/var/lib', '/bin', '/lib', '/opt'],
  ...['/etc/passwd', '/etc/group', '/etc/nsswitch.conf', '/etc/ld.so.cache', '/etc/profile'],
];

/** Prints those of its arguments that exist, and that its user cannot read or enter. */
const CLOSED =
  'for p; do [ ! -e "$p" ] || { [ -r "$p" ] && { [ ! -d "$p" ] || [ -x "$p" ]; }; } || echo "$p"; done';

const publicPaths: GenerationCheck = {
  name: 'permissions',
  async problem(run, s) {
    const { code, stdout, stderr } = await run(['sh', '-c', CLOSED, 'sh', ...PUBLIC], s.user.name);
    if (code !== 0) return `${s.user.name} cannot run a shell: ${firstLines(stderr)}`;
    const closed = stdout.split('\n').filter(Boolean);
    return closed.length > 0 ? `users cannot read ${closed.join(', ')}` : undefined;
  },
};

/**
 * Owners must always be right. Set-id bits that master lacks as well must not block updates for ever: the optional check
 * names them.
 */
const treeRights: GenerationCheck = {
  name: 'rights',
  async problem(_run, s, on) {
    const { host, config } = on;
    const lost = lostBits(host, s.root).filter(l => l.needed);
    const before = lost.length > 0 ? await inMaster(on, tree => lostBits(host, tree)) : [];
    const now = lost.filter(l => !before?.some(b => b.path === l.path));
    return ownerProblem(host, config, s.root) ?? (now.length > 0 ? describeLostBits(now) : undefined);
  },
};

const otherRights: GenerationCheck = {
  name: 'set-id bits',
  async problem(_run, s, { host }) {
    const lost = lostBits(host, s.root);
    return lost.length > 0 ? describeLostBits(lost) : undefined;
  },
};

export const builtIn: readonly GenerationCheck[] = [
  shellsWork,
  packagesComplete,
  usersResolve,
  publicPaths,
  treeRights,
  libraryCache,
  sessionsStart,
];

/**
 * Sandboxes, which need user namespaces, work in a session if they do on the host. Without its namespace, a session is
 * a chroot, and the kernel allows none. unshare(1) is of util-linux, which is essential in Debian.
 */
const sandboxes: GenerationCheck = {
  name: 'sandboxes',
  async problem(run, s, { host }) {
    if (!s.namespace) return undefined;
    const command = ['unshare', '--user', '--map-root-user', 'true'];
    const inside = await run(command, s.user.name);
    if (inside.code === 0) return undefined;
    const ids = ['--reuid', `${s.user.uid}`, '--regid', `${s.user.gid}`, '--clear-groups', '--'];
    const args = [...ids, ...command];
    const onHost = await host.run({ file: 'setpriv', args, effect: 'read', okCodes: [...Array(256).keys()] });
    if (onHost.code !== 0) return undefined; // the machine forbids them; doctor says why
    return `"${command.join(' ')}" as ${s.user.name} works on the host, but not in a session: ${firstLines(inside.stderr)}`;
  },
};

const userShells: GenerationCheck = {
  name: 'shells of users',
  problem: async (_run, s, on) => describeShells(await usersWithoutShell(on, s.root)).join('; ') || undefined,
};

/** Checks whose failure is a warning. */
export const builtInOptional: readonly GenerationCheck[] = [sandboxes, userShells, otherRights];

/** Runs `check.command` as `check.user`. This check is the last. */
export const trial: GenerationCheck = {
  name: 'trial login',
  async problem(run, s, { config }) {
    const { code, stderr, stdout } = await run(config.check.command, s.user.name);
    const output = firstLines(stderr) || firstLines(stdout);
    return code === 0
      ? undefined
      : `"${config.check.command.join(' ')}" as ${s.user.name} failed with exit code ${code}${output ? `: ${output}` : ''}`;
  },
};
