/**
 * Owners and groups of all files of a tree: which numbers are in use, and changing them. Three modes of one program:
 *
 * - `survey` writes the paths of everything that does not belong to root alone, and prints the numbers;
 * - `plan` writes what has to be changed for files to have other numbers, as absolute values;
 * - `apply` makes these changes, and can be repeated after it was killed.
 *
 * chown(2) clears the set-id bits and the capabilities of a file, also for root, so they are a part of the plan. So are
 * the entries of POSIX ACLs, which hold numbers. Symlinks are never followed, and what is mounted in the tree is left
 * alone: each path is opened with openat2 (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS,
 * RESOLVE_NO_XDEV). A file with several names is changed once, because all its names lead to the same values.
 */
import { MayflyError } from '../errors.ts';
import type { Command } from './command.ts';

/** New numbers of owners and groups, by the old ones. */
export interface NumberMoves {
  readonly users: ReadonlyMap<number, number>;
  readonly groups: ReadonlyMap<number, number>;
}

/** The numbers of setxattr(2), after which the others of its family follow, by Node's name of the architecture. */
const SETXATTR: Readonly<Record<string, number>> = {
  x64: 188,
  arm64: 5,
  riscv64: 5,
  loong64: 5,
  arm: 226,
  ia32: 226,
  ppc64: 209,
  s390x: 224,
  mips64el: 5180,
};

/** openat2(2) has the same number everywhere, but for an offset. */
const OPENAT2: Readonly<Record<string, number>> = { mips64el: 5437 };

/**
 * Arguments: the numbers of setxattr and openat2, mode, tree, the file to write or to read ("-": stdout or stdin), the
 * new users, the new groups ("1=2,3=4"), and a file with the paths to visit ("": all).
 */
export const OWNERSHIP_PROGRAM = `
use strict;
use Fcntl qw(:mode O_RDONLY O_DIRECTORY O_NOFOLLOW);
use POSIX ();
my ($setxattr, $openat2, $mode, $tree, $file, $users, $groups, $list) = @ARGV;
$_ += 0 for $setxattr, $openat2;
my %uids = map { split /=/ } split /,/, $users;
my %gids = map { split /=/ } split /,/, $groups;
my ($CAP, $ACL, $DEFAULT) = ("security.capability", "system.posix_acl_access", "system.posix_acl_default");
my ($path, $out, $count, %seen) = ("", undef, 0);
# 1: names are those of the files, in the working directory; 0: they are magic links of descriptors, to be followed.
my $plain = $list eq "" ? 1 : 0;
sub failed { print STDERR "$_[0]: $!\\n"; exit 1 }
sub opened {
  my ($from, $name, $flags, $resolve) = @_;
  my $how = pack("QQQ", $flags | 02000000, 0, $resolve);
  return syscall($openat2, $from, $name, $how, 24);
}
my $start = "$tree/.";
my $top = opened(-100, $start, O_RDONLY | O_DIRECTORY, 0);
$top >= 0 or failed("cannot open $tree");
# Undefined for what is mounted in the tree.
sub inside {
  my ($name, $flags) = @_;
  my $fd = opened($top, $name, $flags, 0x0f);
  return $fd if $fd >= 0;
  return undef if $! == 18;
  failed("cannot open $tree/$name");
}
sub keys_of {
  my ($name) = @_;
  my $buffer = "\\0" x 65536;
  my $size = syscall($setxattr + 6 + $plain, $name, $buffer, 65536);
  return $size > 0 ? map { $_ => 1 } split(/\\0/, substr($buffer, 0, $size)) : ();
}
sub value_of {
  my ($name, $key) = @_;
  my $buffer = "\\0" x 65536;
  my $size = syscall($setxattr + 3 + $plain, $name, $key, $buffer, 65536);
  $size >= 0 or failed("cannot read $key of $tree/$path");
  return substr($buffer, 0, $size);
}
# Entries of an ACL: tag, permissions, number; the tags 2 and 8 are those of a named user and a named group.
sub entries_of {
  my ($version, @fields) = unpack("V(vvV)*", $_[0]);
  $version == 2 or failed("cannot read the ACL of $tree/$path");
  my @entries;
  push @entries, [splice @fields, 0, 3] while @fields;
  return @entries;
}
sub changed {
  my ($acl) = @_;
  my $new = pack("V", 2);
  for (entries_of($acl)) {
    my ($tag, $permissions, $id) = @$_;
    $id = $tag == 2 ? $uids{$id} // $id : $tag == 8 ? $gids{$id} // $id : $id;
    $new .= pack("vvV", $tag, $permissions, $id);
  }
  return $new eq $acl ? undef : $new;
}
sub visit {
  my ($name, @s) = @_;
  my %has = S_ISLNK($s[2]) ? () : keys_of($name);
  my @acls = map { $has{$_} ? value_of($name, $_) : undef } $ACL, $DEFAULT;
  if ($mode eq "survey") {
    my @named = grep { $_->[0] == 2 || $_->[0] == 8 } map { defined $_ ? entries_of($_) : () } @acls;
    return if $s[4] == 0 && $s[5] == 0 && !@named;
    $seen{$_} = 1 for "u$s[4]", "g$s[5]", map { ($_->[0] == 2 ? "u" : "g") . $_->[2] } @named;
    print $out "$path\\0" or failed("cannot write $file");
    return;
  }
  my ($uid, $gid) = ($uids{$s[4]} // $s[4], $gids{$s[5]} // $s[5]);
  my @new = map { defined $_ ? changed($_) : undef } @acls;
  return if $uid == $s[4] && $gid == $s[5] && !defined $new[0] && !defined $new[1];
  my @hex = map { defined $_ ? unpack("H*", $_) : "-" } $has{$CAP} ? value_of($name, $CAP) : undef, @new;
  print $out join(" ", $uid, $gid, S_IMODE($s[2]), @hex, $path), "\\0" or failed("cannot write $file");
  $count++;
}
sub walk {
  my @pending = (".");
  while (defined(my $directory = pop @pending)) {
    my $fd = inside($directory, O_RDONLY | O_DIRECTORY);
    next unless defined $fd;
    opendir(my $handle, "/proc/self/fd/$fd") or failed("cannot read $tree/$directory");
    POSIX::close($fd);
    chdir $handle or failed("cannot enter $tree/$directory");
    for my $name (readdir $handle) {
      next if $name eq ".." || ($name eq "." && $directory ne ".");
      $path = $directory eq "." ? $name : "$directory/$name";
      my @s = lstat $name or failed("cannot examine $tree/$path");
      push @pending, $path if S_ISDIR($s[2]) && $name ne ".";
      visit($name, @s);
    }
  }
}
sub follow_list {
  open(my $paths, "<", $list) or failed("cannot read $list");
  local $/ = "\\0";
  while (defined(my $line = <$paths>)) {
    chomp($path = $line);
    my $fd = inside($path, 010000000 | O_NOFOLLOW);
    next unless defined $fd;
    my @s = stat "/proc/self/fd/$fd" or failed("cannot examine $tree/$path");
    visit("/proc/self/fd/$fd", @s);
    POSIX::close($fd);
  }
}
sub set_value {
  my ($at, $key, $hex) = @_;
  return if $hex eq "-";
  my $value = pack("H*", $hex);
  syscall($setxattr, $at, $key, $value, length $value, 0) == 0 or failed("cannot set $key of $tree/$path");
}
sub apply {
  open(my $in, $file eq "-" ? "<&STDIN" : "<", $file eq "-" ? () : $file) or failed("cannot read $file");
  local $/ = "\\0";
  while (defined(my $line = <$in>)) {
    chomp $line;
    (my ($uid, $gid, $bits, $cap, $acl, $default), $path) = split / /, $line, 7;
    my $fd = inside($path, 010000000 | O_NOFOLLOW);
    next unless defined $fd;
    my $at = "/proc/self/fd/$fd";
    chown($uid, $gid, $at) == 1 or failed("cannot change the owner of $tree/$path");
    my @s = stat $at or failed("cannot examine $tree/$path");
    if (!S_ISLNK($s[2])) {
      set_value($at, $ACL, $acl);
      set_value($at, $DEFAULT, $default);
      @s = stat $at or failed("cannot examine $tree/$path");
      S_IMODE($s[2]) == $bits or chmod($bits, $at) == 1 or failed("cannot change the mode of $tree/$path");
      set_value($at, $CAP, $cap);
    }
    POSIX::close($fd);
  }
}
if ($mode eq "apply") { apply(); exit 0 }
open($out, $file eq "-" ? ">&STDOUT" : ">", $file eq "-" ? () : $file) or failed("cannot write $file");
$plain ? walk() : follow_list();
close $out or failed("cannot write $file");
print map { "$_\\n" } sort keys %seen if $mode eq "survey";
`;

/** The number of setxattr(2). Throws `missing-tool`. */
export function setxattrNumber(architecture: string): number {
  const number = SETXATTR[architecture];
  if (number !== undefined) return number;
  throw new MayflyError('missing-tool', `the system call numbers of "${architecture}" are unknown`);
}

function ownershipCommand(
  mode: 'survey' | 'plan' | 'apply',
  tree: string,
  file: string,
  { moves, list = '' }: { readonly moves?: NumberMoves; readonly list?: string } = {},
): Pick<Command, 'file' | 'args'> {
  const mapOf = (map: ReadonlyMap<number, number> | undefined): string =>
    [...(map ?? [])].map(([from, to]) => `${from}=${to}`).join(',');
  const numbers = [String(setxattrNumber(process.arch)), String(OPENAT2[process.arch] ?? 437)];
  const args = [mode, tree, file, mapOf(moves?.users), mapOf(moves?.groups), list];
  return { file: 'perl', args: ['-e', OWNERSHIP_PROGRAM, '--', ...numbers, ...args] };
}

/** Writes the paths of what does not belong to root alone, separated by NUL, to `file`; prints the numbers: "u1000". */
export function surveyCommand(tree: string, file: string): Command {
  return { ...ownershipCommand('survey', tree, file), effect: 'read' };
}

/** The numbers that a survey has printed. */
export function parseSurvey(stdout: string): { readonly users: number[]; readonly groups: number[] } {
  const of = (kind: string): number[] =>
    stdout.split('\n').flatMap(line => (line.startsWith(kind) ? [Number(line.slice(1))] : []));
  return { users: of('u'), groups: of('g') };
}

/** Writes to `file` what has to be changed in `tree`, which changes nothing. */
export function planOwnersCommand(tree: string, file: string, moves: NumberMoves): Command {
  return { ...ownershipCommand('plan', tree, file, { moves }), effect: 'read' };
}

export function applyOwnersCommand(tree: string, file: string): Command {
  const describe = () => [`give the files of ${tree} other owners`];
  return { ...ownershipCommand('apply', tree, file), effect: 'write', describe };
}

/** Changes the files of `tree` that are in `list` at once, or all if it is undefined. */
export function changeOwnersCommand(tree: string, moves: NumberMoves, list: string | undefined): Command {
  const pipeFrom = ownershipCommand('plan', tree, '-', { moves, ...(list === undefined ? {} : { list }) });
  return { ...applyOwnersCommand(tree, '-'), pipeFrom };
}
