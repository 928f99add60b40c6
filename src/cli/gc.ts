/** The command that removes generations. */
import { MayflyError } from '../errors.ts';
import { stableNumber } from '../state/generations.ts';
import { readPool } from '../state/pool.ts';
import { noteHeldBack } from '../update/held-back.ts';
import { mountPool } from '../update/pool.ts';
import { requireThere } from '../update/pool-place.ts';
import { goneFrom, prune, retentionPlan } from '../update/retention.ts';
import { withUpdateLock } from '../update/update-lock.ts';
import type { CliCommand } from './command.ts';

export const gcCommand: CliCommand = {
  command: 'gc',
  lastGood: () => true,
  describe: 'remove the generations that do not have to be kept',
  async run(_args, { machine, flags, show, report }) {
    const on = await machine();
    const pool = readPool(on.host, on.paths);
    if (!pool) throw new MayflyError('no-pool', 'there is no pool yet');
    await mountPool(on, pool);
    requireThere(on, pool);
    if (flags.dryRun) {
      const actions = {
        keep: { fate: 'keep', text: 'is kept' },
        'keep-if-space': { fate: 'spare', text: 'is kept while there is space' },
        remove: { fate: 'go', text: 'would be removed' },
      } as const; // "fate" and its values are the JSON that programs know
      const plan = retentionPlan(on, await goneFrom(on, pool)).map(({ action, ...rest }) => ({
        ...rest,
        ...actions[action],
      }));
      const value = plan.map(({ number, fate, why }) => ({ number, fate, why }));
      show(value, plan.map(p => `generation ${p.number} ${p.text}: ${p.why}`).join('\n'));
      return 0;
    }
    const removed = await withUpdateLock(on, 'a removal of generations', async () => {
      await noteHeldBack(on); // a demoted generation goes, what came with it must stay known
      return prune(on, pool);
    });
    const stable = stableNumber(on.host, on.paths);
    report(
      { removed, stable },
      removed.length === 0
        ? 'nothing to remove'
        : `removed generation${removed.length === 1 ? '' : 's'} ${removed.join(', ')}`,
    );
    return 0;
  },
};
