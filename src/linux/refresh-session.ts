/**
 * Brings a session up to date with the host: binds directories and sockets that the host has replaced or created since
 * the login, copies files that have changed, and its user's line of /etc/shadow. A person may be root in the session, so
 * nothing there is believed: each path is opened beneath the tree without following symlinks, and used by its descriptor.
 */
import type { Command } from './command.ts';
import { systemCallNumbers } from './mount-program.ts';

/**
 * Arguments: the numbers of mount(2), umount2(2) and openat2(2), a place for mounts on their way, the root of the
 * session, the name of its user or "", how many files to copy, these, then each path with "ro", "all" for the mounts below
 * it, both, or neither. The resolve flags
 * are those of `mount-script.ts`, and RESOLVE_NO_XDEV where something is written: what is mounted there is not the
 * session's. A time zone is looked up as in the session (RESOLVE_IN_ROOT).
 *
 * A copy replaces whatever has its name in the session, but for a directory.
 *
 * A bind on a shared mount appears in all its peers at once, and would there be a peer of the host's mount. So it is made
 * a slave on its way, where nothing is shared. With the mounts below it, it must never be mounted before: to unmount peers
 * of the host's below a mount unmounts those of the host. Such a copy has no place until it is complete (open_tree(2)).
 */
const PROGRAM = `
use strict;
use Fcntl;
umask 022;
my ($mount, $umount, $openat2) = map { $_ + 0 } splice @ARGV, 0, 3;
my ($way, $root, $user, $count) = splice @ARGV, 0, 4;
my @copies = splice @ARGV, 0, $count;
my ($none, $nothing, $failed) = ("none", "", 0);
my ($PATH, $DETACH, $BIND, $SLAVE, $READ_ONLY) = (012000000, 2, 4096, 1 << 19, 4143);
sub note { print STDERR "$_[0]: $!\\n"; $failed = 1; return }
sub opened {
  my ($from, $path, $flags, $resolve) = @_;
  my $how = pack("QQQ", $flags, 0, $resolve);
  my $fd = syscall($openat2, $from, $path, $how, 24);
  $fd >= 0 or return;
  open(my $handle, "<&=", $fd) or return;
  return $handle;
}
sub name { return "/proc/self/fd/" . fileno($_[0]) }
sub mounted { my ($from, $to, $flags) = @_; return syscall($mount, $from, $to, $none, $flags, $nothing) == 0 }
my $tree = opened(-100, "$root/.", $PATH, 0x06) or exit 0; # it has just ended
exit 0 if (stat name($tree))[0] == (stat "$root/..")[0]; # nothing is mounted there

sub place {
  my ($path, $is_directory) = @_;
  my ($at, @parts) = ($tree, split m{/}, substr $path, 1);
  while (defined(my $part = shift @parts)) {
    my $new = name($at) . "/$part";
    -l $new || -e _ || (@parts || $is_directory ? mkdir($new, 0755) : sysopen(my $file, $new, O_WRONLY | O_CREAT | O_EXCL));
    $at = opened(fileno($at), $part, $PATH, 0x0e) or return;
  }
  return $at;
}
sub refresh {
  my ($path, $how) = @_;
  my $read_only = $how =~ /ro/;
  my @now = stat $path or return;
  my $is_directory = -d _;
  my $there = opened(fileno($tree), substr($path, 1), $PATH, 0x0e);
  if ($there) {
    my @shown = stat name($there);
    return if $shown[0] == $now[0] && $shown[1] == $now[1];
    syscall($umount, name($there), $DETACH); # fails where nothing was mounted yet
  }
  my $place = place($path, $is_directory) or return note("cannot open $path in $root");
  return attach($path, $place, $read_only) if $how =~ /all/;
  my $stage = $way . ($is_directory ? ".directory" : ".file");
  syscall($umount, $stage, $DETACH); # of a run that was killed
  $is_directory ? mkdir $stage, 0700 : sysopen(my $file, $stage, O_WRONLY | O_CREAT, 0600);
  mounted($path, $stage, $BIND) or note("cannot mount $path");
  (mounted($none, $stage, $SLAVE) && (!$read_only || mounted($none, $stage, $READ_ONLY))
    && mounted($stage, name($place), $BIND)) or note("cannot mount $path in $root");
  syscall($umount, $stage, $DETACH);
  ($is_directory ? rmdir $stage : unlink $stage) or note("cannot remove $stage");
}
sub attach {
  my ($path, $place, $read_only) = @_;
  my $copy = syscall(428, -100, $path, 02100001, 0); # open_tree: OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, AT_RECURSIVE
  my $slave = pack("QQQQ", $read_only ? 1 : 0, 0, $SLAVE, 0);
  $copy >= 0
    && syscall(442, $copy, $nothing, 0x9000, $slave, 32) == 0 # mount_setattr: AT_EMPTY_PATH, AT_RECURSIVE
    && syscall(429, $copy, $nothing, fileno $place, $nothing, 0x44) == 0 # move_mount: between two descriptors
    or note("cannot mount $path in $root");
}
sub copy_shadow {
  my $line = "$user:*:::::::\\n";
  open(my $host, "<", "/etc/shadow") or return note("cannot read /etc/shadow");
  while (<$host>) { $line = $_ if index($_, "$user:") == 0 }
  my $etc = opened(fileno($tree), "etc", $PATH, 0x0f) or return;
  my $file = opened(fileno($etc), "shadow", O_RDONLY | O_NONBLOCK, 0x0f) or return;
  my @there = stat $file;
  -f _ && $there[7] < 1 << 20 or return note("$root/etc/shadow is not a file of accounts");
  my @lines = <$file>;
  my @others = grep { index($_, "$user:") != 0 } @lines;
  return if join("", @lines) eq join("", @others, $line);
  put($etc, "shadow", join("", @others, $line), @there[4, 5], $there[2] & 07777) or note("cannot write $root/etc/shadow");
}
sub put {
  my ($directory, $last, $text, $uid, $gid, $mode) = @_;
  my $part = name($directory) . "/.$last.mayfly";
  unlink $part;
  my $new;
  return sysopen($new, $part, O_WRONLY | O_CREAT | O_EXCL, 0600)
    && chown($uid, $gid, $new) && chmod($mode, $new) && print($new $text) && close($new)
    && rename($part, name($directory) . "/$last");
}
sub text_at { # a regular file, or nothing
  my ($file) = @_;
  $file && -f $file && -s _ < 1 << 20 or return;
  local $/;
  return scalar(<$file>) // "";
}
sub copy_zone {
  my ($etc) = @_;
  my $zone = readlink "/etc/localtime";
  defined $zone && $zone =~ m{/usr/share/zoneinfo/([A-Za-z0-9][A-Za-z0-9_+/-]*)$} or return;
  my ($name, $link) = ($1, "/usr/share/zoneinfo/$1");
  opened(fileno($tree), $link, $PATH, 0x12) or return; # without it, the text is copied
  my $part = name($etc) . "/.localtime.mayfly";
  unlink $part;
  symlink($link, $part) && rename($part, name($etc) . "/localtime") or note("cannot write $root/etc/localtime");
  lstat(name($etc) . "/timezone") && -f _ or return 1;
  return put($etc, "timezone", "$name\n", 0, 0, 0644) || 1;
}
sub copy_file {
  my ($path) = @_;
  my ($directory, $last) = $path =~ m{^/(.+)/([^/]+)$} or return;
  my $at = opened(fileno($tree), $directory, $PATH, 0x0f) or return; # the session has no such directory of its own
  return if $path eq "/etc/localtime" && copy_zone($at);
  sysopen(my $host, $path, O_RDONLY | O_NONBLOCK) or return; # what the host has no more, the session keeps
  my $text = text_at($host) // return;
  my $before = text_at(opened(fileno($at), $last, O_RDONLY | O_NONBLOCK, 0x0f));
  return if defined $before && $before eq $text;
  put($at, $last, $text, 0, 0, 0644) or note("cannot write $root$path");
}
copy_shadow() if $user ne "";
copy_file($_) for @copies;
while (my ($path, $how) = splice @ARGV, 0, 2) { refresh($path, $how) }
exit $failed;
`;

export interface SharedPath {
  readonly path: string;
  readonly readOnly: boolean;
  /** With the mounts below it. */
  readonly recursive?: boolean;
}

/**
 * The command for the session whose root is `root`; `user` names the account whose line of /etc/shadow it has, `copies` are
 * files to copy, `way` is a path in a private mount. It ends after some seconds whatever it finds. No password is in its
 * arguments.
 */
export function refreshCommand(
  root: string,
  user: string,
  way: string,
  shared: readonly SharedPath[],
  copies: readonly string[] = [],
): Command {
  const numbers = systemCallNumbers(process.arch).map(String);
  const paths = shared.flatMap(({ path, readOnly, recursive = false }) => [
    path,
    (readOnly ? 'ro' : '') + (recursive ? 'all' : ''),
  ]);
  return {
    file: 'timeout',
    args: [
      ...['-s', 'KILL', '10', 'perl', '-e', PROGRAM, '--', ...numbers, way, root, user],
      ...[String(copies.length), ...copies, ...paths],
    ],
    effect: 'write',
    describe: () => [`bring ${root} up to date`],
  };
}
