/**
 * The proof that a generation works, before anybody gets it: a trial login of a real session, made, entered and
 * taken down by the same steps as everybody's, with the built-in checks and the administrator's `checks.d` run in it.
 * Nothing here writes to the generation itself: what a check does happens in the trial session.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import * as cgroup from '../linux/cgroup.ts';
import { allEntries, parseDesktopEntry } from '../linux/desktop-entry.ts';
import type { Host } from '../linux/host.ts';
import { identify } from '../linux/process-id.ts';
import { scriptsIn } from '../linux/run-parts.ts';
import { entryPath } from '../session/schroot.ts';
import { end, startRunSession } from '../session/session.ts';
import type { Generation } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import type { Login, Session } from '../state/sessions.ts';
import { masterOf } from '../volume/backend.ts';
import { isolated, OWN_MOUNTS, withTimeout } from './chroot.ts';
import { withMountedVolume } from './volume-tree.ts';

export interface Proof {
  /** Optional checks that failed. */
  readonly warnings: readonly string[];
}

type Progress = (line: string, detail?: boolean) => void;

/** Runs in the trial session as root, or as `user`. */
type RunInTrial = (
  argv: readonly string[],
  user?: string,
) => Promise<{ code: number; stdout: string; said: string }>;

interface GenerationCheck {
  readonly name: string;
  /** Undefined where all is well. */
  problem(ask: RunInTrial, s: Session, on: Machine): Promise<string | undefined>;
}

/** The first lines of what a command printed. */
function firstLines(text: string, count = 4): string {
  return text.trim().split('\n').filter(Boolean).slice(0, count).join('; ');
}

const packagesWhole: GenerationCheck = {
  name: 'packages',
  async problem(ask, s, { host }) {
    if (!host.lstat(`${s.root}/var/lib/dpkg/status`)) return undefined; // not a Debian
    const { code, stdout, said } = await ask(['dpkg', '--audit']);
    if (code === 0 && stdout.trim() === '') return undefined;
    const names = stdout.match(/^ \S+/gm)?.map(line => line.trim()) ?? [];
    return names.length > 0 ? `not whole: ${names.join(', ')}` : `dpkg --audit: ${firstLines(stdout + said)}`;
  },
};

const usersResolve: GenerationCheck = {
  name: 'users',
  async problem(ask, s) {
    for (const name of new Set(['root', s.user.name])) {
      const { code, said } = await ask(['getent', 'passwd', name]);
      if (code !== 0)
        return `the user "${name}" does not resolve inside ${said === '' ? '' : `: ${firstLines(said)}`}`.trim();
    }
    return undefined;
  },
};

const libraryCache: GenerationCheck = {
  name: 'libraries',
  async problem(ask, s, { host }) {
    if (!host.lstat(`${s.root}/etc/ld.so.cache`)) return undefined; // never had one
    const { code, stdout, said } = await ask(['ldconfig', '-p']);
    const count = Number(/^(\d+) libs found/.exec(stdout)?.[1] ?? '0');
    if (code === 0 && count > 0) return undefined;
    return `"/etc/ld.so.cache" does not work: ${firstLines(stdout + said) || 'there is nothing in it'}`;
  },
};

/** Prints those of its arguments that are no program inside. */
const MISSING = 'for p; do command -v -- "$p" >/dev/null 2>&1 || printf "%s\\n" "$p"; done';

/** In place of a program: what Xsession makes of them is no program (Xsession(5)); lightdm brings an entry of the first. */
const XSESSION_WORDS = new Set(['default', 'failsafe']);

/** The programs session entries start (Exec in the Desktop Entry Specification), by entry: `xsessions/NAME`. */
export function sessionPrograms(host: Host, root: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const { kind, name, text } of allEntries(host, root)) {
    const keys = new Map(parseDesktopEntry(text));
    const program = firstWord(keys.get('Exec') ?? '');
    if (/^(true|1)$/.test(keys.get('Hidden') ?? '') || program === '' || XSESSION_WORDS.has(program))
      continue;
    found.set(`${kind}/${name}`, program);
  }
  return found;
}

/** The program of an Exec line: quoted, or up to a blank; "env A=b prog" is prog. */
export function firstWord(line: string): string {
  const words = line.match(/"(?:\\.|[^"\\])*"|\S+/g)?.map(w => w.replace(/^"(.*)"$/, '$1')) ?? [];
  const start =
    words[0] === 'env' || words[0] === '/usr/bin/env'
      ? words.findIndex((w, i) => i > 0 && !w.includes('=') && !w.startsWith('-'))
      : 0;
  return words[start] ?? '';
}

const sessionsStart: GenerationCheck = {
  name: 'session programs',
  async problem(ask, s, { host }) {
    const programs = sessionPrograms(host, s.root);
    // Every X session of Debian is started by this one, so where there are entries it must be there.
    const x = [...programs.keys()].some(entry => entry.startsWith('xsessions/'));
    const wanted = [...new Set([...programs.values(), ...(x ? ['/etc/X11/Xsession'] : [])])];
    if (wanted.length === 0) return undefined;
    const { stdout } = await ask(['sh', '-c', MISSING, 'sh', ...wanted]);
    const missing = stdout.split('\n').filter(Boolean);
    if (missing.length === 0) return undefined;
    const entries = [...programs].filter(([, program]) => missing.includes(program)).map(([entry]) => entry);
    return `missing: ${missing.join(', ')}${entries.length > 0 ? ` (${entries.join(', ')})` : ''}`;
  },
};

/** Shells of root and of the people of this machine: a login without its shell ends at once. */
const shellsWork: GenerationCheck = {
  name: 'shells',
  async problem(ask, _s, on) {
    const { host, config } = on;
    const lines = (host.read('/etc/passwd') ?? '').split('\n').map(line => line.split(':'));
    const people = lines.filter(f => f[2] === '0' || (Number(f[2]) >= config.min_uid && f[2] !== '65534'));
    const known = (host.read('/etc/shells') ?? '').split('\n');
    const all = [...new Set(people.map(f => f[6] ?? ''))].filter(shell => known.includes(shell));
    // One that never was there is no reason to stay without updates for ever.
    const pool = readPool(host, on.paths);
    const shells = pool
      ? // Master as it still is: the candidate was made of a copy of it.
        await withMountedVolume(on, masterOf(pool), async tree =>
          all.filter(shell => host.lstat(tree + shell)),
        )
      : all;
    const { code, stdout, said } = await ask(['sh', '-c', MISSING, 'sh', '/bin/sh', ...shells]);
    const missing = stdout.split('\n').filter(Boolean);
    if (code !== 0) return `the shell does not run: ${firstLines(said)}`;
    return missing.length > 0 ? `missing: ${missing.join(', ')}` : undefined;
  },
};

const builtIn: readonly GenerationCheck[] = [
  shellsWork,
  packagesWhole,
  usersResolve,
  libraryCache,
  sessionsStart,
];

/** What the configured user's session runs; the last check, as it is the one people know. */
const trial: GenerationCheck = {
  name: 'trial login',
  async problem(ask, s, { config }) {
    const { code, said, stdout } = await ask(config.check.command, s.user.name);
    const words = firstLines(said) || firstLines(stdout);
    return code === 0
      ? undefined
      : `"${config.check.command.join(' ')}" as ${s.user.name} failed with exit code ${code}${words ? `: ${words}` : ''}`;
  },
};

/** One of the administrator's scripts: gets the root of the trial session, its id and the generation's number. */
function scriptCheck(
  path: string,
  ran: (argv: readonly string[]) => ReturnType<RunInTrial>,
): GenerationCheck {
  return {
    name: path.slice(path.lastIndexOf('/') + 1),
    async problem(_ask, s) {
      const { code, said, stdout } = await ran([path, s.root, s.id, String(s.generation)]);
      const words = firstLines(said) || firstLines(stdout);
      return code === 0 ? undefined : `"${path}" failed with exit code ${code}${words ? `: ${words}` : ''}`;
    },
  };
}

/**
 * Proves a sealed generation. Rejects with `update` and the reason where a required check fails, or where the trial
 * session leaves anything behind.
 */
export async function checkGeneration(on: Machine, g: Generation, say: Progress): Promise<Proof> {
  const { host, config } = on;
  const caller = identify(host, host.pid);
  if (!caller) throw new MayflyError('internal', 'this process does not find itself in /proc');
  const login: Login = { adapter: 'run', caller, since: host.now() };
  let s: Session;
  try {
    s = await startRunSession(on, config.check.user, login, g);
  } catch (error) {
    throw new MayflyError(
      'update',
      `the trial login failed: ${reasonOf(error)}`,
      { generation: g.number },
      { cause: error },
    );
  }
  const until = host.now() + config.check.timeout * 1000;
  const warnings: string[] = [];
  try {
    const { required, optional } = checksFor(on, until);
    for (const check of required) {
      say(`checking ${check.name}`, true);
      const problem = await check.problem(asker(on, s, until), s, on);
      if (problem !== undefined)
        throw new MayflyError('update', `${check.name}: ${problem}`, { generation: g.number });
    }
    for (const check of optional) {
      const problem = await check.problem(asker(on, s, until), s, on);
      if (problem === undefined) continue;
      warnings.push(`${problem} (optional)`);
    }
  } finally {
    await end(on, s.id);
  }
  const left = await findRemains(on, s);
  if (left.length > 0) {
    throw new MayflyError('update', `the trial login left behind: ${left.join(', ')}`, {
      generation: g.number,
    });
  }
  return { warnings };
}

function checksFor(on: Machine, until: number): { required: GenerationCheck[]; optional: GenerationCheck[] } {
  const directory = `${on.config.directory}/checks.d`;
  const onHost = (argv: readonly string[]) => runCheck(on, argv, until, [...OWN_MOUNTS, '--mount-proc']);
  return {
    required: [...builtIn, ...scriptsIn(on.host, directory).map(p => scriptCheck(p, onHost)), trial],
    optional: scriptsIn(on.host, `${directory}/optional`).map(p => scriptCheck(p, onHost)),
  };
}

function asker(on: Machine, s: Session, until: number): RunInTrial {
  return (argv, user = 'root') =>
    runCheck(on, ['schroot', '-c', s.id, '-u', user, '-d', '/', '--', ...argv], until);
}

/** All checks share one time. What a check leaves running goes with it: it would keep us waiting for its last words. */
async function runCheck(
  on: Machine,
  argv: readonly string[],
  until: number,
  options: readonly string[] = [],
) {
  const left = (until - on.host.now()) / 1000;
  const late = new MayflyError(
    'update',
    `the checks were not done within ${on.config.check.timeout} s: "${argv.join(' ')}"`,
  );
  if (left <= 0) throw late;
  const out = await on.host.run({
    file: 'setpriv',
    args: withTimeout(left, isolated(argv, options)),
    effect: 'read',
    okCodes: [...Array(256).keys()],
  });
  if (out.code === 124 || out.code === 137) throw late;
  return { code: out.code, stdout: out.stdout, said: out.stderr };
}

/** What is still there of a session that has ended, in words. */
async function findRemains(on: Machine, s: Session): Promise<string[]> {
  const { host, paths } = on;
  const root = cgroup.hierarchy(host);
  const volumes = await on.backend(s.volume.backend).list(s.volume.pool);
  return [
    host.lstat(`${paths.sessions}/${s.id}.json`) && 'its record',
    host.lstat(s.root) && 'its mount point',
    host.lstat(entryPath(paths.schroot, s.id)) && 'its schroot entry',
    root !== undefined && host.lstat(cgroup.groupPath(root, paths.cgroup, s.id)) && 'its control group',
    volumes.volumes.some(v => v.role === 'session' && v.name === s.id) && 'its volume',
    volumes.leftovers.some(name => name.endsWith(s.id)) && 'a part of its volume',
  ].filter(word => typeof word === 'string');
}
