/** Whether generations are as they were sealed: what changes in one changes under the sessions that use it. */
import { REMEDY } from '../../advice.ts';
import {
  generationNumbers,
  generationPath,
  readableGeneration,
  stableNumber,
} from '../../state/generations.ts';
import { isUsable } from '../../update/health.ts';
import { type CheckResult, check, found, notApplicable, problem, type Subject, warning } from './check.ts';
import { goodGenerations, replacementFor } from './generations.ts';

/** A generation with a file that was changed after the generation was sealed. */
export interface BrokenSeal {
  readonly number: number;
  /** Path in the tree. */
  readonly changed: string;
  readonly record: string;
}

export interface Seals {
  readonly stable: number | undefined;
  /** The numbers of usable generations that were not demoted, ascending. */
  readonly good: readonly number[];
  readonly broken: readonly BrokenSeal[];
}

export function judgeSeals(s: Seals | undefined): CheckResult {
  if (!s) return notApplicable('there is no generation in a directory');
  const intact = s.good.filter(n => !s.broken.some(b => b.number === n));
  return found(
    s.broken.map(({ number, changed, record }) => {
      const what = `generation ${number} was changed after it was sealed, at least "${changed}": a session may see the old or the new file, or an error`;
      return number === s.stable
        ? problem(what, replacementFor(intact, number))
        : warning(what, `mv ${record} ${record.replace(/json$/, 'retired')} && ${REMEDY.recover}`);
    }),
    'as they were sealed',
  );
}

async function gatherSeals(on: Subject): Promise<Seals | undefined> {
  const { host, paths } = on;
  const broken: BrokenSeal[] = [];
  let isAny = false;
  for (const number of generationNumbers(host, paths)) {
    const g = readableGeneration(host, paths, number);
    const tree = g && on.backend(g.volume.backend).path(g.volume);
    if (!g || tree === undefined || !(await isUsable(on, g))) continue;
    isAny = true;
    // No program can set the time of the last change of an inode. The record has whole milliseconds, and the last act of
    // sealing can be in the same one; file systems count finer.
    const newer = ['-newerct', `@${(Date.parse(g.moved ?? g.created) + 1) / 1000}`];
    const args = [tree, '-xdev', ...newer, '-printf', '/%P\n', '-quit'];
    const { stdout } = await host.run({ file: 'find', args, effect: 'read' });
    if (stdout !== '')
      broken.push({ number, changed: stdout.trimEnd(), record: generationPath(paths, number) });
  }
  if (!isAny) return undefined;
  return { stable: stableNumber(host, paths), good: await goodGenerations(on), broken };
}

export const sealCheck = check({
  group: 'generations',
  title: 'unchanged',
  gather: gatherSeals,
  evaluate: judgeSeals,
});
