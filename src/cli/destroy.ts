/** `destroy`: removes the pool. */

import { MayflyError } from '../errors.ts';
import { readPool } from '../state/pool.ts';
import { destroy } from '../update/destroy.ts';
import { findPool } from '../update/find-pool.ts';
import type { CliCommand } from './command.ts';

export const destroyCommand: CliCommand = {
  command: 'destroy',
  describe:
    'remove the pool with master and all generations; refused while there are sessions or an enabled display manager',
  options: { yes: { type: 'boolean', default: false, describe: 'confirm the removal' } },
  async run(args, { flags, machine, report }) {
    const on = await machine();
    const pool = readPool(on.host, on.paths) ?? (await findPool(on)); // the state may be lost
    const none = new MayflyError('no-pool', 'there is no pool to remove');
    if (!pool && (args.yes !== true || flags.dryRun)) throw none;
    if (pool && args.yes !== true && !flags.dryRun) {
      const what = `this removes the pool "${pool.path}" with master and all generations, and "${on.paths.state}"`;
      throw new MayflyError('usage', `${what}; confirm with --yes`, { hint: 'mayfly destroy --yes' });
    }
    await destroy(on); // also without a pool: removes the leftovers of an interrupted destroy
    if (!pool) throw none;
    report(
      { destroyed: pool.path },
      `${flags.dryRun ? 'would remove' : 'removed'} the pool and all generations`,
    );
    return 0;
  },
};
