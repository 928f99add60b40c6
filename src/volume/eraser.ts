/**
 * Erasing what nobody can reach any more. A person decides how long it takes (400,000 files, 600 nested subvolumes), so a
 * child process does it, which outlives a hook and holds no lock of ours. perl-base is Essential in Debian and starts
 * quickly; see `linux/mount-program.ts`.
 */
import type { Command } from '../linux/command.ts';

/**
 * What the path is: a directory tree, a subvolume, or the directory of a session on btrfs, which holds the subvolume
 * `volume` and, once that is deleted, an empty directory for each deleted subvolume whose space is not free yet.
 */
export type Erasable = 'tree' | 'subvolume' | 'session';

/**
 * Arguments: what the path is, 1 to wait for another process that erases it, how many seconds to wait for the space, and
 * the path.
 *
 * The lock is on the directory itself, and the programs that it starts do not inherit it. Root in a session can set
 * immutable flags, and users can create subvolumes. find(1) enters each directory itself (-execdir), so depth and
 * unusual names are safe. The deepest are deleted first. Only the last attempt decides whether it worked. btrfs does not
 * delete the default subvolume of a file system, which root in a session can choose: the top becomes it.
 *
 * btrfs deletes a subvolume in use without an error, and keeps its space for as long as the use lasts. So the directory
 * remembers the numbers of the subvolumes, which btrfs never gives twice, until they are no longer in the list of those
 * that are deleted. The directories of other sessions are looked at too, because it takes until the next commit at least.
 */
const PROGRAM = `
use strict;
my ($what, $wait, $seconds, $path) = @ARGV;
my ($all, $counts) = $path =~ m{^(.*)/(\\.old-)?};
$counts &&= $what eq "session";
sub failed { print STDERR "$_[0]: $!\\n"; exit 1 }
sub run { return system({ $_[0] } @_) == 0 }
sub quietly {
  open(my $errors, ">&", \\*STDERR);
  open(STDERR, ">", "/dev/null");
  my $done = run(@_);
  open(STDERR, ">&", $errors);
  return $done;
}
sub lines { open(my $out, "-|", @_) or failed($_[0]); my @lines = <$out>; close $out or exit 1; return @lines }
sub names { opendir(my $d, $_[0]) or return; return grep { !/^\\.\\.?$/ } readdir $d }
# Without room (ENOSPC, EDQUOT) it deletes all the same: to remember comes second.
sub remember { for (@_) { mkdir "$path/$_", 0700 or grep { $! == $_ } 17, 28, 122 or failed("cannot create $path/$_") } }
sub nested {
  my %in = ($_[0] => 1);
  my @all = map { /^ID (\\d+) .* top level (\\d+) / ? [$1, $2] : () } lines("btrfs", "subvolume", "list", $path);
  for (my $n = 0; $n != keys %in;) {
    $n = keys %in;
    for (@all) { $in{$_->[0]} = 1 if $in{$_->[1]} }
  }
  return keys %in;
}
sub destroy {
  my ($v) = @_;
  my ($id) = map { /^(\\d+)/ } $counts ? lines("btrfs", "inspect-internal", "rootid", $v) : ();
  remember($id) if $counts;
  my @delete = ("btrfs", "subvolume", "delete", "--", $v);
  return if quietly(@delete);
  remember(nested($id)) if $counts;
  my ($default) = map { /^ID (\\d+) / } lines("btrfs", "subvolume", "get-default", $v);
  my ($own) = map { /^(\\d+)/ } lines("btrfs", "inspect-internal", "rootid", $v);
  quietly(qw(btrfs subvolume set-default 5), $v) if grep { $_ == $default } nested($own);
  my @each = ("-type", "d", "-inum", "256", "-execdir");
  quietly("find", $v, @each, "chattr", "-f", "-i", "-a", "{}", ";");
  quietly("find", $v, @each, qw(btrfs property set -f -ts {} ro false ;));
  quietly("find", $v, "-mindepth", "1", "-depth", @each, qw(btrfs subvolume delete {} ;));
  run(@delete) or exit 1;
}
sub forget {
  my @deleted = grep { !-e "$_/volume" } map { "$all/$_" } grep { /^\\.old-/ } names($all);
  my %held = map { /^ID (\\d+) / ? ($1 => 1) : () } lines("btrfs", "subvolume", "list", "-d", $all);
  for my $d (@deleted) {
    for (names($d)) { rmdir "$d/$_" if /^\\d+$/ && !$held{$_} }
    rmdir $d;
  }
}
setpriority 0, 0, 10;
open(my $lock, "<", $path) or exit($! == 2 ? 0 : failed("cannot open $path"));
flock($lock, $wait ? 2 : 6) or exit 0;
-e $path or exit 0;
if ($what eq "tree") {
  my @rm = ("rm", "-rf", "--one-file-system", "--", $path);
  quietly(@rm) and exit 0;
  # "chattr -R" would need paths, which can be too long, and it follows none of them into another file system.
  quietly("find", $path, "-xdev", qw{( -type f -o -type d ) -execdir chattr -f -i -a -- {} +});
  run(@rm) or exit 1;
} else {
  my $v = $what eq "session" ? "$path/volume" : $path;
  my $inode = (lstat $v)[1];
  destroy($v) if -d _ && $inode == 256;
  rmdir $v if -d _ && $inode == 2; # a snapshot of the file system leaves this in place of a subvolume
  exit 0 if $what eq "subvolume";
  if ($counts) {
    forget();
    close $lock;
    for (; $seconds > 0 && -e $path; $seconds--) {
      quietly("btrfs", "filesystem", "sync", $all);
      sleep 1;
      forget();
    }
  }
  my @left = names($path);
  exit 0 if $counts && @left && !grep { !/^\\d+$/ } @left;
  rmdir $path or $! == 2 or failed("cannot remove $path");
}
`;

/** In how many seconds the space of an unused subvolume is certainly free; each begins with a commit. */
const COMMIT_WAIT = 60;

export interface EraseOptions {
  /** Start it only: whoever lists the pool's leftovers afterwards completes what it does not. */
  readonly background?: boolean;
  /** btrfs: waits until the space is free, but not forever. */
  readonly untilFree?: boolean;
}

/** The command that erases `path`; absent is success. In the foreground it waits for another one at work on it. */
export function eraseCommand(what: Erasable, path: string, o: EraseOptions = {}): Command {
  const { background = false, untilFree = false } = o;
  return {
    file: 'perl',
    args: ['-e', PROGRAM, '--', what, background ? '0' : '1', untilFree ? `${COMMIT_WAIT}` : '0', path],
    effect: 'write',
    background,
    describe: () => [`erase ${path}`],
  };
}
