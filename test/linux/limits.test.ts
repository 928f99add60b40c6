/** Limits of the caller's shell do not reach what a command starts. */
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { resetLimits } from '../../src/linux/limits.ts';

it('soft limits that a shell has set are taken back', () => {
  const { file, args } = resetLimits(0);
  const reset = args.slice(0, -1); // the shell itself instead of the process ID
  const script =
    'ulimit -S -f 64; ulimit -S -v 60000000; ulimit -S -n 99; "$@" $$; ulimit -f; ulimit -v; ulimit -n';
  const run = spawnSync('sh', ['-c', script, 'sh', file, ...reset], { encoding: 'utf8' });
  const hard = spawnSync('sh', ['-c', 'ulimit -H -f; ulimit -H -v'], { encoding: 'utf8' }).stdout;
  expect(run.stdout).toBe(`${hard}1024\n`);
});
