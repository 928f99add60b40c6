/** Asking and telling LVM, for both kinds of volumes: what there is, activating it, and what its refusals mean. */
import { MayflyError } from '../errors.ts';
import type { Host } from '../host.ts';
import { describeHolders, findHolders } from '../processes.ts';
import type { Volume } from './backend.ts';
import { diagnose, isFull, lvNameOf, parseReport, placeOf, type Row, reportArguments, tagOf } from './lvs.ts';

/** A path in a group, as the commands take it. */
export const inGroup = (pool: string, name: string): string => `${placeOf(pool).group}/${name}`;

/** What a command is done to: the volume with this UUID, whatever it is called by now. */
export const only = (row: Row): string[] => ['-S', `lv_uuid="${row.uuid}"`];

/** st_dev of a device's file system (makedev(3)). */
const deviceNumber = (row: Pick<Row, 'major' | 'minor'>): number =>
  (row.major & 0xfff) * 256 + (row.minor & 0xff) + (row.minor & ~0xff) * 4096;

/** Milliseconds for which an answer is as good as a new one to whoever only wants to know how much room there is. */
const FRESH = 1000;

export function lvmOn(host: Host) {
  let last: { readonly pool: string; readonly rows: Row[]; readonly at: number } | undefined;

  async function report(pool: string): Promise<Row[]> {
    const args = reportArguments(placeOf(pool).group);
    const rows = parseReport((await host.run({ file: 'lvs', args, effect: 'read' })).stdout);
    last = { pool, rows, at: host.now() };
    return rows;
  }

  /** The last answer, unless it is old or we have changed something since. */
  const lately = async (pool: string): Promise<Row[]> =>
    last?.pool === pool && host.now() - last.at < FRESH ? last.rows : report(pool);

  /** Runs a command of LVM's; what it fails of is put in words an administrator can use. */
  async function act(
    pool: string,
    file: string,
    args: readonly string[],
    fds: readonly number[] = [],
  ): Promise<void> {
    last = undefined;
    try {
      await host.run({ file, args: ['-q', ...args], effect: 'write', fds });
    } catch (error) {
      const stderr =
        error instanceof MayflyError && error.code === 'command' ? String(error.facts.stderr) : '';
      const problem = diagnose(pool, stderr);
      if (problem) throw new MayflyError('refused', problem.what, { pool, hint: problem.mend });
      if (isFull(stderr)) {
        const [first = ''] = stderr.trim().split('\n').slice(-1);
        throw new MayflyError('full', `there is no room for it in "${pool}": ${first.trim()}`, { pool });
      }
      throw error;
    }
  }

  const rowOf = (rows: readonly Row[], v: Volume): Row | undefined => {
    const tags = [tagOf(v), tagOf(v, true)];
    const mine = rows.filter(r => r.tags.some(t => tags.includes(t)));
    if (mine.length > 1)
      throw new MayflyError(
        'unsafe',
        `${mine.length} volumes in "${v.pool}" say they are ${v.role} ${v.name}`,
      );
    return mine[0];
  };

  function mustExist(rows: readonly Row[], v: Volume): Row {
    const row = rows.find(r => r.tags.includes(tagOf(v)));
    if (row) return row;
    throw new MayflyError('no-generation', `the ${v.role} volume "${v.name}" is not there`, { pool: v.pool });
  }

  function mustBeAbsent(rows: readonly Row[], v: Volume): void {
    const name = lvNameOf(v, host.random);
    if (rowOf(rows, v) ?? rows.find(r => r.name === name))
      throw new MayflyError('exists', `the volume "${inGroup(v.pool, name)}" exists already`, {
        pool: v.pool,
      });
  }

  const activate = (v: Volume, row: Row): Promise<void> =>
    act(v.pool, 'lvchange', ['-ay', '-K', ...only(row), '--', placeOf(v.pool).group]);

  /** Who has the device open, in words. */
  function holdersOf(row: Row): string {
    const device = `${row.major}:${row.minor}`;
    const holders = findHolders(host, new Set([deviceNumber(row)]), { device, root: '' });
    const above = host.list(`/sys/dev/block/${device}/holders`);
    if (holders.length > 0) return describeHolders(holders);
    return above.length > 0 ? `the device ${above.join(', ')}` : 'the kernel has its device open';
  }

  function stuck(v: Volume, row: Row, error: unknown): never {
    const open = error instanceof MayflyError && error.code === 'command';
    if (!open || !/in use|is used by|busy/i.test(String(error.facts.stderr))) throw error;
    const path = inGroup(v.pool, row.name);
    throw new MayflyError('stuck', `the volume "${path}" is in use: ${holdersOf(row)}`, { path });
  }

  /** LVM itself tries for five seconds, which outlasts what udev and blkid do with a device that was just closed. */
  async function deactivate(v: Volume, row: Row): Promise<void> {
    try {
      await act(v.pool, 'lvchange', ['-an', ...only(row), '--', placeOf(v.pool).group]);
    } catch (error) {
      stuck(v, row, error);
    }
  }

  return { report, lately, act, rowOf, mustExist, mustBeAbsent, activate, deactivate, holdersOf, stuck };
}
