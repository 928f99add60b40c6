/** Runs LVM's commands for both kinds of volumes: reports, activation, and the translation of LVM's errors. */
import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import { describeHolders, findHolders } from '../../linux/processes.ts';
import type { Volume } from '../backend.ts';
import { lvNameOf, parsePoolPath, tagOf } from './names.ts';
import { STEADY } from './options.ts';
import { parseReport, type Row, reportArguments } from './report.ts';
import { diagnose, isFull } from './usage.ts';

/** A volume's path, `GROUP/NAME`, as LVM's commands take it. */
export const inGroup = (pool: string, name: string): string => `${parsePoolPath(pool).group}/${name}`;

/** Arguments that select the volume with this UUID, whatever its name is by now. */
export const only = (row: Row): string[] => ['-S', `lv_uuid="${row.uuid}"`];

/** st_dev of a device's file system (makedev(3)). */
const deviceNumber = (row: Pick<Row, 'major' | 'minor'>): number =>
  (row.major & 0xfff) * 256 + (row.minor & 0xff) + (row.minor & ~0xff) * 4096;

/** Milliseconds for which a report is recent enough to tell the usage of a pool. */
const FRESH = 1000;

/** Attempts to deactivate a volume. */
const DEACTIVATE_TRIES = 3;

const saysInUse = (error: unknown): boolean =>
  error instanceof MayflyError &&
  error.code === 'command' &&
  /Logical volume .*(in use|is used by)|device or resource busy/i.test(String(error.facts.stderr));

/**
 * Turns a failed LVM command (`command`) into `refused`: it is a reason to refuse the login, but not a fault of the
 * generation. Other errors are returned unchanged.
 */
export function refusal(error: unknown, pool: string): unknown {
  if (!(error instanceof MayflyError) || error.code !== 'command') return error;
  const hint = `lvs -a ${parsePoolPath(pool).group}`;
  return new MayflyError('refused', error.message, { pool, hint }, { cause: error });
}

/** The commands on one host. They share a cached report, which every change invalidates. */
export function lvmCommands(host: Host) {
  let last: { readonly pool: string; readonly rows: Row[]; readonly at: number } | undefined;

  async function report(pool: string): Promise<Row[]> {
    const args = reportArguments(parsePoolPath(pool).group);
    let stdout: string;
    try {
      ({ stdout } = await host.run({ file: 'lvs', args, effect: 'read' }));
    } catch (error) {
      throw refusal(explain(pool, error), pool);
    }
    const rows = parseReport(stdout);
    last = { pool, rows, at: host.monotonic() };
    return rows;
  }

  /** Turns LVM's error into `refused` or `full` with text for the administrator. None is a fault of the volume. */
  function explain(pool: string, error: unknown): unknown {
    if (!(error instanceof MayflyError) || error.code !== 'command') return error;
    const stderr = String(error.facts.stderr);
    const problem = diagnose(pool, stderr);
    if (problem) return new MayflyError('refused', problem.what, { pool, hint: problem.fix });
    if (!isFull(stderr)) return error;
    const [first = ''] = stderr.trim().split('\n').slice(-1);
    return new MayflyError('full', `not enough space in "${pool}": ${first.trim()}`, { pool });
  }

  /** The last report, unless it is older than {@link FRESH} or something was changed since. */
  const recentReport = async (pool: string): Promise<Row[]> =>
    last?.pool === pool && host.monotonic() - last.at < FRESH ? last.rows : report(pool);

  /** Runs an LVM command that changes something; {@link explain}s its error. */
  async function change(
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
      throw explain(pool, error);
    }
  }

  /** The rows of a volume, complete or not. There is at most one, unless tags were added by hand. */
  const rowsOf = (rows: readonly Row[], v: Volume): Row[] => {
    const tags = [tagOf(v), tagOf(v, true)];
    return rows.filter(r => r.tags.some(t => tags.includes(t)));
  };

  const rowOf = (rows: readonly Row[], v: Volume): Row | undefined => {
    const mine = rowsOf(rows, v);
    if (mine.length > 1)
      throw new MayflyError(
        'unsafe',
        `${mine.length} volumes in "${v.pool}" have the tag of ${v.role} ${v.name}`,
      );
    return mine[0];
  };

  function mustExist(rows: readonly Row[], v: Volume): Row {
    const row = rows.find(r => r.tags.includes(tagOf(v)));
    if (row) return row;
    throw new MayflyError('no-generation', `the ${v.role} volume "${v.name}" does not exist`, {
      pool: v.pool,
    });
  }

  function mustBeAbsent(rows: readonly Row[], v: Volume): void {
    const name = lvNameOf(v, host.random);
    if (rowOf(rows, v) ?? rows.find(r => r.name === name))
      throw new MayflyError('exists', `the volume "${inGroup(v.pool, name)}" already exists`, {
        pool: v.pool,
      });
  }

  const activate = (v: Volume, row: Row): Promise<void> =>
    change(v.pool, 'lvchange', ['-ay', '-K', ...only(row), '--', parsePoolPath(v.pool).group]);

  /** What has the device open, as text. */
  async function holdersOf(row: Row): Promise<string> {
    const device = `${row.major}:${row.minor}`;
    const holders = await findHolders(host, new Set([deviceNumber(row)]), { device, root: '' });
    const above = host.list(`/sys/dev/block/${device}/holders`);
    if (holders.length > 0) return describeHolders(holders);
    return above.length > 0 ? `the device ${above.join(', ')}` : 'the kernel has the device open';
  }

  /** Throws `stuck` with the holders if LVM says that the volume is in use, otherwise `error`. */
  async function stuck(v: Volume, row: Row, error: unknown): Promise<never> {
    if (!saysInUse(error)) throw error;
    const path = inGroup(v.pool, row.name);
    throw new MayflyError('stuck', `the volume "${path}" is in use: ${await holdersOf(row)}`, { path });
  }

  /**
   * LVM itself retries for five seconds, longer than udev and blkid use a device that was just closed. But it gives
   * up at once if it sees a mounted file system, also one that is still being unmounted.
   */
  async function deactivate(v: Volume, row: Row): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await change(v.pool, 'lvchange', ['-an', ...only(row), '--', parsePoolPath(v.pool).group]);
      } catch (error) {
        if (tries === DEACTIVATE_TRIES || !saysInUse(error)) await stuck(v, row, error);
        await host.sleep(100 * tries);
      }
    }
  }

  return {
    report,
    recentReport,
    change,
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
