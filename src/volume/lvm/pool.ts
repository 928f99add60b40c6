/** The pool of logical volumes as a whole: can it be, making it, and having it there. Never on the way of a login. */
import { installHint } from '../../advice.ts';
import { MayflyError, reasonOf } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import type { PoolSizes, Problem } from '../backend.ts';
import { only } from './commands.ts';
import { parsePoolPath, poolTag, roleIn } from './names.ts';
import { STEADY, sizeArguments } from './options.ts';
import type { Row } from './report.ts';

type LvmKind = 'lvm-thin' | 'lvm';

/** What this machine lacks. */
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
  const module = kind === 'lvm-thin' ? 'dm-thin-pool' : 'dm-snapshot';
  try {
    // Whether it could be: LVM loads it by itself.
    await host.run({ file: 'modprobe', args: ['--dry-run', '--', module], effect: 'read' });
  } catch (error) {
    problems.push({ what: `this kernel has no ${module} (${reasonOf(error)})`, fix: `modprobe ${module}` });
  }
  return problems;
}

/** Makes the thin pool, or accepts the one that is ours; classic volumes need none. */
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
      throw new MayflyError('unsafe', `"${group}/${name}" is there already and not ours`, { path: pool });
    // Full, it answers with an error at once instead of having everybody wait for a minute: a session that fills the
    // pool fails, and its end makes room. Discards free room in the pool and are not passed on to the disk.
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
  // Nothing of ours is activated by a boot; `recover` does it. lvcreate takes this option for thick volumes only.
  const args = ['-q', ...STEADY, '--setautoactivation', 'n', '--', `${group}/${name}`];
  await host.run({ file: 'lvchange', args, effect: 'write' });
}

/**
 * Resumes what a killed command left suspended, which makes everybody wait who writes to it, and activates the thin
 * pool. `lvchange --refresh` waits for whoever is at work in the group, so that what it finds suspended is nobody's.
 */
export async function activatePool(
  kind: LvmKind,
  pool: string,
  rows: readonly Row[],
  act: (file: string, args: readonly string[]) => Promise<void>,
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
  // One that can not be resumed does not keep the others suspended. The first reason is told; the next recovery asks anew.
  for (const args of needed) await act('lvchange', [...args, '--', group]).catch(error => failed.push(error));
  if (failed.length > 0) throw failed[0];
}

/**
 * Whether the thin pool grows by itself, in words. A full one fails everybody in it: who wants it to grow must say so
 * to LVM (lvm.conf(5)), which never takes 100 for a threshold.
 */
export async function sayGrowth(host: Host): Promise<string> {
  const args = ['--typeconfig', 'full', 'activation/thin_pool_autoextend_threshold'];
  const out = await host.run({ file: 'lvmconfig', args, effect: 'read', okCodes: [0, 5] });
  const threshold = Number(/=(\d+)/.exec(out.stdout)?.[1] ?? '100');
  return threshold < 100
    ? `LVM extends the thin pool by itself above ${threshold} %, while dmeventd(8) runs; where it can not, it makes no new volumes`
    : 'LVM does not extend the thin pool by itself: activation/thin_pool_autoextend_threshold in lvm.conf(5) is 100';
}
