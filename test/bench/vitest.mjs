// Benchmarks made of what the tests are made of, which is TypeScript: vitest runs them.
import { existsSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './measure.mjs';
import { scratch } from './sandbox.mjs';

const project = fileURLToPath(new URL('../..', import.meta.url));

/** A benchmark that is test/bench/NAME.test.ts. */
export const inVitest =
  name =>
  ({ rounds }) => {
    const rows = `${scratch}/${name}.rows`;
    const PATH = `${dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin`;
    const words = ['run', '--project', 'bench', `test/bench/${name}.test.ts`];
    const ended = run(process.execPath, ['node_modules/vitest/vitest.mjs', ...words], {
      cwd: project,
      env: { PATH, MAYFLY_ROWS: rows, MAYFLY_BENCH_ROUNDS: String(rounds) },
      expect: [0, 1],
    });
    if (ended.code !== 0) throw new Error(`vitest ${words.join(' ')}: ${ended.stdout}${ended.stderr}`);
    const lines = existsSync(rows) ? readFileSync(rows, 'utf8').trim().split('\n') : [];
    return lines.map(line => JSON.parse(line));
  };
