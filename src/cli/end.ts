/** Ending: one session, or everything that is over. */
import { EXIT } from '../advice.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { recover } from '../service/recover.ts';
import { end } from '../session/end.ts';
import type { Machine } from '../state/machine.ts';
import type { CliCommand } from './command.ts';
import { sessionNamed } from './run.ts';

export const endCommand: CliCommand = {
  command: 'end <session>',
  describe: 'end a session now: its processes are killed, its root is removed',
  positionals: { session: { type: 'string', describe: 'a session, or a user who has one' } },
  options: {
    'if-there': { type: 'boolean', default: false, hidden: true },
  },
  async run(args, { flags, machine, report }) {
    const on = await machine();
    if (args.ifThere === true) {
      await endIfThere(on, String(args.session));
      return 0;
    }
    const { id } = sessionNamed(on, String(args.session));
    await end(on, id);
    report({ ended: id }, `${id} ${flags.dryRun ? 'would be' : 'has'} ended`);
    return 0;
  },
};

/** How often a lock is waited for, half a minute each. */
const TRIES = 10;

/**
 * For mayfly-end@.service, whose session mayfly.service ends too where the unit is slow to start. That it is gone is
 * no error, nor that somebody is at work on it, until that takes far too long.
 */
export async function endIfThere(on: Machine, id: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await end(on, id);
    } catch (error) {
      const code = error instanceof MayflyError ? error.code : undefined;
      if (code === 'unknown-session') return;
      if (code !== 'locked' || tries === TRIES) throw error;
      on.log('debug', reasonOf(error), { session: id });
    }
  }
}

export const recoverCommand: CliCommand = {
  command: 'recover',
  describe: 'bring everything to a consistent state; safe at any time, run at boot',
  async run(_args, { flags, machine, report }) {
    const result = await recover(await machine());
    const [ended, removed] = flags.dryRun ? ['would end', 'would remove'] : ['ended', 'removed'];
    const lines = [
      ...result.ended.map(id => `${ended} ${id}`),
      ...result.swept.map(what => `${removed} ${what}`),
      ...result.stuck.map(what => `stuck: ${what}`),
    ];
    report(result, lines.length === 0 ? 'nothing to recover' : lines.join('\n'));
    return result.stuck.length > 0 ? EXIT.stuck : EXIT.ok;
  },
};
