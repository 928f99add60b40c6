/** Asking and telling LVM, for both kinds of volumes: what there is, activating it, and what its refusals mean. */
import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import { describeHolders, findHolders } from '../../linux/processes.ts';
import type { Volume } from '../backend.ts';
import { lvNameOf, parsePoolPath, tagOf } from './names.ts';
import { STEADY } from './options.ts';
import { parseReport, type Row, reportArguments } from './report.ts';
import { diagnose, isFull } from './usage.ts';

/** A path in a group, as the commands take it. */
export const inGroup = (pool: string, name: string): string => `${parsePoolPath(pool).group}/${name}`;

/** What a command is done to: the volume with this UUID, whatever it is called by now. */
export const only = (row: Row): string[] => ['-S', `lv_uuid="${row.uuid}"`];

/** st_dev of a device's file system (makedev(3)). */
const deviceNumber = (row: Pick<Row, 'major' | 'minor'>): number =>
  (row.major & 0xfff) * 256 + (row.minor & 0xff) + (row.minor & ~0xff) * 4096;

/** Milliseconds for which an answer is as good as a new one to whoever only wants to know how much room there is. */
const FRESH = 1000;

/** Of a deactivation. */
const DEACTIVATE_TRIES = 3;

const saysInUse = (error: unknown): boolean =>
  error instanceof MayflyError &&
  error.code === 'command' &&
  /Logical volume .*(in use|is used by)|device or resource busy/i.test(String(error.facts.stderr));

/** A failure of LVM's own as a reason to refuse a login: it does not speak against the generation. */
export function refusal(error: unknown, pool: string): unknown {
  if (!(error instanceof MayflyError) || error.code !== 'command') return error;
  const hint = `lvs -a ${parsePoolPath(pool).group}`;
  return new MayflyError('refused', error.message, { pool, hint }, { cause: error });
}

export function lvmCommands(host: Host) {
  let last: { readonly pool: string; readonly rows: Row[]; readonly at: number } | undefined;

  async function report(pool: string): Promise<Row[]> {
    const args = reportArguments(parsePoolPath(pool).group);
    let stdout: string;
    try {
      ({ stdout } = await host.run({ file: 'lvs', args, effect: 'read' }));
    } catch (error) {
      throw refusal(inWords(pool, error), pool);
    }
    const rows = parseReport(stdout);
    last = { pool, rows, at: host.now() };
    return rows;
  }

  /** What LVM refused, in words an administrator can use. None of it speaks against the volume that was wanted. */
  function inWords(pool: string, error: unknown): unknown {
    if (!(error instanceof MayflyError) || error.code !== 'command') return error;
    const stderr = String(error.facts.stderr);
    const problem = diagnose(pool, stderr);
    if (problem) return new MayflyError('refused', problem.what, { pool, hint: problem.fix });
    if (!isFull(stderr)) return error;
    const [first = ''] = stderr.trim().split('\n').slice(-1);
    return new MayflyError('full', `there is no room for it in "${pool}": ${first.trim()}`, { pool });
  }

  /** The last answer, unless it is old or we have changed something since. */
  const lately = async (pool: string): Promise<Row[]> =>
    last?.pool === pool && host.now() - last.at < FRESH ? last.rows : report(pool);

  /** Runs a command of LVM's; what it fails of is put {@link inWords}. */
  async function act(
    pool: string,
    file: string,
    args: readonly string[],
    fds: readonly number[] = [],
  ): Promise<void> {
    last = undefined;
    try {
      await host.run({
        file,
        args: ['-q', ...STEADY, ...args],
        effect: 'write',
        inheritFds: fds,
        closesInheritedFds: true,
      });
    } catch (error) {
      throw inWords(pool, error);
    }
  }

  /** Finished or not. There is one, unless somebody added tags by hand. */
  const rowsOf = (rows: readonly Row[], v: Volume): Row[] => {
    const tags = [tagOf(v), tagOf(v, true)];
    return rows.filter(r => r.tags.some(t => tags.includes(t)));
  };

  const rowOf = (rows: readonly Row[], v: Volume): Row | undefined => {
    const mine = rowsOf(rows, v);
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
    act(v.pool, 'lvchange', ['-ay', '-K', ...only(row), '--', parsePoolPath(v.pool).group]);

  /** Who has the device open, in words. */
  function holdersOf(row: Row): string {
    const device = `${row.major}:${row.minor}`;
    const holders = findHolders(host, new Set([deviceNumber(row)]), { device, root: '' });
    const above = host.list(`/sys/dev/block/${device}/holders`);
    if (holders.length > 0) return describeHolders(holders);
    return above.length > 0 ? `the device ${above.join(', ')}` : 'the kernel has its device open';
  }

  function stuck(v: Volume, row: Row, error: unknown): never {
    if (!saysInUse(error)) throw error;
    const path = inGroup(v.pool, row.name);
    throw new MayflyError('stuck', `the volume "${path}" is in use: ${holdersOf(row)}`, { path });
  }

  /**
   * LVM itself tries for five seconds, which outlasts what udev and blkid do with a device that was just closed. It
   * gives up at once where it sees a file system mounted, also one whose unmounting has not reached its end.
   */
  async function deactivate(v: Volume, row: Row): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await act(v.pool, 'lvchange', ['-an', ...only(row), '--', parsePoolPath(v.pool).group]);
      } catch (error) {
        if (tries === DEACTIVATE_TRIES || !saysInUse(error)) stuck(v, row, error);
        await host.sleep(100 * tries);
      }
    }
  }

  return {
    report,
    lately,
    act,
    rowOf,
    rowsOf,
    mustExist,
    mustBeAbsent,
    activate,
    deactivate,
    holdersOf,
    stuck,
  };
}
