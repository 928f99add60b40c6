/** Runs test files inside user-mode Linux and tells of each test in them as of one of ours. */
import * as fs from 'node:fs';
import { describe, it } from 'vitest';
import { tarball } from '../system/lab.ts';
import { Uml } from './machine.ts';

interface Result {
  readonly fullName: string;
  readonly title: string;
  readonly ancestorTitles: readonly string[];
  readonly status: string;
  readonly duration?: number;
  readonly failureMessages: readonly string[];
}

interface Run {
  /** What vitest's command line is given. */
  readonly arguments: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly disks?: readonly string[];
}

/** Passed on, so that the numbers of kills and rounds are the same inside. */
const PASSED_ON = ['MAYFLY_TEST_KILLS', 'MAYFLY_TEST_ROUNDS', 'MAYFLY_TEST_NAME', 'CI'];

/** One boot, while the tests are collected: only then is it known which tests there are. */
export async function inside(name: string, run: Run): Promise<void> {
  tarball(); // is made outside, where apt works
  const machine = new Uml(run.disks);
  const env = { ...run.env };
  for (const key of PASSED_ON) if (process.env[key] !== undefined) env[key] ??= process.env[key];
  const words = Object.entries({ MAYFLY_TEST_VG: 'vg-test', MAYFLY_TEST_SLOW: '10', ...env }).map(
    ([k, v]) => `${k}='${v}'`,
  );
  const only = process.env.MAYFLY_TEST_NAME;
  const vitest = [
    ...[
      '/runner/node',
      'node_modules/vitest/vitest.mjs',
      'run',
      '--configLoader=runner',
      '--testTimeout=3600000',
      '--hookTimeout=3600000',
      ...run.arguments,
    ],
    ...(only === undefined ? [] : ['-t', `'${only}'`]),
    ...['--reporter=verbose', '--reporter=json', '--outputFile.json=/exchange/result.json'],
  ];
  const ended = await machine.boot(
    `vgcreate -q vg-test /dev/ubdb && PATH=/runner:$PATH ${words.join(' ')} ${vitest.join(' ')}\n`,
    3600,
  );
  const path = machine.exchange('result.json');
  const results: Result[] = fs.existsSync(path)
    ? JSON.parse(fs.readFileSync(path, 'utf8')).testResults.flatMap(
        (f: { assertionResults: Result[]; message: string; status: string; name: string }) =>
          f.assertionResults.length > 0 || f.status === 'passed'
            ? f.assertionResults
            : [
                {
                  ...{ fullName: f.name, title: f.name, ancestorTitles: [] },
                  ...{ status: 'failed', failureMessages: [f.message] },
                },
              ],
      )
    : [];
  machine.close(name);
  describe(`in user-mode Linux: ${name}`, () => {
    it('ran to its end', () => {
      const [passed, failed] = ['passed', 'failed'].map(is => results.some(r => r.status === is));
      // Failed tests tell themselves below; a run that failed without one, or that tested nothing, is told of here.
      if (ended.code === undefined || (ended.code !== 0 && !failed) || !(passed || failed))
        throw new Error(
          `exit code ${ended.code}: ${ended.output.slice(-4000)}\n${ended.console.slice(-2000)}`,
        );
    });
    for (const r of results) {
      const skipped = r.status === 'pending' || r.status === 'skipped';
      // With -t all other tests are skipped; one that does not apply to a backend is counted by the summary.
      if (skipped && !r.title.includes(' [not applicable: ')) continue;
      const tell = (): void =>
        it.skipIf(skipped)(r.title, () => {
          if (r.status !== 'passed') throw new Error(r.failureMessages.join('\n'));
        });
      if (r.ancestorTitles.length > 0) describe(r.ancestorTitles.join(' '), tell);
      else tell();
    }
  });
}
