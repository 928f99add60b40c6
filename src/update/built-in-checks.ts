/** The checks that every generation has to pass in its trial session. */
import { isPerson } from '../config/config.ts';
import { allEntries, parseDesktopEntry } from '../linux/desktop-entry.ts';
import type { Host } from '../linux/host.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import type { Session } from '../state/sessions.ts';
import { masterOf } from '../volume/backend.ts';
import { withMountedVolume } from './volume-tree.ts';

/** Runs in the trial session as root, or as `user`. */
export type RunInTrial = (
  argv: readonly string[],
  user?: string,
) => Promise<{ code: number; stdout: string; said: string }>;

export interface GenerationCheck {
  readonly name: string;
  /** Undefined where all is well. */
  problem(ask: RunInTrial, s: Session, on: Machine): Promise<string | undefined>;
}

/** The first lines of what a command printed. */
export function firstLines(text: string, count = 4): string {
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
    const people = lines.filter(f => f[2] === '0' || isPerson(config, Number(f[2])));
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

export const builtIn: readonly GenerationCheck[] = [
  shellsWork,
  packagesWhole,
  usersResolve,
  libraryCache,
  sessionsStart,
];

/** What the configured user's session runs; the last check, as it is the one people know. */
export const trial: GenerationCheck = {
  name: 'trial login',
  async problem(ask, s, { config }) {
    const { code, said, stdout } = await ask(config.check.command, s.user.name);
    const words = firstLines(said) || firstLines(stdout);
    return code === 0
      ? undefined
      : `"${config.check.command.join(' ')}" as ${s.user.name} failed with exit code ${code}${words ? `: ${words}` : ''}`;
  },
};
