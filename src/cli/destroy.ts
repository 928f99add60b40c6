import { destroy } from '../destroy.ts';
import { MayflyError } from '../errors.ts';
import type { Verb } from './cli.ts';

export const destroyCommand: Verb = {
  command: 'destroy',
  describe: 'remove the pool with master and every generation; refused while there are sessions',
  options: { yes: { type: 'boolean', default: false, describe: 'really do it' } },
  async run(args, { flags, machine, report }) {
    const on = await machine();
    if (args.yes !== true && !flags.dryRun) {
      throw new MayflyError(
        'usage',
        `this removes master and every generation below "${on.paths.state}"; say --yes to do it`,
      );
    }
    await destroy(on);
    report({ destroyed: on.paths.state }, 'the pool and all generations are removed');
    return 0;
  },
};
