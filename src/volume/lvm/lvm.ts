/**
 * The LVM backends. Thin volumes share a pool and are forked at once. With classic volumes, a session is a snapshot
 * with its own copy-on-write store, and everything else is a full copy.
 *
 * LVM has one lock per volume group, and every command is one commit of its metadata. But SIGKILL can leave an origin
 * suspended, or volumes without a device (measured). So no command here is ever killed by us, none gets -f, and
 * `open` repairs what a crash left.
 *
 * All our volumes have the flag "skip activation", so a boot activates none of them.
 *
 * Long because it implements one contract, and its methods share one report of the group.
 */
import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import type { Mount } from '../../linux/mount-program.ts';
import { parseSize } from '../../size.ts';
import type { ForkOptions, Problem, Volume, VolumeBackend } from '../backend.ts';
import { inGroup, lvmCommands, only, refusal } from './commands.ts';
import { copyTree } from './copy.ts';
import {
  deviceOf,
  lvNameOf,
  parsePoolPath,
  poolTag,
  roleIn,
  sealIn,
  sealTags,
  sealTagsIn,
  tagOf,
} from './names.ts';
import { mebibytes, optionsFor, sizeArguments } from './options.ts';
import { activatePool, checkLvm, preparePool } from './pool.ts';
import type { Row } from './report.ts';
import { usageIn } from './usage.ts';

const fsOf = (v: Volume): 'ext4' | 'xfs' => v.fs ?? v.origin?.fs ?? 'ext4';

/** A backend with the methods that the backends on file systems do not need. */
export type LvmBackend = VolumeBackend &
  Required<Pick<VolumeBackend, 'open' | 'snapshotUsage' | 'attachTree' | 'detachTree' | 'isOwnKind'>>;

export function lvmBackend(kind: 'lvm-thin' | 'lvm', host: Host): LvmBackend {
  const lv = lvmCommands(host);

  const hasSnapshots = (rows: readonly Row[], row: Row): boolean =>
    kind === 'lvm' && rows.some(r => r.origin === row.name);

  /** Creates an active volume with an empty file system and the tag of an unfinished volume. */
  async function make(v: Volume, size: number, fds: readonly number[]): Promise<Row> {
    const { group, name } = parsePoolPath(v.pool);
    const lvName = lvNameOf(v, host.random);
    const own = ['-n', lvName, '--addtag', tagOf(v, true), '-ky', '-ay', '-K'];
    const space =
      kind === 'lvm-thin'
        ? ['-V', mebibytes(size), '-T', `${group}/${name}`]
        : ['-L', mebibytes(size), '-Wn', group];
    await lv.change(v.pool, 'lvcreate', [...own, ...space], fds);
    const device = deviceOf(group, lvName);
    const format = fsOf(v) === 'xfs' ? ['-q', '-f', device] : ['-q', '-F', '-m', '0', device];
    await host.run({ file: `mkfs.${fsOf(v)}`, args: format, effect: 'write', inheritFds: fds });
    return mustBe(lv.rowOf(await lv.report(v.pool), v));
  }

  const mustBe = (row: Row | undefined): Row => {
    if (row) return row;
    throw new MayflyError('internal', 'a volume does not exist after it was created');
  };

  const finish = (v: Volume, row: Row): Promise<void> =>
    lv.change(v.pool, 'lvchange', [
      ...['--deltag', tagOf(v, true), '--addtag', tagOf(v)],
      ...only(row),
      '--',
      parsePoolPath(v.pool).group,
    ]);

  /** Both trees are mounted in a private mount namespace, which ends with the command. */
  async function copy(from: Volume, source: Row, to: Volume, fds: readonly number[]): Promise<void> {
    if (!source.active) await lv.activate(from, source);
    const target = await make(to, source.size, fds);
    await host.run(copyTree(parsePoolPath(to.pool).group, fsOf(to), source.name, target.name, fds));
    await lv.deactivate(to, target);
    await finish(to, target);
    // A generation stays active, see detachTree.
    if (from.role !== 'generation' && !hasSnapshots(await lv.report(from.pool), source))
      await lv.deactivate(from, source);
  }

  /**
   * Forks with one command and without a report, which would cost every login time; an error is examined afterwards.
   */
  async function forkSession(from: Volume, to: Volume, options: Partial<ForkOptions>): Promise<void> {
    const { group } = parsePoolPath(to.pool);
    const [origin, name] = [lvNameOf(from, host.random), lvNameOf(to, host.random)];
    const own = ['-s', '-n', name, '--addtag', tagOf(to), '-ky', '-ay', '-K'];
    // Not monitored: dmeventd would unmount a session whose store overflows, and its home, while it is still in use.
    const space =
      kind === 'lvm' ? ['--monitor', 'n', ...sizeArguments(options.cow ?? '20%', 'ORIGIN')] : ['-prw'];
    try {
      // LVM does not activate a classic snapshot whose origin is inactive.
      if (kind === 'lvm' && !host.exists(deviceOf(group, origin)))
        await lv.change(to.pool, 'lvchange', ['-ay', '-K', '--', `${group}/${origin}`], options.lockFds);
      await lv.change(to.pool, 'lvcreate', [...own, ...space, '--', `${group}/${origin}`], options.lockFds);
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
      const rows = await lv.report(to.pool);
      lv.mustExist(rows, from);
      if (/already exists|already used/i.test(String(error.facts.stderr))) lv.mustBeAbsent(rows, to);
      throw refusal(error, to.pool);
    }
  }

  async function busyReason(v: Volume): Promise<string | undefined> {
    const row = lv.rowOf(await lv.report(v.pool), v);
    return row?.open ? lv.holdersOf(row) : undefined;
  }

  return {
    kind,

    async check(): Promise<readonly Problem[]> {
      return checkLvm(kind, host);
    },

    async prepare(pool, sizes) {
      await preparePool(kind, host, pool, await lv.report(pool), sizes);
    },

    async open(pool) {
      await activatePool(kind, pool, await lv.report(pool), (file, args) => lv.change(pool, file, args));
    },

    async dissolve(pool) {
      const rows = await lv.report(pool);
      const row = rows.find(r => r.tags.includes(poolTag(pool)));
      if (!row) return;
      // lvremove would remove volumes of others in the pool too.
      const foreign = rows.find(r => r.pool === row.name);
      if (foreign)
        throw new MayflyError(
          'stuck',
          `the thin pool "${pool}" holds "${foreign.name}", which Mayfly did not create`,
          { pool },
        );
      const { group } = parsePoolPath(pool);
      await lv.change(pool, 'lvchange', ['-an', ...only(row), '--', group]);
      await lv.change(pool, 'lvremove', ['-y', ...only(row), '--', group]); // -y: it asks if issue_discards is set
    },

    async usage(pool, activate = false) {
      const rows = await lv.recentReport(pool);
      const thin = kind === 'lvm-thin' && rows.find(r => r.tags.includes(poolTag(pool)));
      if (!thin || thin.active || !activate) return usageIn(pool, kind, rows);
      await this.open(pool); // the usage of an inactive pool is unknown
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
      if (from.role === 'session') throw new MayflyError('unsafe', `session "${from.name}" cannot be forked`);
      if (to.role === 'session') return forkSession(from, to, options);
      const rows = await lv.report(to.pool);
      const source = lv.mustExist(rows, from);
      lv.mustBeAbsent(rows, to);
      const fds = options.lockFds ?? [];
      if (kind === 'lvm') return copy(from, source, to, fds);
      const mode = to.role === 'generation' ? '-pr' : '-prw';
      const args = ['-s', '-n', lvNameOf(to, host.random), '--addtag', tagOf(to), '-ky', mode];
      await lv.change(to.pool, 'lvcreate', [...args, '--', inGroup(to.pool, source.name)], fds);
    },

    async forkCost(from) {
      return kind === 'lvm-thin' ? 0 : lv.mustExist(await lv.recentReport(from.pool), from).size;
    },

    /** Changes the tag, which is one commit; the name stays. */
    async rename(from, to) {
      const rows = await lv.report(from.pool);
      lv.mustBeAbsent(rows, to);
      const row = lv.mustExist(rows, from);
      const tags = ['--deltag', tagOf(from), '--addtag', tagOf(to)];
      await lv.change(from.pool, 'lvchange', [...tags, ...only(row), '--', parsePoolPath(from.pool).group]);
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
      // A classic generation stays active: a login may be taking a snapshot of it now, which would be deactivated
      // with it, and logins do not wait for the lock that this code holds.
      if (kind === 'lvm-thin' || v.role !== 'generation') await lv.deactivate(v, row);
      else if (row.open)
        throw new MayflyError('stuck', `"${row.name}" is in use: ${await lv.holdersOf(row)}`, {
          pool: v.pool,
        });
    },

    async identity(v) {
      const rows = await lv.report(v.pool);
      const row = rows.find(r => r.tags.includes(tagOf(v)));
      // A fork finds its origin by name, so a generation that was renamed by hand cannot be used.
      return row && (v.role !== 'generation' || row.name === lvNameOf(v, host.random)) ? row.uuid : undefined;
    },

    busyReason,

    async remove(v) {
      const rows = await lv.report(v.pool);
      const mine = lv.rowsOf(rows, v);
      const name = lvNameOf(v, host.random);
      if (mine.length === 0 && rows.some(r => r.name === name))
        throw new MayflyError('unsafe', `"${inGroup(v.pool, name)}" is not a volume created by Mayfly`, {
          pool: v.pool,
        });
      for (const row of mine) {
        // lvremove would remove the snapshots of a classic origin too.
        if (hasSnapshots(rows, row))
          throw new MayflyError('stuck', `the volume "${inGroup(v.pool, row.name)}" has snapshots`);
        // lvremove deactivates a session itself, and is the only way for a classic snapshot. It refuses one in use.
        if (row.active && v.role !== 'session') await lv.deactivate(v, row);
        try {
          // -y: LVM asks even for inactive volumes if it is configured to discard their blocks (issue_discards).
          await lv.change(v.pool, 'lvremove', ['-y', ...only(row), '--', parsePoolPath(v.pool).group]);
        } catch (error) {
          await lv.stuck(v, row, error);
        }
      }
    },

    async list(pool) {
      const ours = (await lv.report(pool)).flatMap(row => roleIn(pool, kind, row) ?? []);
      const isComplete = (o: (typeof ours)[number]): boolean => !o.unfinished;
      return {
        volumes: ours.filter(isComplete).map(o => o.volume),
        leftovers: ours.filter(o => !isComplete(o)).map(o => `${o.volume.role}/${o.volume.name}`),
        discarded: [],
        spares: new Map(),
      };
    },

    async isOwnKind(pool) {
      return (await lv.report(pool)).some(r => r.tags.includes(poolTag(pool))) === (kind === 'lvm-thin');
    },

    async seals(pool) {
      const found = new Map<number, string>();
      for (const row of await lv.report(pool)) {
        const ours = roleIn(pool, kind, row);
        const text = ours && !ours.unfinished ? sealIn(pool, row) : undefined;
        if (ours?.volume.role === 'generation' && text !== undefined)
          found.set(Number(ours.volume.name), text);
      }
      return found;
    },

    /** Tags, which are written in one commit of the metadata, and are gone with the volume. */
    async writeSeal(v, text) {
      const row = lv.mustExist(await lv.report(v.pool), v);
      const wanted = sealTags(v.pool, text);
      const old = sealTagsIn(v.pool, row);
      const args = [
        ...old.filter(tag => !wanted.includes(tag)).flatMap(tag => ['--deltag', tag]),
        ...wanted.filter(tag => !old.includes(tag)).flatMap(tag => ['--addtag', tag]),
      ];
      if (args.length === 0) return;
      await lv.change(v.pool, 'lvchange', [...args, ...only(row), '--', parsePoolPath(v.pool).group]);
    },

    async sweep(pool, name) {
      const [role = '', own = ''] = name.split('/');
      await this.remove({ backend: kind, pool, role: role as Volume['role'], name: own });
    },
  };
}
