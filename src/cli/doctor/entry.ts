/** Whether people can enter the sessions that they have: what schroot and PAM's rules for it say. */
import type { Output } from '../../linux/command.ts';
import type { Host } from '../../linux/host.ts';
import { bootId } from '../../linux/process-id.ts';
import { entryPath } from '../../session/schroot.ts';
import type { Paths } from '../../state/paths.ts';
import { readSession, readSessions, type Session } from '../../state/sessions.ts';
import { isolated, withTimeout } from '../../update/chroot.ts';
import { entryCommand, entryHint, entryProblem } from '../../update/entry-check.ts';
import { type CheckResult, check, found, notApplicable, problem, type Subject } from './check.ts';

const GROUP = 'schroot';

const MAIN_FILE = '/etc/schroot/schroot.conf';

/** What schroot says of its configuration. */
export interface SchrootFiles {
  readonly output: Output;
  /** The other file that defines the chroot which schroot has found twice. */
  readonly other: string | undefined;
}

/** The name that schroot has found twice. It names the file that it has read last, which may be that of a session. */
const twice = (text: string): string | undefined => /alias .chroot:(\S+?). already exists/.exec(text)?.[1];

export function judgeSchrootFiles({ output, other }: SchrootFiles): CheckResult {
  if (output.code === 0) return found([], 'schroot can read all its files');
  if (output.code === 126 || output.code === 127) return notApplicable('schroot cannot be run, see "tools"');
  const said = output.stderr
    .split('\n')
    .find(line => line.startsWith('E: '))
    ?.slice(3);
  const what = `nobody can enter a session: ${said ?? `schroot ended with exit code ${output.code}`}`;
  const path = other ?? /^(\/.+?): /.exec(said ?? '')?.[1];
  if (path === undefined) return found([problem(what, 'schroot --list')], '');
  const named = other === undefined ? what : `${what}; "${other}" has the same name`;
  const line = /: line (\d+)/.exec(said ?? '')?.[1];
  return found([problem(named, fixOf(path, said ?? '', line))], '');
}

/** A wrong file beside those of the sessions is moved away: until it is right, nobody can log in. */
function fixOf(path: string, said: string, line: string | undefined): string {
  if (said.includes('not owned by')) return `chown root:root ${path}`;
  if (said.includes('write permission')) return `chmod go-w ${path}`;
  return path === MAIN_FILE
    ? `sensible-editor ${line === undefined ? '' : `+${line} `}${path}`
    : `mv -n ${path} /root/`;
}

/** The file besides that of the session `id` in which schroot finds a chroot or an alias with that name. */
function definerOf(
  { host, paths }: { host: Host; paths: Paths },
  id: string,
  file: string,
): string | undefined {
  const names = host.list(paths.schroot).map(name => `${paths.schroot}/${name}`);
  return [MAIN_FILE, ...names].find(path => {
    if (path === file || host.stat(path)?.kind !== 'file') return false;
    const lines = (host.read(path) ?? '').split('\n');
    return lines.some(
      line =>
        line.trim() === `[${id}]` || (/^\s*aliases\s*=/.test(line) && line.split(/[=,\s]+/).includes(id)),
    );
  });
}

async function gatherSchrootFiles(on: Subject): Promise<SchrootFiles> {
  const args = ['--kill-after=2', '20', 'schroot', '--list'];
  const output = await on.host.run({
    file: 'timeout',
    args,
    effect: 'read',
    okCodes: [...Array(256).keys()],
  });
  const name = twice(output.stderr);
  const file = /^E: (\/.+?): /m.exec(output.stderr)?.[1] ?? '';
  return { output, other: name === undefined ? undefined : definerOf(on, name, file) };
}

/** Somebody who cannot enter their own session. */
export interface ShutOut {
  readonly id: string;
  readonly name: string;
  readonly why: string;
}

export function judgeShutOut(all: readonly ShutOut[], tried: number): CheckResult {
  if (all.some(s => s.why.startsWith('/'))) return notApplicable('nobody can, see "configuration"');
  const findings = [...new Set(all.map(s => s.why))].map(why => {
    const [first, ...more] = all.filter(s => s.why === why);
    const who = `"${first?.name}"${more.length > 0 ? ` and ${more.length} more` : ''}`;
    return problem(`${who} cannot enter session ${first?.id}: ${why}`, entryHint(why, first?.name ?? ''));
  });
  return found(
    findings,
    tried === 0 ? 'nobody has a session' : `${tried} sessions can be entered by their users`,
  );
}

/** Seconds for one session, and milliseconds after which no more are tried. */
const LIMIT = 10;
const ALL = 60_000;

/** Enters the live sessions as their users. One that ends meanwhile is left out. */
async function gatherShutOut({ host, paths }: Subject): Promise<{ all: ShutOut[]; tried: number }> {
  // One without an entry is reported with the entries.
  const isLive = (s: Session | undefined): boolean =>
    s?.state === 'live' && s.boot === bootId(host) && host.exists(entryPath(paths.schroot, s.id));
  const until = host.monotonic() + ALL;
  const all: ShutOut[] = [];
  let tried = 0;
  for (const s of readSessions(host, paths).filter(s => s.kind === 'login' && isLive(s))) {
    if (host.monotonic() > until) break;
    const args = withTimeout(LIMIT, isolated(entryCommand(s)));
    const output = await host.run({ file: 'setpriv', args, effect: 'read', okCodes: [...Array(256).keys()] });
    const why = entryProblem(output);
    if (!isLive(readSession(host, paths, s.id))) continue;
    tried += 1;
    if (why !== undefined) all.push({ id: s.id, name: s.user.name, why });
  }
  return { all, tried };
}

export const entryChecks = [
  check({ group: GROUP, title: 'configuration', gather: gatherSchrootFiles, evaluate: judgeSchrootFiles }),
  check({
    group: GROUP,
    title: 'entry',
    gather: gatherShutOut,
    evaluate: ({ all, tried }) => judgeShutOut(all, tried),
  }),
];
