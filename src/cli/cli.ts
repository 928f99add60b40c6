/** The command line: options, arguments and exit codes. The only place that prints errors for an administrator. */

import { resolve } from 'node:path';
import yargs from 'yargs';
import { adviceOn, EXIT } from '../advice.ts';
import { VERSION } from '../config/config.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { print } from '../linux/command.ts';
import { resetLimits } from '../linux/limits.ts';
import { logged } from '../linux/log.ts';
import type { Machine } from '../state/machine.ts';
import type { CliCommand, Context, Flags } from './command.ts';
import { configCommand, scopeCommand } from './config.ts';
import { destroyCommand } from './destroy.ts';
import { diffCommand } from './diff.ts';
import { doctorCommand } from './doctor.ts';
import { disableCommand, enableCommand } from './enable.ts';
import { endCommand, recoverCommand } from './end.ts';
import { gcCommand } from './gc.ts';
import { initCommand } from './init.ts';
import { openCliMachine } from './ports.ts';
import { enterCommand, runSessionCommand } from './run.ts';
import { serviceCommand } from './service.ts';
import { generationsCommand, sessionsCommand, statusCommand } from './status.ts';
import { rollbackCommand, updateCommand } from './update.ts';
import { usageStrings } from './usage-errors.ts';

const commands: readonly CliCommand[] = [
  initCommand,
  statusCommand,
  sessionsCommand,
  generationsCommand,
  diffCommand,
  updateCommand,
  rollbackCommand,
  gcCommand,
  runSessionCommand,
  enterCommand,
  endCommand,
  recoverCommand,
  doctorCommand,
  enableCommand,
  disableCommand,
  serviceCommand,
  configCommand,
  scopeCommand,
  destroyCommand,
];

/** Commands that run programs of an image or for an image: what the caller's shell is set to must not reach them. */
const INHERITING: readonly CliCommand[] = [initCommand, updateCommand, runSessionCommand, enterCommand];

const EPILOGUE = `Display managers and PAM call "mayfly hook gdm|lightdm|pam start|stop".

Exit status: ${EXIT.ok} success, ${EXIT.failed} failure, ${EXIT.usage} usage error, ${EXIT.config} configuration error, ${EXIT.refused} refused, ${EXIT.locked} locked by another mayfly, ${EXIT.stuck} session stuck, ${EXIT.warned} (doctor) warnings only.
"run" and "enter" exit with the status of the command they ran.`;

function contextOf(flags: Flags, lastGood: boolean): Context {
  const amount = flags.quiet ? 'quiet' : flags.verbose ? 'verbose' : 'normal';
  const show = (value: unknown, text: string): void => {
    const out = flags.json ? JSON.stringify(value, null, 2) : text;
    if (out !== '') print(1, out.endsWith('\n') ? out : `${out}\n`);
  };
  let opened: Promise<Machine> | undefined;
  const open = async (): Promise<Machine> => {
    const on = await openCliMachine({ ...flags, amount }, { lastGood });
    if (on.config.invalid) on.log('err', `using the last valid configuration: ${on.config.invalid}`);
    return on;
  };
  return {
    flags,
    show,
    report: (value, text) => {
      if (!flags.quiet || flags.json) show(flags.dryRun ? { ...value, dry_run: true } : value, text);
    },
    machine() {
      opened ??= open();
      return opened;
    },
  };
}

/** Runs one command line (without "node" and the script's name) and returns its exit code. Never rejects. */
export async function runCli(argv: readonly string[]): Promise<number> {
  let code = 0;
  const dashes = argv.indexOf('--');
  const own = dashes < 0 ? argv : argv.slice(0, dashes); // the rest belongs to the command to be run
  const json = own.includes('--json');
  const called = commands.find(c => own.includes(commandName(c)));
  process.umask(0o022); // that of the caller must not be that of packages and of commands in a copy
  let parser = yargs()
    .scriptName('mayfly')
    .usage('$0 COMMAND [options]\n\nGives every login a fresh root file system.')
    .option('json', {
      type: 'boolean',
      default: false,
      describe: 'print results and errors as JSON',
      global: true,
    })
    .option('config', {
      type: 'string',
      describe: 'read this file instead of /etc/mayfly/mayfly.toml',
      global: true,
      requiresArg: true,
    })
    .option('dry-run', {
      type: 'boolean',
      default: false,
      describe: 'print what would be done, without doing it',
      global: true,
    })
    .option('quiet', {
      type: 'boolean',
      default: false,
      describe: 'print warnings and errors only',
      global: true,
    })
    .option('verbose', { type: 'boolean', default: false, describe: 'print every step', global: true })
    .version('version', 'print the version', VERSION)
    .help('help', 'print this help')
    .epilogue(EPILOGUE)
    .parserConfiguration({ 'populate--': true, 'duplicate-arguments-array': false })
    .locale('en')
    .updateStrings(usageStrings(called?.command))
    .recommendCommands()
    .wrap(null)
    .strict()
    .demandCommand(1, 'no command given')
    .exitProcess(false)
    .showHelpOnFail(false)
    .fail((message, error) => {
      // Without a message, the error was thrown by a command.
      throw message ? new MayflyError('usage', message.trim().replaceAll(/\s+/g, ' ')) : error;
    });
  for (const command of commands) {
    parser = parser.command({
      command: command.command,
      describe: command.describe,
      builder: y => {
        for (const [name, options] of Object.entries(command.positionals ?? {})) y.positional(name, options);
        return y.options(command.options ?? {});
      },
      handler: async args => {
        if (!command.anyone && process.getuid?.() !== 0)
          throw new MayflyError('not-root', `"${args._[0]}" must run as root`);
        if (!command.takesCommand && Array.isArray(args['--']) && args['--'].length > 0)
          throw new MayflyError('usage', `"${args._[0]}" takes no arguments after "--"`);
        const flags: Flags = {
          json: args.json === true,
          config: configOf(args.config),
          dryRun: args.dryRun === true,
          quiet: args.quiet === true,
          verbose: args.verbose === true,
        };
        const context = contextOf(flags, command.lastGood?.(args) === true);
        if (INHERITING.includes(command)) {
          const { host } = await context.machine();
          await host.run(resetLimits(host.pid));
        }
        code = (await command.run(args, context)) ?? 0;
      },
    });
  }
  try {
    await parser.parseAsync([...argv]);
    return code;
  } catch (error) {
    return reportError(error, json, called);
  } finally {
    await logged();
  }
}

/** The absolute path of `--config`, resolved once so that all parts use the same file. Throws `usage`. */
function configOf(named: unknown): string | undefined {
  if (typeof named !== 'string') return undefined;
  if (named === '') throw new MayflyError('usage', '--config needs a file');
  return resolve(named);
}

const commandName = (command: CliCommand): string => command.command.split(' ')[0] ?? '';

function reportError(error: unknown, json: boolean, called: CliCommand | undefined): number {
  const known = error instanceof MayflyError ? error : undefined;
  const { exit, hint } = adviceOn(known?.code ?? 'internal');
  const help = known?.code === 'usage' && called ? { hint: `mayfly ${commandName(called)} --help` } : {};
  const hintText = hint?.({ ...help, ...known?.facts });
  if (json) {
    const value = {
      error: known?.code ?? 'internal',
      message: reasonOf(error),
      ...(hintText ? { hint: hintText } : {}),
      facts: known?.facts ?? {},
    };
    print(1, `${JSON.stringify(value, null, 2)}\n`);
  } else {
    print(2, `mayfly: ${reasonOf(error)}\n${hintText ? `hint: ${hintText}\n` : ''}`);
    if (!known && error instanceof Error && process.argv.includes('--verbose')) print(2, `${error.stack}\n`);
  }
  return exit;
}
