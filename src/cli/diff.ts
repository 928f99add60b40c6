/** The command that shows in what two generations differ. */
import { MayflyError } from '../errors.ts';
import { formatBytes } from '../size.ts';
import { generationNumbers, stableNumber, whyDemoted } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import { diffGenerations, type GenerationDiff } from '../update/diff.ts';
import { kindOf } from '../update/packages.ts';
import { mountPool } from '../update/pool.ts';
import { withUpdateLock } from '../update/update-lock.ts';
import type { CliCommand } from './command.ts';
import { table } from './format.ts';
import { parseGenerationNumber } from './usage-errors.ts';

const KINDS = ['new', 'changed', 'gone'] as const;

/** "3 changed, 1 gone"; "none" if there is nothing. Pure. */
function counted(all: readonly (typeof KINDS)[number][]): string {
  const parts = KINDS.map(kind => [all.filter(k => k === kind).length, kind] as const).filter(([n]) => n > 0);
  return parts.length === 0 ? 'none' : parts.map(([n, kind]) => `${n} ${kind}`).join(', ');
}

/** Files are small: less than a mebibyte counts, too. */
const sizeOf = (bytes: number): string =>
  bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : formatBytes(bytes);

/** The text of a comparison, with each file if `isLong`. Pure. */
export function diffText(
  from: number,
  to: number,
  { packages, files }: GenerationDiff,
  isLong: boolean,
): string {
  const growth = files.reduce((sum, f) => sum + f.after - f.before, 0);
  const size = growth === 0 ? 'the same size' : `${sizeOf(Math.abs(growth))} ${growth > 0 ? 'more' : 'less'}`;
  const rows = packages.map(p => [
    `  ${kindOf(p)}`,
    p.name,
    p.before === undefined || p.after === undefined
      ? (p.after ?? p.before ?? '')
      : `${p.before} -> ${p.after}`,
  ]);
  return [
    `generation ${from} -> ${to}`,
    `packages: ${counted(packages.map(kindOf))}`,
    ...(rows.length > 0 ? [table(rows)] : []),
    `files: ${counted(files.map(f => f.kind))}${files.length > 0 ? `, ${size}` : ''}`,
    ...(isLong && files.length > 0 ? [table(files.map(f => [`  ${f.kind}`, `/${f.path}`]))] : []),
  ].join('\n');
}

/** The generations to compare: by default the one before the stable one, and the stable one. */
function chosen(
  { host, paths }: Machine,
  from: number | undefined,
  to: number | undefined,
): [number, number] {
  const stable = stableNumber(host, paths);
  const after = to ?? stable;
  if (after === undefined) throw new MayflyError('no-generation', 'there is no stable generation');
  const earlier = generationNumbers(host, paths).filter(
    n => n < after && whyDemoted(host, paths, n) === undefined,
  );
  const before = from ?? earlier.at(-1);
  if (before === undefined)
    throw new MayflyError('no-generation', `there is no generation before ${after} to compare it with`);
  return [before, after];
}

export const diffCommand: CliCommand = {
  command: 'diff [from] [to]',
  lastGood: () => true,
  describe: 'show in what two generations differ: packages, files and size',
  positionals: {
    from: { type: 'string', describe: 'generation number (default: the one before stable)' },
    to: { type: 'string', describe: 'generation number (default: the stable one)' },
  },
  options: { files: { type: 'boolean', default: false, describe: 'list each file' } },
  async run(args, { machine, show }) {
    const [from, to] = [args.from, args.to].map(n =>
      n === undefined ? undefined : parseGenerationNumber(n),
    );
    const on = await machine();
    const pool = readPool(on.host, on.paths);
    if (!pool) throw new MayflyError('no-pool', 'there is no pool yet');
    const [before, after] = chosen(on, from, to);
    const found = await withUpdateLock(on, 'a comparison of generations', async () => {
      await mountPool(on, pool);
      return diffGenerations(on, before, after);
    });
    show({ from: before, to: after, ...found }, diffText(before, after, found, args.files === true));
    return 0;
  },
};
