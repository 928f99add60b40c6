/** Changing master and what is stable: update, enter master, rollback, gc. */

import { MayflyError, reasonOf } from '../errors.ts';
import { print } from '../linux/command.ts';
import { stableNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import { readHistory } from '../state/update-history.ts';
import { runInteractiveInChroot } from '../update/chroot.ts';
import { tryPublishSessions } from '../update/greeter.ts';
import { writeHealth } from '../update/health.ts';
import { rebootIfRequired, updateHost } from '../update/host-update.ts';
import { mountPool } from '../update/pool.ts';
import { refresh } from '../update/refresh.ts';
import { prune, retentionPlan } from '../update/retention.ts';
import { rollback } from '../update/rollback.ts';
import { isDue, machineOffset, skipReason } from '../update/schedule.ts';
import { type UpdateOutcome, update } from '../update/update.ts';
import { withUpdateLock } from '../update/update-lock.ts';
import type { CliCommand, Context, Flags } from './command.ts';
import { parseGenerationNumber } from './usage-errors.ts';

/** A line per phase; on a terminal also the last line of what is going on, overwritten by the next. */
export function teller(on: Machine, flags: Flags): (line: string, detail?: boolean) => void {
  const terminal = process.stderr.isTTY === true && !flags.quiet;
  return (line, detail = false) => {
    if (terminal && detail) print(2, `\r\u001b[K  ${line.slice(0, (process.stderr.columns ?? 80) - 4)}`);
    else if (!detail) on.log('info', terminal ? `${line}\u001b[K` : line);
    else on.log('debug', line);
  };
}

/** Ends the line that {@link teller} was writing on. */
export function clearLine(flags: Flags): void {
  if (process.stderr.isTTY === true && !flags.quiet) print(2, '\r\u001b[K');
}

/** The log has said how it ended, to people and to the journal. */
function tell(outcome: UpdateOutcome, { flags, show }: Context): void {
  if (flags.json) show(outcome, '');
}

export const updateCommand: CliCommand = {
  command: 'update',
  describe: 'refresh a copy of master, prove it, and promote it to stable',
  options: {
    force: { type: 'boolean', default: false, describe: 'make a generation even if nothing has changed' },
    scheduled: {
      type: 'boolean',
      default: false,
      describe: 'for timer and cron: mind battery and metered connections, then see to the host itself',
    },
    'if-due': {
      type: 'boolean',
      default: false,
      describe: 'for cron: only if last night’s update has not been tried yet',
    },
  },
  async run(args, context) {
    const on = await context.machine();
    if (args.scheduled === true && !readPool(on.host, on.paths)) {
      on.log('info', 'there is no pool yet, so there is nothing to update');
      return 0;
    }
    if (args.ifDue === true) {
      const last = readHistory(on.host, on.paths)?.lastAttempt;
      if (!isDue(on.host.now(), last, machineOffset(on.host))) return 0;
    }
    if (args.scheduled === true && !context.flags.dryRun) return scheduled(on, context, args.force === true);
    if (context.flags.dryRun) {
      const { command } = on.config.update;
      const words = command.length > 0 ? command.join(' ') : 'apt';
      context.show(
        { refresh: words },
        `would fork master, refresh it with ${words}, seal, check and promote it`,
      );
      return 0;
    }
    await updateOnce(on, context, args.force === true);
    return 0;
  },
};

async function updateOnce(on: Machine, context: Context, force: boolean): Promise<void> {
  const say = teller(on, context.flags);
  try {
    const origin = on.config.update.command.length > 0 ? 'update command' : 'apt';
    const change = async (inside: Parameters<typeof refresh>[1]): Promise<boolean> => {
      await refresh(on, inside);
      return true;
    };
    const outcome = await update(on, { what: 'an update', origin, change, say, force });
    clearLine(context.flags);
    tell(outcome, context);
  } finally {
    clearLine(context.flags);
  }
}

/** The whole night: master, then the host, then a restart if one is wanted. The host does not wait for a good master. */
async function scheduled(on: Machine, context: Context, force: boolean): Promise<number> {
  const why = await skipReason(on);
  if (why !== undefined) {
    on.log('notice', `the update is skipped: ${why}`);
    return 0;
  }
  const failures: unknown[] = [];
  await updateOnce(on, context, force).catch(error => {
    // Somebody else is at it, and the host would only be refused by the same lock.
    if (error instanceof MayflyError && error.code === 'locked') throw error;
    failures.push(error);
  });
  const say = teller(on, context.flags);
  await withUpdateLock(on, 'an update of the host', async () => {
    await updateHost(on, line => say(line, true)).catch(error => failures.push(error));
    clearLine(context.flags);
    await rebootIfRequired(on);
  }).catch(error => failures.push(error));
  for (const error of failures.slice(1)) on.log('err', reasonOf(error));
  if (failures.length > 0) throw failures[0];
  return 0;
}

/** `enter master`: what is done in the copy becomes the next generation, if the person wants it and it proves good. */
export async function enterMaster(
  on: Machine,
  context: Context,
  command: readonly string[],
  decision: 'promote' | 'discard' | 'ask',
): Promise<number> {
  if (context.flags.dryRun) {
    const then = {
      ask: 'ask whether to seal, check and promote it',
      promote: 'seal, check and promote it',
      discard: 'throw it away',
    };
    const words = `would fork master, open a shell in the copy, and ${then[decision]}`;
    context.show({ edit: 'master', decision }, words);
    return 0;
  }
  if (decision === 'ask' && !process.stdin.isTTY) {
    throw new MayflyError('usage', 'without a terminal, say --promote or --discard');
  }
  let code = 0;
  const say = teller(on, context.flags);
  const outcome = await update(on, {
    what: 'an edit of master',
    origin: 'an edit of master',
    say,
    async change(inside) {
      on.log('info', 'this is a copy of master; leave it with "exit"');
      code = await runInteractiveInChroot(on, inside, command);
      if (decision !== 'ask') return decision === 'promote';
      return (await ask('seal, check and promote it for new logins? [y/N] ')).startsWith('y');
    },
  });
  clearLine(context.flags);
  tell(outcome, context);
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
  describe: 'make an earlier generation stable at once; sessions keep theirs',
  positionals: { generation: { type: 'string', describe: 'default: the last good one before the stable' } },
  async run(args, { machine, flags, show, report }) {
    const wanted = args.generation === undefined ? undefined : parseGenerationNumber(args.generation);
    const on = await machine();
    const { from, to } = rollback(flags.dryRun ? { ...on, log: () => undefined } : on, wanted);
    await tryPublishSessions(on);
    if (!flags.dryRun) await writeHealth(on);
    if (flags.dryRun) show({ from, to }, `generation ${to} would be stable`);
    else if (flags.json) show({ from, to }, '');
    else if (from === to) report({ from, to }, `generation ${to} is stable already`);
    return 0;
  },
};

export const gcCommand: CliCommand = {
  command: 'gc',
  describe: 'remove the generations that need not be kept',
  async run(_args, { machine, flags, show, report }) {
    const on = await machine();
    const pool = readPool(on.host, on.paths);
    if (!pool) throw new MayflyError('no-pool', 'there is no pool yet');
    await mountPool(on, pool);
    if (flags.dryRun) {
      const words = { keep: 'is kept', spare: 'is kept while there is room', go: 'would go' };
      const plan = retentionPlan(on);
      show(plan, plan.map(f => `generation ${f.number} ${words[f.action]}: ${f.why}`).join('\n'));
      return 0;
    }
    const gone = await withUpdateLock(on, 'a collection', () => prune(on, pool));
    const stable = stableNumber(on.host, on.paths);
    report(
      { removed: gone, stable },
      gone.length === 0 ? 'nothing to remove' : `removed generation ${gone.join(', ')}`,
    );
    return 0;
  },
};
