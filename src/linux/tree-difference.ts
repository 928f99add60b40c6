/**
 * Counts or lists in what two trees differ, one of which is a changed copy of the other: names, types, modes, owners,
 * contents, symlink targets, devices, extended attributes (with ACLs and capabilities), and the flags of chattr(1). Times do
 * not count: a cache that is made anew with the same content is no change. What has not been touched since the copy was
 * made is not read, which its ctime shows. Nothing is followed, and no process may run in the trees.
 */
import type { Command } from './command.ts';
import { setxattrNumber } from './ownership.ts';

/** The number of FS_IOC_GETFLAGS, by Node's name of the architecture: it has the size of a long and two kinds of "read". */
const GETFLAGS: Readonly<Record<string, number>> = {
  arm: 0x80046601,
  ia32: 0x80046601,
  ppc64: 0x40086601,
  mips64el: 0x40086601,
};

/**
 * Arguments: "count" or "list", the numbers of setxattr and FS_IOC_GETFLAGS, since when changes count, both trees, names
 * that do not count anywhere ("a,b"), and paths that do not count. The flags are those of chattr(1) that a copy can have:
 * s, u, c, S, i, a, d, A and C.
 */
export const DIFFERENCE_PROGRAM = `
use strict;
use Fcntl qw(:mode O_RDONLY O_NONBLOCK O_NOFOLLOW);
my ($mode, $setxattr, $getflags, $since, @trees) = splice @ARGV, 0, 6;
my ($names, @paths) = @ARGV;
$_ += 0 for $setxattr, $getflags, $since;
my %derived = map { $_ => 1 } split /,/, $names;
my %ignored = map { $_ => 1 } @paths;
my @devices = map { (lstat "$_/.")[0] // die "$_: $!\\n" } @trees;
my $count = 0;
sub attributes {
  my ($path) = @_;
  my $buffer = "\\0" x 65536;
  my $size = syscall($setxattr + 7, $path, $buffer, 65536);
  my @keys = $size > 0 ? sort split(/\\0/, substr $buffer, 0, $size) : ();
  return join "\\0", map {
    my $key = $_;
    my $value = "\\0" x 65536;
    my $length = syscall($setxattr + 4, $path, $key, $value, 65536);
    ($key, $length, $length > 0 ? unpack("H*", substr $value, 0, $length) : "");
  } @keys;
}
sub opened { sysopen(my $file, $_[0], O_RDONLY | O_NONBLOCK | O_NOFOLLOW) or return; return $file }
sub flags {
  my $file = opened($_[0]) or return 0;
  my $buffer = "\\0" x 8;
  return defined ioctl($file, $getflags, $buffer) ? unpack("L", $buffer) & 0x8000ff : 0;
}
sub content {
  my ($x, $y) = map { opened($_) // return 1 } @_;
  while (1) {
    my ($one, $two) = ("", "");
    my $read = sysread($x, $one, 1 << 20);
    sysread($y, $two, 1 << 20);
    return 1 if !defined $read || $one ne $two;
    return 0 if $read == 0;
  }
}
sub differs {
  my ($from, $to, $x, $y) = @_;
  return 1 if !@$x || !@$y || grep { $$x[$_] != $$y[$_] } 2, 4, 5;
  my $type = S_IFMT($$x[2]);
  return 1 if ($type == S_IFREG || $type == S_IFLNK) && $$x[7] != $$y[7];
  return 1 if ($type == S_IFCHR || $type == S_IFBLK) && $$x[6] != $$y[6];
  # A clock may have been set, which the time of the last change shows in most cases.
  return 0 if $$y[10] < $since && ($$x[9] == $$y[9] || $type == S_IFDIR);
  return 1 if $type == S_IFLNK && (readlink $from) ne (readlink $to);
  return 1 if $type == S_IFREG && content($from, $to);
  return 1 if ($type == S_IFREG || $type == S_IFDIR) && flags($from) != flags($to);
  return attributes($from) ne attributes($to);
}
sub size { my ($of) = @_; return @$of && S_ISREG($$of[2]) ? $$of[7] : 0 }
sub note {
  my ($at, $x, $y) = @_;
  $count++;
  return if $mode eq "count";
  print join("\\0", !@$x ? "new" : !@$y ? "gone" : "changed", size($x), size($y), $at), "\\0";
}
sub walk {
  my ($path, @sides) = @_; # 0 and 1: where it is a directory; anything else there is not entered
  my %found;
  for my $side (@sides) {
    opendir(my $directory, "$trees[$side]/$path") or next;
    $found{$_} = 1 for readdir $directory;
  }
  for my $name (keys %found) {
    my $at = "$path$name";
    next if $name eq "." || $name eq ".." || $derived{$name} || $ignored{$at};
    my @there = ([], []);
    $there[$_] = [lstat "$trees[$_]/$at"] for @sides;
    note($at, @there) if differs((map { "$_/$at" } @trees), @there);
    my @inner = grep { @{$there[$_]} && S_ISDIR($there[$_][2]) && $there[$_][0] == $devices[$_] } 0, 1;
    walk("$at/", @inner) if @inner;
  }
}
walk("", 0, 1);
print "$count\\n" if $mode eq "count";
`;

interface Exceptions {
  /** Names that do not count anywhere. */
  readonly derived: readonly string[];
  /** Paths in the trees that do not count. */
  readonly ignored: readonly string[];
}

function command(mode: 'count' | 'list', from: number, trees: readonly string[], o: Exceptions): Command {
  const numbers = [setxattrNumber(process.arch), GETFLAGS[process.arch] ?? 0x80086601];
  const args = [mode, ...numbers, from, ...trees, o.derived.join(','), ...o.ignored].map(String);
  return { file: 'perl', args: ['-e', DIFFERENCE_PROGRAM, '--', ...args], effect: 'read' };
}

/**
 * Prints in how many files and directories the tree `after`, which was a copy of `before` at the time `since` (in
 * milliseconds), differs.
 */
export function differenceCommand(before: string, after: string, since: number, o: Exceptions): Command {
  // The kernel's time of a change is some milliseconds late, and Perl's is in seconds.
  return command('count', Math.floor(since / 1000) - 1, [before, after], o);
}

/** One file or directory in which two trees differ. Sizes are those of files, in bytes. */
export interface Difference {
  readonly kind: 'new' | 'changed' | 'gone';
  readonly before: number;
  readonly after: number;
  readonly path: string;
}

/** Lists the differences. A file of the same size and time counts as the same: its content is not read. */
export function listDifferencesCommand(before: string, after: string, o: Exceptions): Command {
  return command('list', Number.MAX_SAFE_INTEGER, [before, after], o);
}

/** What {@link listDifferencesCommand} has printed, by path. Pure. */
export function parseDifferences(text: string): Difference[] {
  const words = text.split('\0');
  const all: Difference[] = [];
  for (let i = 0; i + 3 < words.length; i += 4) {
    const [kind, before, after, path = ''] = words.slice(i, i + 4);
    all.push({ kind: kind as Difference['kind'], before: Number(before), after: Number(after), path });
  }
  return all.sort((a, b) => (a.path < b.path ? -1 : 1));
}
