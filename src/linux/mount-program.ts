/**
 * Several mounts in one process. mount(8) does several only with `-a`, which first reads the whole mount table: with 300
 * sessions, that alone takes 25 ms of every login, and umount(8) reads it as well (measured). perl-base is Essential in
 * Debian, starts as fast as mount(8), and can make the two system calls itself. The program below does little else, stops
 * at the first failure, and gets all data as arguments.
 */
import { MayflyError } from '../errors.ts';
import type { Command } from './command.ts';
import { MOUNT_SCRIPT } from './mount-script.ts';

/** One operation. They run in order, and the first failure is the last one. */
export type MountOp =
  | {
      readonly op: 'mount';
      readonly source: string;
      readonly target: string;
      readonly type: string;
      readonly flags: number;
      readonly data: string;
      /** Set by a second call of mount(2) for the same target. */
      readonly propagation: number;
      /** See {@link Mount}. */
      readonly plain?: boolean;
    }
  /**
   * For the mount at the target and all mounts below it: makes them slaves of their peers, or gives each a peer group of
   * its own ("share"), so that copies of them show the same mounts. A slave stays one.
   */
  | { readonly op: 'slave' | 'share'; readonly target: string }
  /**
   * Creates a directory or an empty file; an existing one is success, a symlink or another type is a failure. `instead`: a
   * directory takes the place of a symlink.
   */
  | { readonly op: 'dir' | 'file'; readonly target: string; readonly instead?: boolean }
  /** Creates a directory, file or symlink with its mode and owner where nothing is. */
  | { readonly op: 'make'; readonly target: string; readonly entry: NewEntry }
  /**
   * The last operation: runs a command with the target as its root directory ("": unchanged) and exits with its code.
   * `merge` redirects its stdout to stderr.
   */
  | {
      readonly op: 'enter';
      readonly target: string;
      readonly merge: boolean;
      readonly argv: readonly string[];
    }
  /** Unmounts the target with everything below it (MNT_DETACH). */
  | { readonly op: 'detach'; readonly target: string };

export interface NewEntry {
  readonly type: 'd' | 'f' | 'l';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** The target of a symlink, or the text of a file. */
  readonly data: string;
}

/** From <sys/mount.h>; the same on every architecture. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  SHARED: 1 << 20,
} as const;

const SPREAD: Readonly<Record<string, number>> = { slave: MS.SLAVE | MS.REC, share: MS.SHARED | MS.REC };

/** The numbers of mount(2), umount2(2) and openat2(2), by Node's name of the architecture. */
const NUMBERS: Readonly<Record<string, readonly [number, number, number]>> = {
  x64: [165, 166, 437],
  arm64: [40, 39, 437],
  riscv64: [40, 39, 437],
  loong64: [40, 39, 437],
  arm: [21, 52, 437],
  ia32: [21, 52, 437],
  ppc64: [21, 52, 437],
  s390x: [21, 52, 437],
  mips64el: [5160, 5161, 5437],
};

type Flags = Pick<Extract<MountOp, { op: 'mount' }>, 'flags' | 'data' | 'propagation'>;

/** Converts mount(8)'s options to the arguments of mount(2). */
function flagsOf(options: string): Flags {
  const remaining = options.split(',');
  const take = (option: string): boolean => {
    const at = remaining.indexOf(option);
    if (at >= 0) remaining.splice(at, 1);
    return at >= 0;
  };
  const recursive = take('rbind');
  const bind = take('bind') || recursive;
  const rec = recursive ? MS.REC : 0;
  const propagation = (take('rslave') || take('slave') ? MS.SLAVE : MS.PRIVATE) | rec;
  take('private');
  take('rw');
  const flags =
    (bind ? MS.BIND | rec : 0) |
    (take('ro') ? MS.RDONLY : 0) |
    (take('nosuid') ? MS.NOSUID : 0) |
    (take('nodev') ? MS.NODEV : 0);
  return { flags, propagation, data: bind ? '' : remaining.join(',') };
}

/** Returns a function that converts a mount to an operation; options and propagation are those of mount(8). */
export function makeMountOps(): (m: Mount) => MountOp {
  const known = new Map<string, Flags>(); // there are dozens of bind mounts, but only two sets of options
  return ({ source, target, type, options, plain }) => {
    const flags = known.get(options) ?? flagsOf(options);
    known.set(options, flags);
    return { op: 'mount', source, target, type, ...flags, ...(plain ? { plain } : {}) };
  };
}

/** One line for a dry run. Mount points are left out: they nearly always exist, and the mounts name them. */
function describeOp(c: MountOp): string | readonly [] {
  if (c.op === 'detach') return `unmount ${c.target} and everything below it`;
  if (c.op === 'enter') return `run ${c.argv.join(' ')}${c.target === '' ? '' : ` in ${c.target}`}`;
  if (c.op === 'slave') return `make ${c.target} a slave mount`;
  if (c.op === 'share') return `make ${c.target} a shared mount`;
  if (c.op !== 'mount') return [];
  if (c.flags & MS.BIND) return `bind ${c.source} to ${c.target}`;
  return `mount ${c.type} on ${c.target} (${c.data})`;
}

/** The numbers of mount(2), umount2(2) and openat2(2). Throws `missing-tool` if they are unknown. */
export function systemCallNumbers(architecture: string): readonly [number, number, number] {
  const numbers = NUMBERS[architecture];
  if (!numbers)
    throw new MayflyError('missing-tool', `the system call numbers of "${architecture}" are unknown`);
  return numbers;
}

/**
 * The command that performs all operations in one process, which inherits `fds`. Throws `missing-tool` on an architecture
 * whose system call numbers are unknown.
 */
export function mountCommand(
  calls: readonly MountOp[],
  fds: readonly number[] = [],
  architecture: string = process.arch,
): Command {
  const numbers = systemCallNumbers(architecture);
  const args = ['-e', MOUNT_SCRIPT, '--', ...numbers.map(String)];
  for (const c of calls) {
    if (c.op === 'mount')
      args.push(
        c.op,
        c.source,
        c.target,
        c.plain ? 'plain' : c.type,
        `${c.flags}`,
        c.data,
        `${c.propagation}`,
      );
    else if (c.op === 'make') {
      const { type, mode, uid, gid, data } = c.entry;
      args.push(c.op, `${uid} ${gid}`, c.target, type, `${mode}`, data, '0');
    } else if (c.op === 'enter') args.push(c.op, '', c.target, '', c.merge ? '1' : '0', '', '0', ...c.argv);
    else {
      const flags = c.op === 'dir' && c.instead ? 1 : (SPREAD[c.op] ?? 0);
      args.push(c.op, '', c.target, '', `${flags}`, '', '0');
    }
  }
  return {
    file: 'perl',
    describe: () => calls.flatMap(describeOp),
    args,
    effect: 'write',
    inheritFds: fds,
  };
}

/** One line of fstab(5). */
export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly options: string;
  /** The source is not a directory, so the target must be a file. */
  readonly file?: boolean;
  /** The source of a bind mount is a directory without any symlink in its path; otherwise the mount fails. */
  readonly plain?: boolean;
}
