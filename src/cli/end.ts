/** Ending: one session, or everything that is over. */
import { EXIT } from '../advice.ts';
import { recover } from '../recover.ts';
import { end } from '../session.ts';
import type { Verb } from './cli.ts';
import { sessionNamed } from './run.ts';

export const endCommand: Verb = {
  command: 'end <session>',
  describe: 'end a session now: its processes are killed, its root is removed',
  positionals: { session: { type: 'string', describe: 'a session, or a user who has one' } },
  async run(args, { machine, report }) {
    const on = await machine();
    const { id } = sessionNamed(on, String(args.session));
    await end(on, id);
    report({ ended: id }, `${id} has ended`);
    return 0;
  },
};

export const recoverCommand: Verb = {
  command: 'recover',
  describe: 'bring everything to a consistent state; safe at any time, run at boot',
  async run(_args, { machine, report }) {
    const result = await recover(await machine());
    const lines = [
      ...result.ended.map(id => `ended ${id}`),
      ...result.swept.map(what => `removed ${what}`),
      ...result.stuck.map(what => `stuck: ${what}`),
    ];
    report(result, lines.length === 0 ? 'nothing to recover' : lines.join('\n'));
    return result.stuck.length > 0 ? EXIT.stuck : EXIT.ok;
  },
};
