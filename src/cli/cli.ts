/** The command line: flags, words and exit codes. The only place that words errors for an administrator. */

import { resolve } from 'node:path';
import yargs from 'yargs';
import { adviceOn, EXIT } from '../advice.ts';
import { VERSION } from '../config/config.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { print } from '../linux/command.ts';
import { openMachine } from '../state/machine.ts';
import type { CliCommand, Context, Flags } from './command.ts';
import { destroyCommand } from './destroy.ts';
import { doctorCommand } from './doctor.ts';
import { disableCommand, enableCommand } from './enable.ts';
import { endCommand, recoverCommand } from './end.ts';
import { initCommand } from './init.ts';
import { enterCommand, runSessionCommand } from './run.ts';
import { serviceCommand } from './service.ts';
import { configCommand, generationsCommand, scopeCommand, sessionsCommand, statusCommand } from './status.ts';
import { gcCommand, rollbackCommand, updateCommand } from './update.ts';
import { usageStrings } from './usage-errors.ts';

const verbs: readonly CliCommand[] = [
  initCommand,
  statusCommand,
  sessionsCommand,
  generationsCommand,
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

const EPILOGUE = `Display managers and PAM call "mayfly hook gdm|lightdm|pam start|stop".

Exit codes: ${EXIT.ok} done, ${EXIT.failed} failed, ${EXIT.usage} wrong use, ${EXIT.config} wrong configuration, ${EXIT.refused} refused, ${EXIT.locked} another mayfly is at work, ${EXIT.stuck} something is stuck and kept, ${EXIT.warned} doctor found warnings only.
"run" and "enter" exit with the code of what they ran.`;

function contextOf(flags: Flags): Context {
  const amount = flags.quiet ? 'quiet' : flags.verbose ? 'verbose' : 'normal';
  const show = (value: unknown, text: string): void => {
    const out = flags.json ? JSON.stringify(value, null, 2) : text;
    if (out !== '') print(1, out.endsWith('\n') ? out : `${out}\n`);
  };
  return {
    flags,
    show,
    report: (value, text) => {
      if (!flags.quiet || flags.json) show(flags.dryRun ? { ...value, dry_run: true } : value, text);
    },
    machine: () => openMachine({ ...flags, amount }),
  };
}

/** Runs one command line and returns its exit code. Never rejects. */
export async function runCli(argv: readonly string[]): Promise<number> {
  let code = 0;
  const dashes = argv.indexOf('--');
  const own = dashes < 0 ? argv : argv.slice(0, dashes); // what is behind it is somebody else's
  const json = own.includes('--json');
  const called = verbs.find(v => own.some(word => word === commandName(v)));
  let parser = yargs()
    .scriptName('mayfly')
    .usage('$0 VERB [options]\n\nA fresh machine for every login.')
    .option('json', { type: 'boolean', default: false, describe: 'print JSON, errors too', global: true })
    .option('config', {
      type: 'string',
      describe: 'read this file instead of /etc/mayfly/mayfly.toml',
      global: true,
      requiresArg: true,
    })
    .option('dry-run', { type: 'boolean', default: false, describe: 'show what would be done', global: true })
    .option('quiet', {
      type: 'boolean',
      default: false,
      describe: 'show warnings and errors only',
      global: true,
    })
    .option('verbose', { type: 'boolean', default: false, describe: 'show every step', global: true })
    .version(VERSION)
    .help()
    .epilogue(EPILOGUE)
    .parserConfiguration({ 'populate--': true, 'duplicate-arguments-array': false })
    .locale('en')
    .updateStrings(usageStrings(called?.command))
    .recommendCommands()
    .wrap(null)
    .strict()
    .demandCommand(1, 'a verb is missing')
    .exitProcess(false)
    .showHelpOnFail(false)
    .fail((message, error) => {
      // Without a message it is what a verb threw.
      throw message ? new MayflyError('usage', message.replaceAll(/\s+/g, ' ')) : error;
    });
  for (const verb of verbs) {
    parser = parser.command({
      command: verb.command,
      describe: verb.describe,
      builder: y => {
        for (const [name, options] of Object.entries(verb.positionals ?? {})) y.positional(name, options);
        return y.options(verb.options ?? {});
      },
      handler: async args => {
        if (!verb.anyone && process.getuid?.() !== 0)
          throw new MayflyError('not-root', `"${args._[0]}" must run as root`);
        if (!verb.takesCommand && Array.isArray(args['--']) && args['--'].length > 0)
          throw new MayflyError('usage', `"${args._[0]}" takes nothing behind "--"`);
        const flags: Flags = {
          json: args.json === true,
          config: configOf(args.config),
          dryRun: args.dryRun === true,
          quiet: args.quiet === true,
          verbose: args.verbose === true,
        };
        code = (await verb.run(args, contextOf(flags))) ?? 0;
      },
    });
  }
  try {
    await parser.parseAsync([...argv]);
    return code;
  } catch (error) {
    return reportError(error, json, called);
  }
}

/** Once, so that everything looks beside the same file. */
function configOf(named: unknown): string | undefined {
  if (typeof named !== 'string') return undefined;
  if (named === '') throw new MayflyError('usage', '--config needs a file');
  return resolve(named);
}

const commandName = (verb: CliCommand): string => verb.command.split(' ')[0] ?? '';

function reportError(error: unknown, json: boolean, called: CliCommand | undefined): number {
  const known = error instanceof MayflyError ? error : undefined;
  const { exit, hint } = adviceOn(known?.code ?? 'internal');
  const help = known?.code === 'usage' && called ? { hint: `mayfly ${commandName(called)} --help` } : {};
  const words = hint?.({ ...help, ...known?.facts });
  if (json) {
    const value = {
      error: known?.code ?? 'internal',
      message: reasonOf(error),
      ...(words ? { hint: words } : {}),
      facts: known?.facts ?? {},
    };
    print(1, `${JSON.stringify(value, null, 2)}\n`);
  } else {
    print(2, `mayfly: ${reasonOf(error)}\n${words ? `hint: ${words}\n` : ''}`);
    if (!known && error instanceof Error && process.argv.includes('--verbose')) print(2, `${error.stack}\n`);
  }
  return exit;
}
