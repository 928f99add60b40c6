/** Runs test files inside user-mode Linux and tells of each test in them as of one of ours. */
import * as fs from 'node:fs';
import { describe, it } from 'vitest';
import { LONG, SEED } from '../campaign.ts';
import { type Ended, Uml } from './machine.ts';

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
  /** A pattern of the names of tests; MAYFLY_TEST_NAME stands in its place. */
  readonly only?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly disks?: readonly string[];
  /** Puts what the tests need into the directory that the machine sees as /exchange. */
  readonly prepare?: (exchange: string) => void;
  /** It has random cases: tells their seed at the start, and where one fails. */
  readonly seeded?: boolean;
  /** The most it may take. */
  readonly seconds?: number;
}

export const BACKENDS = (process.env.MAYFLY_TEST_BACKENDS ?? 'lvm-thin,lvm').split(',');

/**
 * One of them by chance, by the seed that is printed: what is the same on both is done on one in a short run, because an
 * emulated machine is slow.
 */
export const ONE_BACKEND =
  LONG || process.env.MAYFLY_TEST_BACKENDS
    ? BACKENDS
    : BACKENDS.filter((_, i, all) => i === SEED % all.length);

/** Passed on, so that the same things are done inside. */
const PASSED_ON = ['MAYFLY_LONG', 'MAYFLY_ROUNDS', 'CI'];

/** One boot, while the tests are collected: only then is it known which tests there are. Returns what it printed. */
export async function inside(name: string, run: Run): Promise<string> {
  const { seconds = 3600 } = run;
  const seed = run.seeded ? `MAYFLY_SEED=${SEED}: ${name}` : undefined;
  if (seed !== undefined) console.log(seed);
  const { ended, results } = await boot(name, run, seconds);
  describe(`in user-mode Linux: ${name}`, () => {
    it('ran to its end', () => {
      const [passed, failed] = ['passed', 'failed'].map(is => results.some(r => r.status === is));
      // Failed tests tell themselves below; a run that failed without one, or that tested nothing, is told of here.
      if (ended.code === undefined || (ended.code !== 0 && !failed) || !(passed || failed))
        throw new Error(
          `${seed ?? name}: exit code ${ended.code}: ${ended.output.slice(-4000)}\n${ended.console.slice(-2000)}`,
        );
    });
    for (const r of results) {
      const skipped = r.status === 'pending' || r.status === 'skipped';
      // With -t all other tests are skipped; one that does not apply to a backend is counted by the summary.
      if (skipped && !r.title.includes(' [not applicable: ')) continue;
      const tell = (): void =>
        it.skipIf(skipped)(r.title, () => {
          if (r.status !== 'passed')
            throw new Error([...(seed ? [seed] : []), ...r.failureMessages].join('\n'));
        });
      if (r.ancestorTitles.length > 0) describe(r.ancestorTitles.join(' '), tell);
      else tell();
    }
  });
  return ended.output;
}

async function boot(name: string, run: Run, seconds: number): Promise<{ ended: Ended; results: Result[] }> {
  const env: Record<string, string> = { MAYFLY_TEST_VG: 'vg-test', MAYFLY_TEST_SLOW: '60', ...run.env };
  if (run.seeded) env.MAYFLY_SEED = String(SEED);
  for (const key of PASSED_ON) if (process.env[key] !== undefined) env[key] ??= process.env[key];
  const words = Object.entries(env).map(([k, v]) => `${k}='${v}'`);
  const only = process.env.MAYFLY_TEST_NAME ?? run.only;
  const vitest = [
    ...['/runner/node', 'node_modules/vitest/vitest.mjs', 'run', '--configLoader=runner'],
    ...[`--testTimeout=${seconds}000`, `--hookTimeout=${seconds}000`, ...run.arguments],
    ...(only === undefined ? [] : ['-t', `'${only}'`]),
    ...['--reporter=verbose', '--reporter=json', '--outputFile.json=/exchange/result.json'],
  ];
  const machine = new Uml(run.disks);
  try {
    run.prepare?.(machine.exchange(''));
    const command = `PATH=/runner:$PATH ${words.join(' ')} ${vitest.join(' ')}`;
    const ended = await machine.boot(`vgcreate -q vg-test /dev/ubdb && ${command}\n`, seconds);
    const path = machine.exchange('result.json');
    const results = fs.existsSync(path) ? resultsOf(JSON.parse(fs.readFileSync(path, 'utf8'))) : [];
    return { ended, results };
  } finally {
    machine.close(name);
  }
}

interface Report {
  readonly testResults: readonly {
    readonly assertionResults: readonly Result[];
    readonly message: string;
    readonly status: string;
    readonly name: string;
  }[];
}

/** Of each test; a file that could not be run is one that failed. */
function resultsOf(report: Report): Result[] {
  return report.testResults.flatMap(({ assertionResults, message, name, status }) =>
    assertionResults.length > 0 || status === 'passed'
      ? assertionResults
      : [{ fullName: name, title: name, ancestorTitles: [], status: 'failed', failureMessages: [message] }],
  );
}
