/**
 * Several mounts in one process. mount(8) does many only by `-a`, which first reads the whole mount table: with 300
 * sessions that alone is 25 ms of every login, and umount(8) reads it likewise (measured). perl-base is Essential in
 * Debian, starts as fast as mount(8), and can make the two system calls itself; the program below does nothing else,
 * stops at the first failure, and gets all it needs as arguments.
 */
import { MayflyError } from '../errors.ts';
import type { Command } from './command.ts';

/** One call, in order; a failed one is the last. */
export type MountOp =
  | {
      readonly op: 'mount';
      readonly source: string;
      readonly target: string;
      readonly type: string;
      readonly flags: number;
      readonly data: string;
      /** mount(2) takes it in a second call, of the same target. */
      readonly propagation: number;
    }
  /** Makes the mount at the target, and all below it, a slave of its peers. */
  | { readonly op: 'slave'; readonly target: string }
  /** Makes a directory or an empty file; one that is there is success, a symlink or another kind there is not. */
  | { readonly op: 'dir' | 'file'; readonly target: string }
  /**
   * The last one: runs a command with `root` as its root directory ("" is the one there is) and exits with its code.
   * `merge` sends what it says on stdout to stderr.
   */
  | {
      readonly op: 'enter';
      readonly target: string;
      readonly merge: boolean;
      readonly argv: readonly string[];
    }
  /** MNT_DETACH: the tree at the target, with everything below it. */
  | { readonly op: 'detach'; readonly target: string };

/** From <sys/mount.h>; the same on every architecture. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
} as const;

/** Numbers of mount(2) and umount2(2), by what Node calls the architecture. */
const NUMBERS: Readonly<Record<string, readonly [number, number]>> = {
  x64: [165, 166],
  arm64: [40, 39],
  riscv64: [40, 39],
  loong64: [40, 39],
  arm: [21, 52],
  ia32: [21, 52],
  ppc64: [21, 52],
  s390x: [21, 52],
  mips64el: [5160, 5161],
};

/** Arguments: the two numbers, then seven for each call. umount2's flags are MNT_DETACH and UMOUNT_NOFOLLOW. */
const PROGRAM = `
use strict;
my ($mount, $umount) = map { $_ + 0 } splice @ARGV, 0, 2;
sub failed { print STDERR "$_[0]: $!\\n"; exit 32 }
my ($none, $nothing) = ("none", "");
sub spread { syscall($mount, $none, $_[0], $none, $_[1] + 0, $nothing) == 0 or failed("propagation of $_[0]") }
sub enter {
  my ($root, $merge) = @_;
  my $pid = fork;
  defined $pid or failed("fork");
  if ($pid == 0) {
    open(STDOUT, ">&", \\*STDERR) or failed("stdout") if $merge;
    chroot($root) or failed("chroot to $root") if $root ne "";
    chdir "/";
    exec { $ARGV[0] } @ARGV;
    print STDERR "$ARGV[0]: $!\\n";
    exit 127;
  }
  my ($done, $status) = (0, 0);
  until ($done == $pid || $done < 0) { $done = wait; $status = $? if $done == $pid }
  exit($status & 127 ? 128 + ($status & 127) : $status >> 8);
}
while (my ($op, $source, $target, $type, $flags, $data, $propagation) = splice @ARGV, 0, 7) {
  if ($op eq "mount") {
    syscall($mount, $source, $target, $type, $flags + 0, $data) == 0 or failed("mounting $source on $target");
    spread($target, $propagation);
  } elsif ($op eq "slave") {
    spread($target, $flags);
  } elsif ($op eq "enter") {
    enter($target, $flags);
  } elsif ($op eq "detach") {
    syscall($umount, $target, 10) == 0 or failed("unmounting $target");
  } elsif (-l $target) {
    $! = 40; failed("$target");
  } elsif ($op eq "dir") {
    -d _ or mkdir $target, 0755 or failed("making the directory $target");
  } elsif (-d _) {
    $! = 21; failed("$target");
  } else {
    -e _ or open(my $file, ">", $target) or failed("making the file $target");
  }
}
`;

type Flags = Pick<Extract<MountOp, { op: 'mount' }>, 'flags' | 'data' | 'propagation'>;

/** What mount(8) would make of the options. */
function flagsOf(options: string): Flags {
  const words = options.split(',');
  const take = (word: string): boolean => {
    const at = words.indexOf(word);
    if (at >= 0) words.splice(at, 1);
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
  return { flags, propagation, data: bind ? '' : words.join(',') };
}

/** The calls for mounts, options and propagation as mount(8) understands them. */
export function makeMountOps(): (m: Mount) => MountOp {
  const known = new Map<string, Flags>(); // dozens of binds, two kinds of options
  return ({ source, target, type, options }) => {
    const flags = known.get(options) ?? flagsOf(options);
    known.set(options, flags);
    return { op: 'mount', source, target, type, ...flags };
  };
}

/** Nothing of the places to mount on: they are nearly always there, and what is mounted on them says enough. */
function sayCall(c: MountOp): string | readonly [] {
  if (c.op === 'detach') return `unmount ${c.target} and everything below it`;
  if (c.op === 'enter') return `run ${c.argv.join(' ')}${c.target === '' ? '' : ` in ${c.target}`}`;
  if (c.op === 'slave') return `keep unmounts below ${c.target} from the host`;
  if (c.op !== 'mount') return [];
  if (c.flags & MS.BIND) return `bind ${c.source} to ${c.target}`;
  return `mount ${c.type} on ${c.target} (${c.data})`;
}

/** One process for all of them; it keeps `fds`. */
export function mountCommand(
  calls: readonly MountOp[],
  fds: readonly number[] = [],
  architecture: string = process.arch,
): Command {
  const numbers = NUMBERS[architecture];
  if (!numbers)
    throw new MayflyError('missing-tool', `the numbers of system calls on "${architecture}" are not known`);
  const args = ['-e', PROGRAM, '--', String(numbers[0]), String(numbers[1])];
  for (const c of calls) {
    if (c.op === 'mount')
      args.push(c.op, c.source, c.target, c.type, `${c.flags}`, c.data, `${c.propagation}`);
    else if (c.op === 'enter') args.push(c.op, '', c.target, '', c.merge ? '1' : '0', '', '0', ...c.argv);
    else args.push(c.op, '', c.target, '', `${c.op === 'slave' ? MS.SLAVE | MS.REC : 0}`, '', '0');
  }
  return {
    file: 'perl',
    describe: () => calls.flatMap(sayCall),
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
  /** The source is no directory, so the target must not be one. */
  readonly file?: boolean;
}
