/** Checks, creates and activates a pool on LVM. Not needed by a login. */
import { installHint } from '../../advice.ts';
import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import { missingModule } from '../../linux/kernel-module.ts';
import type { PoolSizes, Problem } from '../backend.ts';
import { only } from './commands.ts';
import { parsePoolPath, poolTag, roleIn } from './names.ts';
import { STEADY, sizeArguments } from './options.ts';
import type { Row } from './report.ts';

type LvmKind = 'lvm-thin' | 'lvm';

/** Returns what this machine lacks for the backend; empty if nothing. */
export async function checkLvm(kind: LvmKind, host: Host): Promise<Problem[]> {
  const problems: Problem[] = [];
  const needs = async (file: string, args: readonly string[]): Promise<void> => {
    try {
      await host.run({ file, args, effect: 'read' });
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== 'missing-tool') return;
      problems.push({ what: `the program "${file}" is not installed`, fix: installHint(file) });
    }
  };
  await needs('lvs', ['--version']);
  if (kind === 'lvm-thin') await needs('thin_check', ['--version']);
  const missing = await missingModule(host, kind === 'lvm-thin' ? 'dm-thin-pool' : 'dm-snapshot', false);
  if (missing) problems.push(missing);
  return problems;
}

/**
 * Creates the thin pool, or accepts one with our tag; classic volumes need none. Throws `unsafe` if a volume of
 * others has its name. `rows` is the report of the group.
 */
export async function preparePool(
  kind: LvmKind,
  host: Host,
  pool: string,
  rows: readonly Row[],
  sizes?: PoolSizes,
): Promise<void> {
  if (kind === 'lvm') return;
  const { group, name } = parsePoolPath(pool);
  if (!rows.some(r => r.tags.includes(poolTag(pool)))) {
    const foreign = rows.find(r => r.name === name);
    if (foreign)
      throw new MayflyError('unsafe', `"${group}/${name}" already exists and was not created by Mayfly`, {
        path: pool,
      });
    // A full pool returns errors at once, instead of blocking all writers for a minute: the session that fills it
    // fails, and its end frees space. Discards free space in the pool and are not passed on to the disk.
    const own = ['--errorwhenfull', 'y', '--discards', 'nopassdown', '--addtag', poolTag(pool)];
    const args = [
      '-q',
      ...STEADY,
      '-T',
      '-n',
      name,
      ...own,
      ...sizeArguments(sizes?.pool ?? '90%', 'FREE'),
      '--',
      group,
    ];
    await host.run({ file: 'lvcreate', args, effect: 'write' });
  }
  // A boot does not activate our volumes; `recover` does. lvcreate accepts this option for thick volumes only.
  const args = ['-q', ...STEADY, '--setautoactivation', 'n', '--', `${group}/${name}`];
  await host.run({ file: 'lvchange', args, effect: 'write' });
}

/**
 * Resumes volumes that a killed command left suspended, which blocks everything that writes to them, and activates
 * the thin pool. `lvchange --refresh` waits for the lock of the group, so that no running command needs the suspended
 * state.
 */
export async function activatePool(
  kind: LvmKind,
  pool: string,
  rows: readonly Row[],
  change: (file: string, args: readonly string[]) => Promise<void>,
): Promise<void> {
  const { group } = parsePoolPath(pool);
  const ours = (row: Row): boolean =>
    row.tags.includes(poolTag(pool)) || roleIn(pool, kind, row) !== undefined;
  const thin = rows.find(r => r.tags.includes(poolTag(pool)));
  const needed = [
    ...rows.filter(r => r.suspended && ours(r)).map(r => ['--refresh', ...only(r)]),
    ...(kind === 'lvm-thin' && thin && !thin.active ? [['-ay', '-K', ...only(thin)]] : []),
  ];
  const failed: unknown[] = [];
  // A volume that cannot be resumed does not stop the others. The first error is thrown; the next recovery tries
  // again.
  for (const args of needed)
    await change('lvchange', [...args, '--', group]).catch(error => failed.push(error));
  if (failed.length > 0) throw failed[0];
}

/**
 * Whether LVM extends the thin pool automatically, as text. It does so only if lvm.conf(5) sets a threshold below
 * 100; a full pool fails all sessions in it.
 */
export async function describeGrowth(host: Host): Promise<string> {
  const args = ['--typeconfig', 'full', 'activation/thin_pool_autoextend_threshold'];
  const out = await host.run({ file: 'lvmconfig', args, effect: 'read', okCodes: [0, 5] });
  const threshold = Number(/=(\d+)/.exec(out.stdout)?.[1] ?? '100');
  return threshold < 100
    ? `LVM extends the thin pool automatically above ${threshold} % while dmeventd(8) runs; if it cannot, it creates no new volumes`
    : 'LVM does not extend the thin pool automatically: activation/thin_pool_autoextend_threshold in lvm.conf(5) is 100';
}
