/**
 * Checks a generation before it is promoted: a trial login, created, entered and taken down by the same steps as
 * every session, in which the built-in checks and the administrator's scripts in `checks.d` run. Nothing here writes
 * to the generation itself: all changes made by a check happen in the trial session.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import * as cgroup from '../linux/cgroup.ts';
import { identify } from '../linux/process-id.ts';
import { scriptsIn } from '../linux/run-parts.ts';
import { end } from '../session/end.ts';
import { startRunSession } from '../session/run-session.ts';
import { entryPath } from '../session/schroot.ts';
import type { Generation } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { type Login, recordPath, type Session } from '../state/sessions.ts';
import {
  builtIn,
  builtInOptional,
  firstLines,
  type GenerationCheck,
  type RunInTrial,
  trial,
} from './built-in-checks.ts';
import { isolated, OWN_MOUNTS, withTimeout } from './chroot.ts';
import { desktopStarts } from './desktop-check.ts';
import { entryCommand, entryHint, entryProblem } from './entry-check.ts';
import { type Comparison, type LossPolicy, refuseLosses } from './losses.ts';

export interface Proof {
  /** Messages of optional checks that failed. */
  readonly warnings: readonly string[];
  /** What people will miss: see `losses.ts`. */
  readonly lost: readonly string[];
  readonly changes?: Comparison['changes'];
}

type Progress = (line: string, detail?: boolean) => void;

/**
 * A script of the administrator. Its arguments are the root and the ID of the trial session, and the generation's
 * number.
 */
function scriptCheck(
  path: string,
  runScript: (argv: readonly string[]) => ReturnType<RunInTrial>,
): GenerationCheck {
  return {
    name: path.slice(path.lastIndexOf('/') + 1),
    async problem(_run, s) {
      const { code, stderr, stdout } = await runScript([path, s.root, s.id, String(s.generation)]);
      const output = firstLines(stderr) || firstLines(stdout);
      return code === 0 ? undefined : `failed with exit code ${code}${output ? `: ${output}` : ''}`;
    },
  };
}

/**
 * Checks a sealed generation. Throws `update` with the reason if the trial login or a required check fails, if
 * `check.timeout` passes, if it lacks what `policy` does not allow, or if the trial session leaves anything behind. `say` gets a line per check.
 */
export async function checkGeneration(
  on: Machine,
  g: Generation,
  say: Progress,
  policy?: LossPolicy,
): Promise<Proof> {
  const { host, config } = on;
  const caller = identify(host, host.pid);
  if (!caller) throw new MayflyError('internal', 'this process is not in /proc');
  const login: Login = { adapter: 'run', caller, since: host.monotonic() };
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
  const until = host.monotonic() + config.check.timeout * 1000;
  const warnings: string[] = [];
  let compared: Omit<Comparison, 'warnings'>;
  try {
    await requireEntry(on, s, until);
    const { warnings: doubts, ...rest } = await refuseLosses(on, s, say, policy);
    compared = rest;
    warnings.push(...doubts);
    const { required, optional } = checksFor(on, until);
    for (const check of required) {
      say(`checking ${check.name}`, true);
      const problem = await check.problem(runnerFor(on, s, until), s, on);
      if (problem !== undefined)
        throw new MayflyError('update', `${check.name}: ${problem}`, { generation: g.number });
    }
    for (const check of optional) {
      const problem = await check.problem(runnerFor(on, s, until), s, on);
      if (problem === undefined) continue;
      warnings.push(`${check.name}: ${problem} (optional)`);
    }
  } finally {
    await end(on, s.id);
  }
  const leftovers = await findLeftovers(on, s);
  if (leftovers.length > 0) {
    throw new MayflyError('update', `the trial login left behind: ${leftovers.join(', ')}`, {
      generation: g.number,
    });
  }
  return { warnings, ...compared };
}

/**
 * Throws `update` if the trial user cannot enter the session. Its cause is for whoever looks for what to mend: schroot and
 * PAM ask for files of this machine, so the generation is not to blame.
 */
async function requireEntry(on: Machine, s: Session, until: number): Promise<void> {
  const why = entryProblem(await runCheck(on, entryCommand(s), until));
  if (why === undefined) return;
  const cause = new MayflyError('refused', why, { hint: entryHint(why, s.user.name) });
  const message = `${s.user.name} cannot enter the session: ${why}`;
  throw new MayflyError('update', message, { generation: s.generation }, { cause });
}

function checksFor(on: Machine, until: number): { required: GenerationCheck[]; optional: GenerationCheck[] } {
  const directory = `${on.config.directory}/checks.d`;
  const onHost = (argv: readonly string[]) => runCheck(on, argv, until, [...OWN_MOUNTS, '--mount-proc']);
  return {
    required: [
      ...builtIn,
      desktopStarts(argv => runCheck(on, argv, until)),
      ...scriptsIn(on.host, directory).map(p => scriptCheck(p, onHost)),
      trial,
    ],
    optional: [
      ...builtInOptional,
      ...scriptsIn(on.host, `${directory}/optional`).map(p => scriptCheck(p, onHost)),
    ],
  };
}

function runnerFor(on: Machine, s: Session, until: number): RunInTrial {
  return (argv, user = 'root') =>
    runCheck(on, ['schroot', '-c', s.id, '-u', user, '-d', '/', '--', ...argv], until);
}

/**
 * Runs a command of a check. All checks share one deadline. Processes that a check leaves running are killed with it:
 * they could keep its output open, and this process waiting.
 */
async function runCheck(
  on: Machine,
  argv: readonly string[],
  until: number,
  options: readonly string[] = [],
) {
  const left = (until - on.host.monotonic()) / 1000;
  const late = new MayflyError(
    'update',
    `the checks did not finish within ${on.config.check.timeout} s: "${argv.join(' ')}"`,
  );
  if (left <= 0) throw late;
  const out = await on.host.run({
    file: 'setpriv',
    args: withTimeout(left, isolated(argv, options)),
    effect: 'read',
    okCodes: [...Array(256).keys()],
  });
  if (out.code === 124 || out.code === 137) throw late;
  return { code: out.code, stdout: out.stdout, stderr: out.stderr };
}

/** What is left of a session that has ended, as text. */
async function findLeftovers(on: Machine, s: Session): Promise<string[]> {
  const { host, paths } = on;
  const root = cgroup.hierarchy(host);
  const backend = on.backend(s.volume.backend);
  // That it can be erased is a part of what is tried.
  for (const d of (await backend.list(s.volume.pool)).discarded)
    if (d.session === s.id) await backend.sweep(s.volume.pool, d.name);
  const volumes = await backend.list(s.volume.pool);
  return [
    host.lstat(recordPath(host, paths, s.id)) && 'its record',
    host.lstat(s.root) && 'its mount point',
    host.lstat(entryPath(paths.schroot, s.id)) && 'its schroot entry',
    root !== undefined && host.lstat(cgroup.groupPath(root, paths.cgroup, s.id)) && 'its control group',
    volumes.volumes.some(v => v.role === 'session' && v.name === s.id) && 'its volume',
    (volumes.leftovers.some(name => name.endsWith(s.id)) ||
      volumes.discarded.some(d => d.session === s.id && !d.deleted)) &&
      'a part of its volume',
  ].filter(text => typeof text === 'string');
}
