/** The resident service; `mayfly.service` runs it. */

import { resolve } from 'node:path';
import { DEFAULT_CONFIG_FILE } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import { logindBus, logindFiles } from '../linux/logind.ts';
import { openMachine } from '../state/machine.ts';
import type { CliCommand } from './command.ts';

export const serviceCommand: CliCommand = {
  command: 'service',
  describe: 'watch over sessions, space and configuration until told to stop; run by mayfly.service',
  options: {
    // A directory of session files in place of logind, for tests.
    logind: { type: 'string', hidden: true, requiresArg: true },
  },
  async run(args, { flags }) {
    if (flags.dryRun) {
      throw new MayflyError(
        'usage',
        'the service has no dry run; "mayfly recover --dry-run" shows what is over',
      );
    }
    const file = flags.config ?? DEFAULT_CONFIG_FILE;
    const amount = flags.quiet ? 'quiet' : flags.verbose ? 'verbose' : 'normal';
    const { serve } = await import('../service/service.ts'); // takes chokidar along, which no other verb needs
    // With a configuration that has become invalid it serves by the last good one, as logouts do.
    await serve(await openMachine({ config: file, dryRun: false, amount }, undefined, true), {
      file,
      logind: args.logind === undefined ? logindBus : logindFiles(resolve(String(args.logind))),
      env: process.env,
      onSignal: tell => {
        for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => tell('stop'));
        process.on('SIGHUP', () => tell('reload'));
      },
    });
    return 0;
  },
};
