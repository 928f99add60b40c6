/** Going inside: `run` in a throw-away session, `enter` into a living one or a generation. */

import { MayflyError } from '../errors.ts';
import type { User } from '../linux/accounts.ts';
import * as cgroup from '../linux/cgroup.ts';
import { identify } from '../linux/process-id.ts';
import { end } from '../session/end.ts';
import { startRunSession } from '../session/run-session.ts';
import type { Machine } from '../state/machine.ts';
import { type Login, readSessions, type Session } from '../state/sessions.ts';
import type { CliCommand } from './command.ts';
import { enterMaster } from './update.ts';
import { parseGenerationNumber, refuseOptions } from './usage-errors.ts';

/** `schroot` for a session; without a command it starts the person's shell. */
function schroot(s: Session, user: string, command: readonly string[], directory: string | undefined) {
  const where = directory === undefined ? [] : ['-d', directory];
  return { file: 'schroot', args: ['-c', s.id, '-u', user, ...where, '--', ...command] };
}

/** Makes a throw-away session, runs one thing in it, and takes it down with everything that was left running. */
async function inThrowaway(
  on: Machine,
  user: string,
  number: number | undefined,
  command: readonly string[],
  { own, dryRun }: { own: boolean; dryRun: boolean },
): Promise<number> {
  const caller = identify(on.host, on.host.pid);
  if (!caller) throw new MayflyError('internal', 'this process does not find itself in /proc');
  const login: Login = { adapter: 'run', caller, since: on.host.now() };
  const s = await startRunSession(on, user, login, number);
  try {
    return await insideGroup(on, s, () => on.host.runInteractive(schroot(s, user, command, '/'), own));
  } finally {
    if (!dryRun) await end(on, s.id); // which has no record in a dry run
  }
}

/** What we start while we are in the session's cgroup is born in it, and so is all that it starts. */
async function insideGroup(on: Machine, s: Session, start: () => Promise<number>): Promise<number> {
  const root = cgroup.hierarchy(on.host);
  const before = cgroup.groupOf(on.host, on.host.pid);
  if (root === undefined || before === undefined) return start();
  cgroup.move(on.host, cgroup.groupPath(root, on.paths.cgroup, s.id), on.host.pid);
  const running = start(); // has started its child when it returns
  cgroup.move(on.host, `${root}${before}`, on.host.pid);
  return running;
}

function commandOf(args: Readonly<Record<string, unknown>>): string[] {
  return Array.isArray(args['--']) ? args['--'].map(String) : [];
}

export const runSessionCommand: CliCommand = {
  command: 'run',
  takesCommand: true,
  describe: 'run a command in a throw-away session: mayfly run [--user U] -- CMD',
  options: {
    user: { type: 'string', describe: 'as whom (default: root)', requiresArg: true },
    generation: {
      type: 'string',
      describe: 'in which generation (default: the stable one)',
      requiresArg: true,
    },
  },
  async run(args, { flags, machine }) {
    const command = commandOf(args);
    if (command.length === 0)
      throw new MayflyError('usage', 'there is no command: mayfly run [--user U] -- CMD');
    const number = args.generation === undefined ? undefined : parseGenerationNumber(args.generation);
    return inThrowaway(await machine(), typeof args.user === 'string' ? args.user : 'root', number, command, {
      own: true,
      dryRun: flags.dryRun,
    });
  },
};

/**
 * Those a word names: the one with this id, else this user's, else those whose id begins so. A beginning has the "-"
 * in it: without that it may be another person's name, and who it is not must not be ended.
 */
export function sessionsNamed<T extends { id: string; user: Pick<User, 'name'> }>(
  all: readonly T[],
  word: string,
): T[] {
  const exact = all.filter(s => s.id === word);
  if (exact.length > 0) return exact;
  const theirs = all.filter(s => s.user.name === word);
  if (theirs.length > 0) return theirs;
  return word.includes('-') ? all.filter(s => s.id.startsWith(word)) : [];
}

/** The one session that `word` names; throws `usage` or `unknown-session`. */
export function sessionNamed(on: Machine, word: string): Session {
  if (word === '') throw new MayflyError('usage', 'the name of a session is empty');
  const [s, ...others] = sessionsNamed(readSessions(on.host, on.paths), word);
  const facts = { session: word };
  if (!s) throw new MayflyError('unknown-session', `there is no session "${word}"`, facts);
  if (others.length === 0) return s;
  const ids = [s, ...others].map(o => o.id).join(', ');
  throw new MayflyError('unknown-session', `"${word}" is not clear: ${ids}`, facts);
}

export const enterCommand: CliCommand = {
  command: 'enter <what>',
  takesCommand: true,
  describe:
    'a shell as root in a session, in a throw-away copy of a generation, or in a copy of master to be promoted',
  positionals: {
    what: {
      type: 'string',
      describe: '"master", a session, a user who has one, or the number of a generation',
    },
  },
  options: {
    promote: {
      type: 'boolean',
      default: false,
      describe: 'master: promote without asking, if the checks pass',
    },
    discard: { type: 'boolean', default: false, describe: 'master: throw the copy away without asking' },
  },
  async run(args, context) {
    const what = String(args.what);
    if (what !== 'master') refuseOptions(args, ['promote', 'discard'], 'belongs to "enter master"');
    const on = await context.machine();
    if (what === 'master') {
      if (args.promote === true && args.discard === true)
        throw new MayflyError('usage', '--promote and --discard exclude each other');
      const decision = args.promote === true ? 'promote' : args.discard === true ? 'discard' : 'ask';
      return enterMaster(on, context, commandOf(args), decision);
    }
    if (/^[1-9]\d*$/.test(what)) {
      on.log('info', 'this is a copy of the generation: nothing you change in it is kept');
      return inThrowaway(on, 'root', Number(what), commandOf(args), {
        own: false,
        dryRun: context.flags.dryRun,
      });
    }
    const s = sessionNamed(on, what);
    return on.host.runInteractive(schroot(s, 'root', commandOf(args), '/'), false);
  },
};
