/**
 * The entry point. The hot verbs are taken apart by hand; everything else loads the command line proper. Nothing
 * but Node's built-ins may be imported, however deep, on the way to a hook: a person waits for it.
 */
import { adviceOn } from './advice.ts';
import { MayflyError, reasonOf } from './errors.ts';
import { print } from './linux/command.ts';
import { logged } from './linux/log.ts';
import { type HookOptions, runHook } from './session/hook.ts';

/**
 * By hand, as util.parseArgs costs a hook 1.2 % more CPU time (100 interleaved dry runs, Node 20).
 *
 * `hook ADAPTER start|stop [--config FILE] [--caller PID] [--dry-run] [--quiet|--verbose]`; undefined for any other
 * command line.
 */
function parseHookArgs(args: readonly string[]): HookOptions | undefined {
  if (args[0] !== 'hook' || args.includes('--help')) return undefined;
  const words: string[] = [];
  let config: string | undefined;
  let caller: number | undefined;
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
        throw new MayflyError('usage', '--caller needs a process');
    } else if (arg === '--dry-run') dryRun = true;
    else if (arg === '--quiet') amount = 'quiet';
    else if (arg === '--verbose') amount = 'verbose';
    else words.push(arg);
  }
  if (config === '') throw new MayflyError('usage', '--config needs a file');
  // By hand: node:path would be one more module to load.
  if (config?.startsWith('/') === false) config = `${process.cwd()}/${config}`;
  const [adapter, action] = words;
  const known =
    (adapter === 'gdm' || adapter === 'lightdm' || adapter === 'pam') &&
    (action === 'start' || action === 'stop');
  if (!known || words.length > 2) {
    throw new MayflyError('usage', `"hook ${words.join(' ')}" is not known: hook gdm|lightdm|pam start|stop`);
  }
  return { adapter, action, config, caller, dryRun, amount };
}

/**
 * The loader's: called where a session was made or ended, or a dry run told all of that. A refused login runs a
 * fraction of the code; what it leaves as the cache of compiled code would make every later login slower. (An export
 * would cost every hook esbuild's machinery for it.)
 */
declare const keepCode: () => void;

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  try {
    const hot = parseHookArgs(args);
    if (hot) {
      const { code, complete } = await runHook(hot, process.env);
      if (complete) keepCode();
      return code;
    }
  } catch (error) {
    return reportError(error);
  }
  const { runCli } = await import('./cli/cli.ts');
  return runCli(args);
}

function reportError(error: unknown): number {
  print(2, `mayfly: ${reasonOf(error)}\n`);
  if (!(error instanceof MayflyError)) return 1;
  const { exit, hint } = adviceOn(error.code);
  const words = hint?.(error.facts);
  if (words) print(2, `hint: ${words}\n`);
  return exit;
}

// At once: everything is written, and node's own way out costs another half a millisecond.
main()
  .catch(reportError)
  .then(async code => {
    await logged();
    process.exit(code);
  });
