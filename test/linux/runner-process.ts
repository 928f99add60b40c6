/** A process that runs one command with a runner and may end before it. Bundled by runner.contract.ts. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { monotonic } from '../../src/linux/clock.ts';
import { execaRunner } from '../../src/linux/execa-runner.ts';
import { leanRunner } from '../../src/linux/lean-runner.ts';

const [, , name, mode = '', json = '{}'] = process.argv;
const runner = name === 'execa' ? execaRunner : leanRunner;
const command = JSON.parse(json);

/** Far, but finite, so that the runner sets up its timer. */
const far = monotonic() + 600_000;

async function main(): Promise<number> {
  if (mode === 'interactive' || mode === 'own') {
    const ended = runner.runInteractive?.(command, mode === 'own');
    // Before anything else can run: the program must be started by now.
    if (command.children)
      writeFileSync(command.children, readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8'));
    return (await ended) ?? 99;
  }
  const running = runner.run(command, far);
  if (mode === 'leave') {
    while (!existsSync(command.started)) await new Promise(yes => setTimeout(yes, 10));
    return 0;
  }
  console.log(JSON.stringify(await running));
  return 0;
}

main().then(
  code => process.exit(code),
  error => {
    console.log(JSON.stringify({ error: error.code, message: error.message }));
    process.exit(1);
  },
);
