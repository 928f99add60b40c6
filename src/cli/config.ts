/** The commands that only read the configuration: config, scope. */
import { userInfo } from 'node:os';
import { DEFAULT_CONFIG_FILE } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { hasCode } from '../errors.ts';
import { groupsOf, lookupUser } from '../linux/accounts.ts';
import { print } from '../linux/command.ts';
import { getsSession } from '../session/scope.ts';
import type { CliCommand } from './command.ts';
import { judgeUnknown, unknownGroups } from './doctor/groups.ts';
import { cliHost } from './ports.ts';

export const configCommand: CliCommand = {
  command: 'config',
  describe: 'check the configuration and print the values in effect',
  anyone: true,
  async run(_args, { flags, show }) {
    // Not from the cache: with this command an administrator looks for mistakes in the files.
    const { readConfig, toToml } = await import('../config/parse.ts');
    const config = readConfig(cliHost, flags.config ?? DEFAULT_CONFIG_FILE);
    const { files } = config;
    const from =
      files.length === 0
        ? '# no configuration file: all options have their defaults'
        : `# from ${files.join(', ')}`;
    show(config, `${from}\n${toToml(config)}`);
    for (const { what, fix } of judgeUnknown(await unknownGroups(cliHost, config)))
      print(2, `mayfly: warning: ${what}\nhint: ${fix}\n`);
    return 0;
  },
};

export const scopeCommand: CliCommand = {
  command: 'scope [user]',
  describe: 'print whether a user gets a session at login (exit status 0) or logs in to the host (1)',
  anyone: true,
  positionals: { user: { type: 'string', describe: 'user name (default: the calling user)' } },
  async run(args, { flags, show }) {
    const host = cliHost;
    const config = await loadConfig(host, flags.config);
    const user = await lookupUser(host, typeof args.user === 'string' ? args.user : userInfo().username);
    const groups = await groupsOf(host, user);
    const inside = await getsSession(host, config, user, groups).catch((error: unknown) => {
      // The hook refuses the login; where that means the host, the session wrapper must hear it.
      if (hasCode(error, 'unknown-group') && config.on_failure === 'host') return true;
      throw error;
    });
    const value = { user: user.name, session: inside, on_failure: config.on_failure };
    show(
      value,
      `${user.name} gets ${inside ? 'a session' : 'the host'}${inside ? `; on failure: ${config.on_failure}` : ''}`,
    );
    return inside ? 0 : 1;
  },
};
