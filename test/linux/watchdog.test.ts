/** The watchdog of a hook, with real processes. */
import { spawn, spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { watchdogCommand } from '../../src/linux/time-limits.ts';

/** Stands for the shell's own pid. */
const PID = 987_654_321;

/** A shell that starts its watchdog and then runs `script`; resolves with its exit code or signal when it has ended. */
async function hook(seconds: number, script: string): Promise<{ end: unknown; watchdog: number }> {
  const { file, args } = watchdogCommand(PID, seconds, 'a test');
  const quoted = args.map(arg => (arg === `${PID}` ? '$$' : `'${arg.replaceAll("'", `'\\''`)}'`));
  const watchdog = `${file} ${quoted.join(' ')} </dev/null >/dev/null 2>&1 &`;
  const child = spawn('sh', ['-c', `${watchdog} echo $!; ${script}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', data => {
    out += data;
  });
  const end = await new Promise(yes => child.once('close', (code, signal) => yes(signal ?? code)));
  return { end, watchdog: Number(out) };
}

const isGone = (pid: number): boolean => {
  const state = spawnSync('cat', [`/proc/${pid}/stat`], { encoding: 'utf8' }).stdout;
  return state === '' || / Z /.test(state);
};

it('ends a hook that hangs', async () => {
  expect((await hook(1, 'exec sleep 1000')).end).toBe('SIGTERM');
});

it('ends a hook that does not hear SIGTERM', async () => {
  expect((await hook(0, 'kill -STOP $$')).end).toBe('SIGKILL');
});

it('ends with the hook', async () => {
  const { end, watchdog } = await hook(1000, 'exit 3');
  expect(end).toBe(3);
  while (!isGone(watchdog)) await new Promise(yes => setTimeout(yes, 20));
});
