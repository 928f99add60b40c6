/** The commands that change master or the stable generation: update, enter master, rollback. */

import { MayflyError, reasonOf } from '../errors.ts';
import { noLog } from '../linux/log.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import { runInteractiveInChroot } from '../update/chroot.ts';
import { tryPublishSessions } from '../update/greeter.ts';
import { writeHealth } from '../update/health.ts';
import { rebootIfRequired, updateHost } from '../update/host-update.ts';
import { driverReason } from '../update/kernel-match.ts';
import { refresh } from '../update/refresh.ts';
import { rollback } from '../update/rollback.ts';
import { isDue, isMissed, lastAttemptOf, machineOffset, skipReason, spreadOf } from '../update/schedule.ts';
import { type UpdateOutcome, update } from '../update/update.ts';
import { withUpdateLock } from '../update/update-lock.ts';
import type { CliCommand, Context } from './command.ts';
import { clearLine, progressPrinter } from './progress.ts';
import { parseGenerationNumber } from './usage-errors.ts';

/** Prints the outcome as JSON. As text it is in the log already, on the terminal and in the journal. */
function showOutcome(outcome: UpdateOutcome, { flags, show }: Context): void {
  if (flags.json) show(outcome, '');
}

/** Describes the option of this name. */
export const ALLOW_REMOVALS = 'also if desktops, protected packages or many others are gone';

export const updateCommand: CliCommand = {
  command: 'update',
  lastGood: args => args.scheduled === true, // a machine must not go without updates for months because of a typo
  describe: 'refresh a copy of master, check it, and promote it to stable',
  options: {
    force: { type: 'boolean', default: false, describe: 'seal a generation even if nothing has changed' },
    'allow-removals': { type: 'boolean', default: false, describe: ALLOW_REMOVALS },
    'allow-demoted': {
      type: 'boolean',
      default: false,
      describe: 'also the versions of packages that came with a generation that was demoted',
    },
    scheduled: {
      type: 'boolean',
      default: false,
      describe:
        'for the timer and cron: skip on battery or a metered connection, and update the host afterwards',
    },
    'if-due': {
      type: 'boolean',
      default: false,
      describe: 'for cron: do nothing if last night’s update has been attempted',
    },
    'if-missed': {
      type: 'boolean',
      default: false,
      describe: 'for the timer: do nothing unless the last night was missed',
    },
    spread: {
      type: 'boolean',
      default: false,
      describe: 'by day, wait up to 15 minutes before, on each machine for another time',
    },
  },
  async run(args, context) {
    const on = await context.machine();
    if (args.scheduled === true && !readPool(on.host, on.paths)) {
      on.log('info', 'there is no pool yet; nothing to update');
      return 0;
    }
    const offset = machineOffset(on.host);
    const isWanted = (): boolean => {
      const [now, last] = [on.host.now(), lastAttemptOf(on)];
      return (
        (args.ifDue !== true || isDue(now, last, offset)) && (args.ifMissed !== true || isMissed(now, last))
      );
    };
    const driver = isWanted() ? undefined : await driverReason(on);
    if (driver !== undefined) on.log('notice', `the update does not wait for its time: ${driver}`);
    else if (!isWanted()) return 0;
    // For a driver at once: until then nobody can work at this machine.
    const isSpread = args.spread === true && driver === undefined && !context.flags.dryRun;
    const pause = isSpread ? spreadOf(on.host.now(), offset) : 0;
    if (pause > 0) {
      on.log('info', `the update begins in ${Math.round(pause / 60_000)} min: other machines update, too`);
      await on.host.sleep(pause);
      if (!isWanted()) return 0; // another one has begun meanwhile
    }
    const o = {
      force: args.force === true,
      allowRemovals: args.allowRemovals === true,
      allowDemoted: args.allowDemoted === true,
    };
    if (args.scheduled === true && !context.flags.dryRun) return scheduled(on, context, o);
    if (context.flags.dryRun) {
      const { command } = on.config.update;
      const refreshedWith = command.length > 0 ? command.join(' ') : 'apt';
      context.show(
        { refresh: refreshedWith },
        `would copy master, refresh the copy with ${refreshedWith}, and seal, check and promote it`,
      );
      return 0;
    }
    await updateOnce(on, context, o);
    return 0;
  },
};

interface UpdateFlags {
  readonly force: boolean;
  readonly allowRemovals: boolean;
  readonly allowDemoted: boolean;
}

async function updateOnce(on: Machine, context: Context, flags: UpdateFlags): Promise<void> {
  const say = progressPrinter(on, context.flags);
  try {
    const origin = on.config.update.command.length > 0 ? 'update command' : 'apt';
    const change = async (inside: Parameters<typeof refresh>[1]): Promise<boolean> => {
      await refresh(on, inside, flags.allowDemoted);
      return true;
    };
    const losses = { allow: flags.allowRemovals, command: 'mayfly update --allow-removals' };
    const { force, allowDemoted } = flags;
    const outcome = await update(on, { what: 'an update', origin, change, say, losses, force, allowDemoted });
    clearLine(context.flags);
    showOutcome(outcome, context);
  } finally {
    clearLine(context.flags);
  }
}

/**
 * The nightly run: updates master, then the host, then reboots if that is required and configured. The host is updated
 * even if the update of master fails.
 */
async function scheduled(on: Machine, context: Context, flags: UpdateFlags): Promise<number> {
  const why = await skipReason(on);
  if (why !== undefined) {
    on.log('notice', `the update is skipped: ${why}`);
    return 0;
  }
  const failures: unknown[] = [];
  await updateOnce(on, context, flags).catch(error => {
    // Another update is running; the update of the host would be refused by the same lock.
    if (error instanceof MayflyError && error.code === 'locked') throw error;
    failures.push(error);
  });
  const say = progressPrinter(on, context.flags);
  await withUpdateLock(on, 'an update of the host', async () => {
    await updateHost(on, line => say(line, true)).catch(error => failures.push(error));
    clearLine(context.flags);
    await rebootIfRequired(on);
  }).catch(error => failures.push(error));
  for (const error of failures.slice(1)) on.log('err', reasonOf(error));
  if (failures.length > 0) throw failures[0];
  return 0;
}

/**
 * `enter master`: opens a shell in a copy of master, which becomes the next generation if `decision` or the answer to
 * the question says so and the checks pass; with `from`, in a copy of that generation instead. Returns the exit code of the shell. Throws `usage` if it would have to ask
 * without a terminal, and whatever `update` throws.
 */
export async function enterMaster(
  on: Machine,
  context: Context,
  command: readonly string[],
  decision: 'promote' | 'discard' | 'ask',
  { from, allowRemovals = false }: { readonly from?: number | undefined; readonly allowRemovals?: boolean },
): Promise<number> {
  const source = from === undefined ? 'master' : `generation ${from}`;
  if (context.flags.dryRun) {
    const then = {
      ask: 'ask whether to seal, check and promote it',
      promote: 'seal, check and promote it',
      discard: 'discard it',
    };
    const text = `would copy ${source}, open a shell in the copy, and ${then[decision]}`;
    context.show({ edit: 'master', decision }, text);
    return 0;
  }
  if (decision === 'ask' && !process.stdin.isTTY) {
    throw new MayflyError('usage', 'there is no terminal to ask on: give --promote or --discard');
  }
  let code = 0;
  const say = progressPrinter(on, context.flags);
  const outcome = await update(on, {
    what: 'an edit of master',
    origin: from === undefined ? 'an edit of master' : `an edit of generation ${from}`,
    from,
    losses: { allow: allowRemovals, command: 'mayfly enter master --allow-removals' },
    say,
    async change(inside) {
      on.log('info', `this is a copy of ${source}; leave it with "exit"`);
      code = await runInteractiveInChroot(on, inside, command);
      const wanted =
        decision === 'ask'
          ? (await ask('seal, check and promote it for new logins? [y/N] ')).startsWith('y')
          : decision === 'promote';
      return wanted && 'seal';
    },
  });
  clearLine(context.flags);
  showOutcome(outcome, context);
  return code;
}

async function ask(question: string): Promise<string> {
  const { createInterface } = await import('node:readline/promises');
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await terminal.question(question)).trim().toLowerCase();
  } finally {
    terminal.close();
  }
}

export const rollbackCommand: CliCommand = {
  command: 'rollback [generation]',
  lastGood: () => true,
  describe: 'make an earlier generation stable; sessions keep theirs',
  positionals: {
    generation: {
      type: 'string',
      describe: 'generation number (default: the newest usable one before stable)',
    },
  },
  async run(args, { machine, flags, show, report }) {
    const wanted = args.generation === undefined ? undefined : parseGenerationNumber(args.generation);
    const on = await machine();
    const { from, to } = await rollback(flags.dryRun ? { ...on, log: noLog } : on, wanted);
    await tryPublishSessions(on);
    if (!flags.dryRun) await writeHealth(on);
    if (flags.dryRun) show({ from, to }, `generation ${to} would be stable`);
    else if (flags.json) show({ from, to }, '');
    else if (from === to) report({ from, to }, `generation ${to} is stable already`);
    return 0;
  },
};
