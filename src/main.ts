/**
 * The entry point. It parses the arguments of hooks by hand; every other command loads the full command line. On the way
 * to a hook, nothing but Node's built-in modules may be imported, directly or indirectly: a user is waiting.
 */
import { isPerson } from './config/config.ts';
import { loadConfig } from './config/load.ts';
import { MayflyError, reasonOf } from './errors.ts';
import { parsePasswd } from './linux/accounts.ts';
import { print, redirectOutput } from './linux/command.ts';
import { logged } from './linux/log.ts';
import { identify } from './linux/process-id.ts';
import { type HookOptions, hookLimit, runHook } from './session/hook.ts';
import { needsOwnProcess, RUN_IT_YOURSELF } from './session/own-process.ts';
import { thisHost } from './state/machine.ts';

/**
 * Not with util.parseArgs, which costs a hook 1.2 % more CPU time (100 interleaved dry runs, Node 20).
 *
 * Parses `hook ADAPTER start|stop [--config FILE] [--caller PID] [--dry-run] [--quiet|--verbose]`; undefined for other
 * commands. Throws `usage`.
 */
function parseHookArgs(args: readonly string[]): HookOptions | undefined {
  if (args[0] !== 'hook' || args.includes('--help')) return undefined;
  const positionals: string[] = [];
  let config: string | undefined;
  let caller: number | undefined;
  let failed: string | undefined;
  let unanswered = false;
  let dryRun = false;
  let amount: HookOptions['amount'] = 'normal';
  for (let i = 1; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (arg === '--config') {
      config = args[++i] ?? '';
    } else if (arg.startsWith('--config=')) config = arg.slice('--config='.length);
    else if (arg === '--caller') {
      caller = Number(args[++i]);
      if (!(Number.isInteger(caller) && caller > 0))
        throw new MayflyError('usage', '--caller needs a process ID');
    } else if (arg === '--failed') failed = args[++i] ?? '';
    else if (arg === '--unanswered') unanswered = true;
    else if (arg === '--dry-run') dryRun = true;
    else if (arg === '--quiet') amount = 'quiet';
    else if (arg === '--verbose') amount = 'verbose';
    else positionals.push(arg);
  }
  if (config === '') throw new MayflyError('usage', '--config needs a file');
  // Without node:path, which would be one more module to load.
  if (config?.startsWith('/') === false) config = `${process.cwd()}/${config}`;
  const [adapter, action] = positionals;
  const known =
    (adapter === 'gdm' || adapter === 'lightdm' || adapter === 'pam') &&
    (action === 'start' || action === 'stop');
  if (!known || positionals.length > 2) {
    const given = ['hook', ...positionals].join(' ');
    throw new MayflyError('usage', `invalid command "${given}": use "hook gdm|lightdm|pam start|stop"`);
  }
  return { adapter, action, config, caller, failed, unanswered, dryRun, amount };
}

/**
 * Provided by the loader; saves the compiled code. It is called only after a session was started
 * or ended, also in a dry run. A refused login runs only a fraction of the code, so a cache saved then would make every
 * later login slower. (An export instead of this declaration would add esbuild's module code to every hook.)
 */
declare const keepCode: () => void;

/** Runs a hook; undefined for other commands. */
async function hook(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  inAgent?: Pick<HookOptions, 'client' | 'runner' | 'extend'>,
): Promise<number | undefined> {
  try {
    const hot = parseHookArgs(args);
    if (!hot) return undefined;
    const { code, complete } = await runHook({ ...hot, ...inAgent }, env);
    if (complete && !inAgent) keepCode();
    return code;
  } catch (error) {
    if (needsOwnProcess(error)) return RUN_IT_YOURSELF;
    return reportError(error);
  }
}

/** Answers hooks until the service ends it: see `session/agent.ts`. `file`: the configuration of a first dry run. */
async function agent(directory: string, file: string): Promise<number> {
  const { AsyncLocalStorage } = await import('node:async_hooks');
  const { serveHooks } = await import('./session/agent.ts');
  const outputs = new AsyncLocalStorage<(fd: 1 | 2, text: Uint8Array) => void>();
  redirectOutput((fd, text) => {
    outputs.getStore()?.(fd, text);
    return fd === 1 || outputs.getStore() !== undefined; // its own standard output is for the service
  });
  await serveHooks(thisHost, directory, process.argv[1] ?? '', {
    withOutput: (to, act) => outputs.run(to, act),
    async run({ args, env, client: pid }, runner, extend) {
      const client = identify(thisHost, pid);
      if (client === undefined) return RUN_IT_YOURSELF;
      return (await hook(args, env, { client, runner, extend })) ?? 1;
    },
    async limit(args) {
      const hot = parseHookArgs(args);
      if (!hot) throw new MayflyError('usage', 'this is no hook');
      return hookLimit(hot);
    },
    async warmUp() {
      await import('node:child_process'); // what every login loads
      const caller = ['--caller', `${process.pid}`, '--config', file, '--dry-run', '--quiet'];
      const drop = (): void => undefined;
      await outputs.run(drop, () => warmUp(file, caller));
      process.removeAllListeners('exit'); // where a dry run describes its effects
    },
  });
  return 0;
}

/** Dry runs of a login and a logout of the first account that a person has. */
async function warmUp(file: string, options: readonly string[]): Promise<void> {
  try {
    const config = await loadConfig(thisHost, file, true);
    const client = identify(thisHost, process.pid);
    const users = (thisHost.read('/etc/passwd') ?? '').split('\n').map(parsePasswd);
    const USER = users.find(u => u && isPerson(config, u.uid))?.name;
    for (const action of ['start', 'stop']) {
      const hot = parseHookArgs(['hook', 'pam', action, ...options]);
      if (hot && USER !== undefined) await runHook({ ...hot, client }, { USER });
    }
  } catch {
    // There is no generation yet, for example: then the first login takes a little longer.
  }
}

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  if (args[0] === 'agent' && args[1]?.startsWith('/')) return agent(args[1], args[2] ?? '');
  const code = await hook(args, process.env);
  if (code !== undefined) return code;
  try {
    process.cwd();
  } catch {
    // It has been removed. Relative paths lead into it all the same, also for children, which work in another one.
    process.cwd = () => `/proc/${process.pid}/cwd`;
  }
  const { runCli } = await import('./cli/cli.ts');
  return runCli(args);
}

async function reportError(error: unknown): Promise<number> {
  print(2, `mayfly: ${reasonOf(error)}\n`);
  if (!(error instanceof MayflyError)) return 1;
  const { adviceOn } = await import('./advice.ts');
  const { exit, hint } = adviceOn(error.code);
  const hintText = hint?.(error.facts);
  if (hintText) print(2, `hint: ${hintText}\n`);
  return exit;
}

/** Ends a hook. `process.exit` does the same, and Node would compile more for it: 1 % of a dry run. */
function endHook(code: number): void {
  process.emit('exit', code);
  const { reallyExit = process.exit } = process as { reallyExit?: (code: number) => void };
  reallyExit.call(process, code);
}

// Exit at once: everything has been written, and Node's normal exit takes another half millisecond.
main()
  .catch(reportError)
  .then(async code => {
    await logged();
    if (process.argv[2] === 'hook') endHook(code);
    else process.exit(code);
  });
