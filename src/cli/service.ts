/** `service`: the session monitor that mayfly.service runs. */

import { resolve } from 'node:path';
import { DEFAULT_CONFIG_FILE } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import { logindBus, logindFiles } from '../linux/logind.ts';
import type { CliCommand } from './command.ts';
import { openCliMachine } from './ports.ts';

export const serviceCommand: CliCommand = {
  command: 'service',
  describe: 'monitor sessions, space and the configuration until stopped; run by mayfly.service',
  options: {
    // A directory of session files in place of logind, for tests.
    logind: { type: 'string', hidden: true, requiresArg: true },
  },
  async run(args, { flags }) {
    if (flags.dryRun) {
      throw new MayflyError(
        'usage',
        'the service has no dry run; "mayfly recover --dry-run" prints which sessions are over',
      );
    }
    const file = flags.config ?? DEFAULT_CONFIG_FILE;
    const amount = flags.quiet ? 'quiet' : flags.verbose ? 'verbose' : 'normal';
    const { serve } = await import('../service/service.ts'); // imports chokidar, which no other command needs
    // If the configuration has become invalid, it uses the last valid one, as logouts do.
    await serve(await openCliMachine({ config: file, dryRun: false, amount }, { lastGood: true }), {
      file,
      logind: args.logind === undefined ? logindBus : logindFiles(resolve(String(args.logind))),
      env: process.env,
      program: process.argv[1] ?? '',
      onSignal: request => {
        for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => request('stop'));
        process.on('SIGHUP', () => request('reload'));
      },
    });
    return 0;
  },
};
