import { MayflyError } from '../errors.ts';
import { readPool } from '../state/pool.ts';
import { destroy } from '../update/destroy.ts';
import type { CliCommand } from './command.ts';

export const destroyCommand: CliCommand = {
  command: 'destroy',
  describe: 'remove the pool with master and every generation; refused while there are sessions',
  options: { yes: { type: 'boolean', default: false, describe: 'really do it' } },
  async run(args, { flags, machine, report }) {
    const on = await machine();
    const pool = readPool(on.host, on.paths);
    const none = new MayflyError('no-pool', 'there is no pool to remove');
    if (!pool && (args.yes !== true || flags.dryRun)) throw none;
    if (pool && args.yes !== true && !flags.dryRun) {
      const what = `this removes the pool "${pool.path}" with master and every generation, and "${on.paths.state}"`;
      throw new MayflyError('usage', `${what}; say --yes to do it`, { hint: 'mayfly destroy --yes' });
    }
    await destroy(on); // without a pool, too: what one that was cut short has left
    if (!pool) throw none;
    const would = flags.dryRun ? 'would be' : 'are';
    report({ destroyed: pool.path }, `the pool and all generations ${would} removed`);
    return 0;
  },
};
