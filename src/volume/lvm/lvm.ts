/**
 * Logical volumes: thin ones share a pool and are forked at once; of classic ones a session is a snapshot with a store
 * of its own, and everything else is copied.
 *
 * LVM has one lock per group, and every command is one commit of its metadata. What SIGKILL leaves of a command is
 * not that clean: an origin that stays suspended, volumes without a device (measured). So no command here is ever
 * killed by us, none is given -f, and `open` puts right what a death left.
 *
 * Everything of ours carries the flag "skip activation": a boot activates none of it.
 *
 * Long because it is the whole of one contract, and its methods share one reader of the group.
 */
import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import type { Mount } from '../../linux/mount-program.ts';
import { parseSize } from '../../size.ts';
import type { ForkOptions, Problem, Volume, VolumeBackend } from '../backend.ts';
import { inGroup, lvmCommands, only, refusal } from './commands.ts';
import { deviceOf, lvNameOf, parsePoolPath, poolTag, roleIn, tagOf } from './names.ts';
import { mebibytes, optionsFor, sizeArguments } from './options.ts';
import type { Row } from './report.ts';
import { usageIn } from './usage.ts';

const fsOf = (v: Volume): 'ext4' | 'xfs' => v.fs ?? v.origin?.fs ?? 'ext4';

/** A backend with all that a file system's does not need. */
type LvmBackend = VolumeBackend &
  Required<Pick<VolumeBackend, 'open' | 'snapshotUsage' | 'attachTree' | 'detachTree'>>;

export function lvmBackend(kind: 'lvm-thin' | 'lvm', host: Host): LvmBackend {
  const lv = lvmCommands(host);

  const hasSnapshots = (rows: readonly Row[], row: Row): boolean =>
    kind === 'lvm' && rows.some(r => r.origin === row.name);

  /** A new volume with a file system, under the tag of an unfinished one, active. */
  async function make(v: Volume, size: number, fds: readonly number[]): Promise<Row> {
    const { group, name } = parsePoolPath(v.pool);
    const called = lvNameOf(v, host.random);
    const own = ['-n', called, '--addtag', tagOf(v, true), '-ky', '-ay', '-K'];
    const room =
      kind === 'lvm-thin'
        ? ['-V', mebibytes(size), '-T', `${group}/${name}`]
        : ['-L', mebibytes(size), '-Wn', group];
    await lv.act(v.pool, 'lvcreate', [...own, ...room], fds);
    const device = deviceOf(group, called);
    const format = fsOf(v) === 'xfs' ? ['-q', '-f', device] : ['-q', '-F', '-m', '0', device];
    await host.run({ file: `mkfs.${fsOf(v)}`, args: format, effect: 'write', inheritFds: fds });
    return mustBe(lv.rowOf(await lv.report(v.pool), v));
  }

  const mustBe = (row: Row | undefined): Row => {
    if (row) return row;
    throw new MayflyError('internal', 'a volume is not there after it was made');
  };

  const finish = (v: Volume, row: Row): Promise<void> =>
    lv.act(v.pool, 'lvchange', [
      ...['--deltag', tagOf(v, true), '--addtag', tagOf(v)],
      ...only(row),
      '--',
      parsePoolPath(v.pool).group,
    ]);

  /** Both trees are mounted where nobody else sees them, and are unmounted by the end of the command. */
  async function copy(from: Volume, source: Row, to: Volume, fds: readonly number[]): Promise<void> {
    const { copyTree } = await import('./copy.ts');
    if (!source.active) await lv.activate(from, source);
    const target = await make(to, source.size, fds);
    await host.run(copyTree(parsePoolPath(to.pool).group, fsOf(to), source.name, target.name, fds));
    await lv.deactivate(to, target);
    await finish(to, target);
    if (!hasSnapshots(await lv.report(from.pool), source)) await lv.deactivate(from, source);
  }

  /** One command, no look before: what it fails of is looked into afterwards. */
  async function forkSession(from: Volume, to: Volume, options: Partial<ForkOptions>): Promise<void> {
    const { group } = parsePoolPath(to.pool);
    const [origin, name] = [lvNameOf(from, host.random), lvNameOf(to, host.random)];
    const own = ['-s', '-n', name, '--addtag', tagOf(to), '-ky', '-ay', '-K'];
    // dmeventd would unmount a session whose store overflows, and its home with it, while people still save there.
    const room =
      kind === 'lvm' ? ['--monitor', 'n', ...sizeArguments(options.cow ?? '20%', 'ORIGIN')] : ['-prw'];
    try {
      // LVM activates no classic snapshot whose origin is not.
      if (kind === 'lvm' && !host.exists(deviceOf(group, origin)))
        await lv.act(to.pool, 'lvchange', ['-ay', '-K', '--', `${group}/${origin}`], options.lockFds);
      await lv.act(to.pool, 'lvcreate', [...own, ...room, '--', `${group}/${origin}`], options.lockFds);
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
      const rows = await lv.report(to.pool);
      lv.mustExist(rows, from);
      if (/already exists|already used/i.test(String(error.facts.stderr))) lv.mustBeAbsent(rows, to);
      throw refusal(error, to.pool);
    }
  }

  async function held(v: Volume): Promise<string | undefined> {
    const row = lv.rowOf(await lv.report(v.pool), v);
    return row?.open ? lv.holdersOf(row) : undefined;
  }

  return {
    kind,

    async check(): Promise<readonly Problem[]> {
      const { checkLvm } = await import('./pool.ts');
      return checkLvm(kind, host);
    },

    async prepare(pool, sizes) {
      const { preparePool } = await import('./pool.ts');
      await preparePool(kind, host, pool, await lv.report(pool), sizes);
    },

    async open(pool) {
      const { activatePool: openPool } = await import('./pool.ts');
      await openPool(kind, pool, await lv.report(pool), (file, args) => lv.act(pool, file, args));
    },

    async dissolve(pool) {
      const rows = await lv.report(pool);
      const row = rows.find(r => r.tags.includes(poolTag(pool)));
      if (!row) return;
      // lvremove would take them along.
      const guest = rows.find(r => r.pool === row.name);
      if (guest)
        throw new MayflyError('stuck', `the thin pool "${pool}" holds "${guest.name}", which is not ours`, {
          pool,
        });
      const { group } = parsePoolPath(pool);
      await lv.act(pool, 'lvchange', ['-an', ...only(row), '--', group]);
      await lv.act(pool, 'lvremove', ['-y', ...only(row), '--', group]); // else it asks where it discards blocks
    },

    async usage(pool, wake = false) {
      const rows = await lv.lately(pool);
      const thin = kind === 'lvm-thin' && rows.find(r => r.tags.includes(poolTag(pool)));
      if (!thin || thin.active || !wake) return usageIn(pool, kind, rows);
      await this.open(pool); // only an active pool tells how full it is
      return usageIn(pool, kind, await lv.report(pool));
    },

    async snapshotUsage(pool) {
      if (kind === 'lvm-thin') return [];
      return (await lv.report(pool)).flatMap(row => {
        const known = roleIn(pool, kind, row);
        if (known?.volume.role !== 'session') return [];
        return [{ session: known.volume.name, percent: row.overflowed ? 100 : row.data || 0 }];
      });
    },

    async create(to, sizes) {
      lv.mustBeAbsent(await lv.report(to.pool), to);
      const row = await make(to, parseSize(sizes?.volume ?? '16G'), []);
      await finish(to, row);
      await lv.deactivate(to, row);
    },

    async fork(from, to, options = {}) {
      if (from.role === 'session')
        throw new MayflyError('unsafe', `the session "${from.name}" can not be forked`);
      if (to.role === 'session') return forkSession(from, to, options);
      const rows = await lv.report(to.pool);
      const source = lv.mustExist(rows, from);
      lv.mustBeAbsent(rows, to);
      const fds = options.lockFds ?? [];
      if (kind === 'lvm') return copy(from, source, to, fds);
      const mode = to.role === 'generation' ? '-pr' : '-prw';
      const args = ['-s', '-n', lvNameOf(to, host.random), '--addtag', tagOf(to), '-ky', mode];
      await lv.act(to.pool, 'lvcreate', [...args, '--', inGroup(to.pool, source.name)], fds);
    },

    async forkCost(from) {
      return kind === 'lvm-thin' ? 0 : lv.mustExist(await lv.lately(from.pool), from).size;
    },

    /** By tag, which is one commit; the name stays. */
    async rename(from, to) {
      const rows = await lv.report(from.pool);
      lv.mustBeAbsent(rows, to);
      const row = lv.mustExist(rows, from);
      const tags = ['--deltag', tagOf(from), '--addtag', tagOf(to)];
      await lv.act(from.pool, 'lvchange', [...tags, ...only(row), '--', parsePoolPath(from.pool).group]);
    },

    path: () => undefined,

    async mount(v, root): Promise<Mount> {
      const { group } = parsePoolPath(v.pool);
      const source = deviceOf(group, lvNameOf(v, host.random));
      return { source, target: root, type: fsOf(v), options: optionsFor(kind, fsOf(v), false) };
    },

    async attachTree(v, root) {
      const row = lv.mustExist(await lv.report(v.pool), v);
      await lv.activate(v, row);
      const source = deviceOf(parsePoolPath(v.pool).group, row.name);
      return { source, target: root, type: fsOf(v), options: optionsFor(kind, fsOf(v), v.role !== 'work') };
    },

    async detachTree(v) {
      const row = lv.rowOf(await lv.report(v.pool), v);
      if (!row?.active) return;
      // The next login may be making a snapshot of it now, which would go down with it, and waits for no lock of ours.
      if (kind === 'lvm-thin' || v.role !== 'generation') await lv.deactivate(v, row);
      else if (row.open)
        throw new MayflyError('stuck', `"${row.name}" is in use: ${lv.holdersOf(row)}`, { pool: v.pool });
    },

    async identity(v) {
      const rows = await lv.report(v.pool);
      const row = rows.find(r => r.tags.includes(tagOf(v)));
      // A fork names its origin; one that was renamed by hand is not where it will be looked for.
      return row && (v.role !== 'generation' || row.name === lvNameOf(v, host.random)) ? row.uuid : undefined;
    },

    busyReason: held,

    async remove(v) {
      const rows = await lv.report(v.pool);
      const mine = lv.rowsOf(rows, v);
      const name = lvNameOf(v, host.random);
      if (mine.length === 0 && rows.some(r => r.name === name))
        throw new MayflyError('unsafe', `"${inGroup(v.pool, name)}" is not a volume of ours`, {
          pool: v.pool,
        });
      for (const row of mine) {
        // lvremove would take the snapshots of a classic origin along.
        if (hasSnapshots(rows, row))
          throw new MayflyError('stuck', `the volume "${inGroup(v.pool, row.name)}" has snapshots`);
        // A session's LVM may deactivate itself, and of a classic snapshot nobody else can. It refuses what is in use.
        if (row.active && v.role !== 'session') await lv.deactivate(v, row);
        try {
          // -y: LVM also asks of inactive ones where it is told to discard their blocks (issue_discards).
          await lv.act(v.pool, 'lvremove', ['-y', ...only(row), '--', parsePoolPath(v.pool).group]);
        } catch (error) {
          lv.stuck(v, row, error);
        }
      }
    },

    async list(pool) {
      const ours = (await lv.report(pool)).flatMap(row => roleIn(pool, kind, row) ?? []);
      const isWhole = (o: (typeof ours)[number]): boolean => !o.unfinished;
      return {
        volumes: ours.filter(isWhole).map(o => o.volume),
        leftovers: ours.filter(o => !isWhole(o)).map(o => `${o.volume.role}/${o.volume.name}`),
        spares: new Map(),
      };
    },

    async sweep(pool, name) {
      const [role = '', own = ''] = name.split('/');
      await this.remove({ backend: kind, pool, role: role as Volume['role'], name: own });
    },
  };
}
