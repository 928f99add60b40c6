/** `run` in a temporary session; `enter` a session, a generation or master. */

import { MayflyError } from '../errors.ts';
import type { User } from '../linux/accounts.ts';
import * as cgroup from '../linux/cgroup.ts';
import { identify } from '../linux/process-id.ts';
import { end } from '../session/end.ts';
import { startRunSession } from '../session/run-session.ts';
import type { Machine } from '../state/machine.ts';
import { type Login, readSessions, type Session } from '../state/sessions.ts';
import type { CliCommand } from './command.ts';
import { ALLOW_REMOVALS, enterMaster } from './update.ts';
import { parseGenerationNumber, refuseOptions } from './usage-errors.ts';

/** The `schroot` command for a session; without a command it starts the user's shell. */
function schroot(s: Session, user: string, command: readonly string[], directory: string | undefined) {
  const where = directory === undefined ? [] : ['-d', directory];
  return { file: 'schroot', args: ['-c', s.id, '-u', user, ...where, '--', ...command] };
}

/** Runs a command in a temporary session, then ends the session with everything the command left running. */
async function inTemporarySession(
  on: Machine,
  user: string,
  number: number | undefined,
  command: readonly string[],
  { own, dryRun }: { own: boolean; dryRun: boolean },
): Promise<number> {
  const caller = identify(on.host, on.host.pid);
  if (!caller) throw new MayflyError('internal', 'this process is not in /proc');
  const login: Login = { adapter: 'run', caller, since: on.host.monotonic() };
  const s = await startRunSession(on, user, login, number);
  try {
    return await insideGroup(on, s, () => on.host.runInteractive(schroot(s, user, command, '/'), own));
  } finally {
    if (!dryRun) await end(on, s.id); // a dry run has written no record to end
  }
}

/** Runs `start` while this process is in the session's cgroup: its children and their descendants stay in it. */
async function insideGroup(on: Machine, s: Session, start: () => Promise<number>): Promise<number> {
  const root = cgroup.hierarchy(on.host);
  const before = cgroup.groupOf(on.host, on.host.pid);
  if (root === undefined || before === undefined) return start();
  cgroup.move(on.host, cgroup.groupPath(root, on.paths.cgroup, s.id), on.host.pid);
  const running = start(); // the child has been started when this returns
  cgroup.move(on.host, `${root}${before}`, on.host.pid);
  return running;
}

function commandOf(args: Readonly<Record<string, unknown>>): string[] {
  return Array.isArray(args['--']) ? args['--'].map(String) : [];
}

export const runSessionCommand: CliCommand = {
  command: 'run',
  takesCommand: true,
  describe: 'run a command in a temporary session: mayfly run [--user USER] -- COMMAND [ARGUMENT...]',
  options: {
    user: { type: 'string', describe: 'user to run it as (default: root)', requiresArg: true },
    generation: {
      type: 'string',
      describe: 'generation to run it in (default: the stable one)',
      requiresArg: true,
    },
  },
  async run(args, { flags, machine }) {
    const command = commandOf(args);
    if (command.length === 0)
      throw new MayflyError('usage', 'no command given: mayfly run [--user USER] -- COMMAND');
    const number = args.generation === undefined ? undefined : parseGenerationNumber(args.generation);
    return inTemporarySession(
      await machine(),
      typeof args.user === 'string' ? args.user : 'root',
      number,
      command,
      {
        own: true,
        dryRun: flags.dryRun,
      },
    );
  },
};

/**
 * The sessions that an argument names: the one with this ID, else those of the user with this name, else those whose
 * ID has this prefix. A prefix must contain the "-": without it, it may be the name of another user, whose session must
 * not be ended by mistake.
 */
export function sessionsNamed<T extends { id: string; user: Pick<User, 'name'> }>(
  all: readonly T[],
  name: string,
): T[] {
  const exact = all.filter(s => s.id === name);
  if (exact.length > 0) return exact;
  const ofUser = all.filter(s => s.user.name === name);
  if (ofUser.length > 0) return ofUser;
  return name.includes('-') ? all.filter(s => s.id.startsWith(name)) : [];
}

/** The one session that `name` names; throws `usage` if it is empty, `unknown-session` if there is none or several. */
export function sessionNamed(on: Machine, name: string): Session {
  if (name === '') throw new MayflyError('usage', 'the session name is empty');
  const [s, ...others] = sessionsNamed(readSessions(on.host, on.paths), name);
  const facts = { session: name };
  if (!s) throw new MayflyError('unknown-session', `there is no session "${name}"`, facts);
  if (others.length === 0) return s;
  const ids = [s, ...others].map(o => o.id).join(', ');
  throw new MayflyError('unknown-session', `"${name}" is ambiguous: ${ids}`, facts);
}

export const enterCommand: CliCommand = {
  command: 'enter <what>',
  takesCommand: true,
  describe:
    'open a root shell in a session, in a temporary copy of a generation, or in a copy of master to be promoted',
  positionals: {
    what: {
      type: 'string',
      describe: '"master", a session, a user with a session, or a generation number',
    },
  },
  options: {
    promote: {
      type: 'boolean',
      default: false,
      describe: 'master: promote the copy without asking, if the checks pass',
    },
    discard: { type: 'boolean', default: false, describe: 'master: discard the copy without asking' },
    from: {
      type: 'string',
      describe: 'master: copy this generation instead; it replaces master if it is promoted',
      requiresArg: true,
    },
    'allow-removals': { type: 'boolean', default: false, describe: `master: promote ${ALLOW_REMOVALS}` },
  },
  async run(args, context) {
    const what = String(args.what);
    if (what !== 'master')
      refuseOptions(args, ['promote', 'discard', 'from', 'allow-removals'], 'only applies to "enter master"');
    const from = args.from === undefined ? undefined : parseGenerationNumber(args.from);
    const on = await context.machine();
    if (what === 'master') {
      if (args.promote === true && args.discard === true)
        throw new MayflyError('usage', '--promote and --discard are mutually exclusive');
      const decision = args.promote === true ? 'promote' : args.discard === true ? 'discard' : 'ask';
      const allowRemovals = args.allowRemovals === true;
      return enterMaster(on, context, commandOf(args), decision, { from, allowRemovals });
    }
    if (/^[1-9]\d*$/.test(what)) {
      on.log('info', 'this is a copy of the generation; changes to it are not kept');
      return inTemporarySession(on, 'root', Number(what), commandOf(args), {
        own: false,
        dryRun: context.flags.dryRun,
      });
    }
    const s = sessionNamed(on, what);
    return on.host.runInteractive(schroot(s, 'root', commandOf(args), '/'), false);
  },
};
