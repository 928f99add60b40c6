/**
 * The contract of storage backends. A **pool** holds four kinds of volumes: one `master`, at most one `work` copy,
 * sealed `generation`s and one `session` per login.
 *
 * The life of a volume: `fork` creates it completely or not at all (leftovers of a crash are listed as such and
 * removed by `recover`; of a session an incomplete volume may be listed, which no login uses); `mount` returns, as
 * data, how to mount it; `remove` makes it absent. Where that takes time, `discard` makes the volume of a session
 * absent at once, and a process of its own erases what it was. A fork sees exactly what its source held; nothing written to a
 * fork is ever seen in its source or in a sibling. Generations and the volumes from which sessions were forked are
 * never written to. A session volume cannot be forked, and is mounted once in its life.
 *
 * Backends never read the configuration: a {@link Volume} names its pool and its source itself, so that it can be
 * taken down after both have changed.
 *
 * `test/volume/contract.ts` tests this contract on every backend.
 */
import { MayflyError } from '../errors.ts';
import type { Mount } from '../linux/mount-program.ts';
import { isNumber, isSessionId } from '../names.ts';

/** `lvm` uses classic snapshots, each with its own copy-on-write store; with `lvm-thin` all share a thin pool. */
export type BackendKind = 'overlay' | 'btrfs' | 'lvm-thin' | 'lvm';

/** File systems in a logical volume. Not btrfs: it takes a snapshot of its device for the same file system. */
export type FileSystem = 'ext4' | 'xfs';

export type Role = 'master' | 'work' | 'generation' | 'session';

export interface Volume {
  readonly backend: BackendKind;
  /** Absolute path of the pool; LVM: `/dev/GROUP/NAME`. */
  readonly pool: string;
  /** LVM: its file system. */
  readonly fs?: FileSystem;
  readonly role: Role;
  /** `master`, `work`, the number of a generation, or the ID of a session. */
  readonly name: string;
  /** The volume a session was forked from. */
  readonly origin?: Volume;
}

/** Whether a name is valid for its role; false for an unknown role. Pure. */
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

/** Throws `unsafe` if the name is not valid: a record that was tampered with must not lead to any other path. */
export function requireVolumeName({ role, name }: Volume): void {
  if (isVolumeName(role, name)) return;
  throw new MayflyError('unsafe', `"${name}" is not a valid ${role} name`, { role, name });
}

/** What keeps a backend from working, as text for the administrator, and the command or action that fixes it. */
export interface Problem {
  readonly what: string;
  readonly fix: string;
}

/** A problem in one line. */
export function inOneLine(p: Problem): string {
  return `${p.what}; fix it with "${p.fix}"`;
}

/** Usage of a pool. */
export interface Usage {
  /** Bytes, like `free`. */
  readonly total: number;
  readonly free: number;
  /** Percent used of space, inodes or metadata, whichever is scarcest. */
  readonly percent: number;
  /** What `percent` refers to if it is not the pool's space: the "metadata" of a thin pool or of btrfs, or the "inodes". */
  readonly of?: 'metadata' | 'inodes';
  /** Why no volume can be created in the pool, regardless of its free space. */
  readonly problem?: Problem;
}

export interface ForkOptions {
  /** Sessions on overlay: where the upper layer is. */
  readonly upper: 'disk' | 'tmpfs';
  /** Size of an upper layer on tmpfs, for the option `size` of tmpfs(5). */
  readonly size: string;
  /**
   * Sessions on classic LVM: how much may change, as a size or as a part of the generation's volume such as "20%".
   */
  readonly cow: string;
  /**
   * Descriptors of locks. Storage commands inherit them, so a lock outlives this process if it must leave a command.
   */
  readonly lockFds: readonly number[];
}

/** The contents of a pool. */
export interface Listing {
  readonly volumes: readonly Volume[];
  /** Names of volumes that are only partly created or partly removed. */
  readonly leftovers: readonly string[];
  readonly discarded: readonly Discarded[];
  /** Names of the spares for sessions, by the number of their generation. */
  readonly spares: ReadonlyMap<number, string>;
}

/** Who uses what no process, mount or device is seen to use. */
export const UNSEEN =
  'it is held by something that /proc does not show, such as a descriptor in flight in a socket';

/** The volume of a session that has ended. Nobody can mount, fork or find it; its space is not free yet. */
export interface Discarded {
  /** For `sweep`, which completes it. */
  readonly name: string;
  readonly session: string;
  /** Milliseconds since it was discarded or deleted. */
  readonly age: number;
  /** It is deleted, and the file system has not freed its space: until then something may still use it. */
  readonly deleted: boolean;
}

/** LVM: sizes for `prepare` and `create`; the pool's may be a part of the free space such as "90%". */
export interface PoolSizes {
  /** The thin pool. */
  readonly pool: string;
  /** The file system of each volume. */
  readonly volume: string;
}

/** Usage of a session's copy-on-write store. */
export interface SnapshotUsage {
  readonly session: string;
  /** Percent of the store; 100 after an overflow, when nothing that was changed can be read any more. */
  readonly percent: number;
}

export interface VolumeBackend {
  readonly kind: BackendKind;
  /** Returns what keeps this machine from using the backend; empty if it works. */
  check(): Promise<readonly Problem[]>;
  /** Creates an empty pool at `path`, or accepts one of ours. Throws `unsafe` if `path` has foreign content. */
  prepare(path: string, sizes?: PoolSizes): Promise<void>;
  /** Makes a pool usable after a boot or a crash; does nothing if it is usable. */
  open?(path: string): Promise<void>;
  /** Removes an empty pool. */
  dissolve(path: string): Promise<void>;
  /** Usage of the pool. An inactive one is a problem of its own, or is activated if `activate` is true. */
  usage(path: string, activate?: boolean): Promise<Usage>;
  /** Usage of every session's own store, where sessions have one. */
  snapshotUsage?(path: string): Promise<readonly SnapshotUsage[]>;
  /** Creates an empty tree for `init` to fill. It becomes `master` by {@link rename}. Throws `exists`. */
  create(to: Volume, sizes?: PoolSizes): Promise<void>;
  /**
   * Creates `to` as a copy of `from`. Throws `exists` if `to` exists, `no-generation` if `from` does not, `unsafe` if
   * `from` is a session or a name is invalid, and `full`.
   */
  fork(from: Volume, to: Volume, options?: Partial<ForkOptions>): Promise<void>;
  /**
   * Prepares a spare, which the next session from `origin` takes instead of forking; only where forking takes time.
   * Returns whether it made one. Without a spare a fork is only slower. `fds` hold the lock that allows one call at a
   * time. With `background` the command is started and not waited for.
   */
  spare?(origin: Volume, fds: readonly number[], background: boolean): Promise<boolean>;
  /** Bytes of the pool that a master, work or generation volume forked from `from` occupies at once. */
  forkCost(from: Volume): Promise<number>;
  /** Gives a complete volume another role. Throws `exists` if `to` exists. */
  rename(from: Volume, to: Volume): Promise<void>;
  /** The directory with the tree of a master, work or generation volume; undefined if it must be mounted first. */
  path(v: Volume): string | undefined;
  /** The mount that shows a session's tree at `root`; derived from its name alone. */
  mount(v: Volume, root: string): Promise<Mount>;
  /** Where `path` is undefined: makes a master, work or generation volume mountable, and returns the mount. */
  attachTree?(v: Volume, root: string): Promise<Mount>;
  /** The reverse of {@link attachTree}, after unmounting. Throws `stuck` while the volume is in use. */
  detachTree?(v: Volume): Promise<void>;
  /** A value of this volume and of none before or after it; undefined if there is none. Compare with `isSameVolume`. */
  identity(v: Volume): Promise<string | undefined>;
  /** Who or what uses the volume, according to the kernel, also if no process shows it; undefined if it is free. */
  busyReason(v: Volume): Promise<string | undefined>;
  /**
   * Makes the volume absent; absent already is success. Throws `stuck` if it is in use and `unsafe` if it is not
   * ours.
   */
  remove(v: Volume): Promise<void>;
  /**
   * Like {@link remove} for the volume of a session, in a time that does not depend on its content; only where removal
   * takes longer. What is left to do is in {@link list}, and a process was started that does it.
   */
  discard?(v: Volume): Promise<void>;
  /** All of our volumes in the pool, and leftovers and spares, as found in the system. */
  list(pool: string): Promise<Listing>;
  /** The texts of the seals of the pool's generations, by number. `remove` removes that of its generation, too. */
  seals(pool: string): Promise<ReadonlyMap<number, string>>;
  /** Writes the seal of a generation, durably, in place of an earlier one. */
  writeSeal(v: Volume, text: string): Promise<void>;
  /** Where {@link identity} does not survive a copy: the text of the mark in the tree, which does. */
  readMark?(v: Volume): string | undefined;
  /** Marks the tree of a working copy, before it is forked; without a text it removes the mark. */
  writeMark?(v: Volume, text: string | undefined): void;
  /** Whether our pool is at `pool`, with this ID if it is known: no other file system is taken for an empty one. */
  isThere?(pool: string, id?: string): boolean;
  /** On LVM: whether the pool has been made by this backend, and not by the other one for LVM. */
  isOwnKind?(pool: string): Promise<boolean>;
  /** Removes one of the leftovers, spares or discarded volumes of {@link list}, by its name there; absent is success. */
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

/** Where the volumes are. `init` writes it; from then on it overrides the configuration. */
export interface Pool {
  readonly backend: BackendKind;
  readonly path: string;
  /** LVM: the file system of its volumes. */
  readonly fs?: FileSystem;
  /** An image file with a file system, mounted at `path`: the embedded pool of `init --backend btrfs`. */
  readonly image?: string;
  /** A directory: the mount point of its file system, and its ID. An earlier version recorded neither. */
  readonly mountPoint?: string;
  readonly id?: string;
}
