/**
 * How volumes are forked. A **pool** holds four kinds of volumes: one `master`, at most one `work` copy, sealed
 * `generation`s and one `session` per login.
 *
 * The life of a volume: `fork` makes it whole or not at all (what a death leaves half-made is listed as such and
 * removed by `recover`); `mount` says, as data, how; `remove` makes it absent. A fork sees
 * exactly what its source held; nothing written to a fork is ever seen in its source or in a sibling. Generations
 * and the volumes sessions were forked from are never written to. A session volume can not be forked, and is mounted
 * once in its life.
 *
 * Nobody below this line asks the configuration: a {@link Volume} names its pool and its source itself, so that it
 * can be taken down after both have changed.
 *
 * `test/volume/contract.ts` is the executable copy of this text and runs over every backend.
 */
import { MayflyError } from '../errors.ts';
import type { Mount } from '../linux/mount-program.ts';
import { isNumber, isSessionId } from '../names.ts';

/** `lvm` is the classic kind of snapshots, with a store of their own each; `lvm-thin` shares a thin pool. */

export type BackendKind = 'overlay' | 'btrfs' | 'lvm-thin' | 'lvm';

/** What is in a logical volume. btrfs is not among them: it takes a snapshot of the device for the same file system. */
export type FileSystem = 'ext4' | 'xfs';

export type Role = 'master' | 'work' | 'generation' | 'session';

export interface Volume {
  readonly backend: BackendKind;
  /** Absolute path of the pool; LVM: `/dev/GROUP/NAME`. */
  readonly pool: string;
  /** LVM: what it is formatted with. */
  readonly fs?: FileSystem;
  readonly role: Role;
  /** `master`, `work`, the number of a generation, the id of a session. */
  readonly name: string;
  /** The volume a session was forked from. */
  readonly origin?: Volume;
}

/** Name rules per role; false for what is no role. */
export function isVolumeName(role: Role, name: string): boolean {
  switch (role) {
    case 'master':
    case 'work':
      return name === role;
    case 'generation':
      return name !== '0' && isNumber(name, 9);
    case 'session':
      return isSessionId(name);
    default:
      return false;
  }
}

/** Refuses (`unsafe`) a name against the rules: a record that was tampered with must not lead anywhere else. */
export function requireVolumeName({ role, name }: Volume): void {
  if (isVolumeName(role, name)) return;
  throw new MayflyError('unsafe', `"${name}" is not the name of a ${role}`, { role, name });
}

/** What the machine has in the way of a working backend, worded for an administrator. */
export interface Problem {
  readonly what: string;
  readonly fix: string;
}

/** For where one line is all there is. */
export function inOneLine(p: Problem): string {
  return `${p.what}; fix it with "${p.fix}"`;
}

export interface Usage {
  readonly total: number;
  readonly free: number;
  /** Percent of the scarcer of space and inodes. */
  readonly percent: number;
  /** What `percent` is of, where it is not the pool itself: a thin pool's "metadata". */
  readonly of?: 'metadata';
  /** Why nothing can be made in the pool, whatever room it has. */
  readonly problem?: Problem;
}

export interface ForkOptions {
  /** Session on overlay: where the upper layer is. */
  readonly upper: 'disk' | 'tmpfs';
  /** Size of a tmpfs upper. */
  readonly size: string;
  /** Session on classic LVM: how much it may change, a size or a part of the generation's volume such as "20%". */
  readonly cow: string;
  /** A lock's descriptor, kept open by storage commands so that the lock outlives us if we must leave them. */
  readonly lockFds: readonly number[];
}

/** What is in a pool. */
export interface Listing {
  readonly volumes: readonly Volume[];
  /** Half-made or half-removed. */
  readonly leftovers: readonly string[];
  /** Made ready for sessions, by the number of their generation. */
  readonly spares: ReadonlyMap<number, string>;
}

/** LVM: how large things are made; sizes, or a part of what is free such as "90%". */
export interface PoolSizes {
  /** The thin pool. */
  readonly pool: string;
  /** The file system of each volume. */
  readonly volume: string;
}

/** A session whose own store fills up. */
export interface SnapshotUsage {
  readonly session: string;
  /** Of its store; 100 where it has overflowed, and nothing that was changed can be read any more. */
  readonly percent: number;
}

export interface VolumeBackend {
  readonly kind: BackendKind;
  /** Can this machine do it? */
  check(): Promise<readonly Problem[]>;
  /** Makes a fresh, empty pool at `path`, or accepts one of ours; refuses a directory with foreign content. */
  prepare(path: string, sizes?: PoolSizes): Promise<void>;
  /** Makes a pool usable that a boot or a death left otherwise; nothing where it is. */
  open?(path: string): Promise<void>;
  /** Takes an empty pool away. */
  dissolve(path: string): Promise<void>;
  /** Room in the pool. One that does not tell because it is at rest is a problem, unless `wake` has it opened. */
  usage(path: string, wake?: boolean): Promise<Usage>;
  /** What sessions need to be told of: those whose own store is nearly full, or was. */
  snapshotUsage?(path: string): Promise<readonly SnapshotUsage[]>;
  /** An empty tree to be filled by `init`. It becomes `master` by {@link rename}. */
  create(to: Volume, sizes?: PoolSizes): Promise<void>;
  /** Makes `to` from `from`. An existing `to` is refused (`exists`). */
  fork(from: Volume, to: Volume, options?: Partial<ForkOptions>): Promise<void>;
  /**
   * Makes ready what the next session from `origin` will be forked from at once, where forking takes time. Says
   * whether it made one. There need not be any: a fork without is only slower. One at a time: `fds` hold a lock.
   * With `background` it is only begun.
   */
  spare?(origin: Volume, fds: readonly number[], background: boolean): Promise<boolean>;
  /** Bytes of the pool that a master, work or generation volume forked from `from` takes at once. */
  forkCost(from: Volume): Promise<number>;
  /** Gives a finished volume another role; the target must be absent. */
  rename(from: Volume, to: Volume): Promise<void>;
  /** Where the tree of a master, work or generation volume can be read; undefined where it must be mounted first. */
  path(v: Volume): string | undefined;
  /** What to mount at `root` to have a session's tree there, told by its name alone. */
  mount(v: Volume, root: string): Promise<Mount>;
  /** Where `path` is undefined: makes a master, work or generation volume mountable, and says how. */
  attachTree?(v: Volume, root: string): Promise<Mount>;
  /** The reverse, once it is unmounted. Refused (`stuck`) while somebody uses it. */
  detachTree?(v: Volume): Promise<void>;
  /** Something that stays the same for as long as the volume is the same one. Undefined where it is absent. */
  identity(v: Volume): Promise<string | undefined>;
  /** A holder the kernel knows of although no process shows it; undefined where there is none. */
  busyReason(v: Volume): Promise<string | undefined>;
  /** Absent is success; foreign or in use is refused. */
  remove(v: Volume): Promise<void>;
  /** All volumes of ours in the pool, finished ones and half-made ones, as the system shows them. */
  list(pool: string): Promise<Listing>;
  /** Removes one entry of {@link list}'s litter or spares. */
  sweep(pool: string, name: string): Promise<void>;
}

function volumesOf(pool: Pick<Pool, 'backend' | 'path' | 'fs'>): Pick<Volume, 'backend' | 'pool' | 'fs'> {
  return { backend: pool.backend, pool: pool.path, ...(pool.fs ? { fs: pool.fs } : {}) };
}

export function masterOf(pool: Pool): Volume {
  return { ...volumesOf(pool), role: 'master', name: 'master' };
}

export function workOf(pool: Pool): Volume {
  return { ...volumesOf(pool), role: 'work', name: 'work' };
}

export function generationOf(pool: Pool, number: number): Volume {
  return { ...volumesOf(pool), role: 'generation', name: String(number) };
}

export function sessionOf(origin: Volume, id: string): Volume {
  return {
    ...volumesOf({ ...origin, path: origin.pool }),
    role: 'session',
    name: id,
    origin,
  };
}

/** Where the volumes are; written by `init`, believed over the configuration afterwards. */
export interface Pool {
  readonly backend: BackendKind;
  readonly path: string;
  /** LVM: what its volumes are formatted with. */
  readonly fs?: FileSystem;
  /** A file with a file system in it that is mounted at `path`; the embedded pool of `init --backend btrfs`. */
  readonly image?: string;
}
