/**
 * The Perl program of `mount-program.ts`.
 *
 * Arguments: the three numbers, then seven per operation. umount2's flags are MNT_DETACH and UMOUNT_NOFOLLOW.
 *
 * The target of the first mount is the top of a tree, and every later target is in it. So that no symlink and no ".."
 * leads out of the tree, each is opened with openat2 (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS;
 * O_PATH and O_CLOEXEC), and used by its descriptor: what was proven is what is used.
 */
export const MOUNT_SCRIPT = `
use strict;
umask 022;
my ($mount, $umount, $openat2) = map { $_ + 0 } splice @ARGV, 0, 3;
my ($top, $tree) = ("", undef);
sub failed { print STDERR "$_[0]: $!\\n"; exit 32 }
my ($none, $nothing) = ("none", "");
sub spread {
  my ($at, $flags, $target) = @_;
  syscall($mount, $none, $at, $none, $flags + 0, $nothing) == 0 or failed("cannot set the propagation of $target");
}
sub opened {
  my ($from, $path, $resolve) = @_;
  my $how = pack("QQQ", 012000000, 0, $resolve);
  my $fd = syscall($openat2, $from, $path, $how, 24);
  $fd >= 0 or return;
  open(my $handle, "<&=", $fd) or return;
  return $handle;
}
sub inside {
  my ($path) = @_;
  return $tree if $path eq $top;
  if (index($path, "$top/") != 0) { $! = 18; failed("$path is not in $top") }
  return opened(fileno($tree), substr($path, 1 + length $top), 0x0e) || failed("cannot open $path in $top");
}
sub name { return "/proc/self/fd/" . fileno($_[0]) }
sub enter {
  my ($root, $merge) = @_;
  my $pid = fork;
  defined $pid or failed("cannot fork");
  if ($pid == 0) {
    open(STDOUT, ">&", \\*STDERR) or failed("cannot redirect stdout") if $merge;
    chroot($root) or failed("cannot chroot to $root") if $root ne "";
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
    my $place = $tree && inside($target);
    my $at = $tree ? name($place) : $target;
    my ($from, $shown) = ("", $source);
    if ($type eq "plain") {
      # With "/" an automounter mounts it. "/." would search the directory too, which root may not in a home on NFS.
      $from = opened(-100, "$source/", 0x06) || failed("cannot open $source without following a symlink");
      $source = name($from);
    }
    syscall($mount, $source, $at, $type, $flags + 0, $data) == 0 or failed("cannot mount $shown on $target");
    # The descriptor is that of the mount point, not of what is mounted on it now.
    $place = inside($target) if $tree;
    # Only a second call sets the flags of a bind mount. It sets all of them: what is read-only runs nothing either.
    !(($flags & 4096) && ($flags & 7))
      or syscall($mount, $none, $tree ? name($place) : $target, $none, $flags & 1 ? 4143 : $flags & ~16384 | 32, $nothing) == 0
      or failed("cannot set the flags of $target");
    spread($tree ? name($place) : $target, $propagation, $target);
    ($top, $tree) = ($target, opened(-100, "$target/.", 0) || failed("cannot open $target")) unless $tree;
  } elsif ($op eq "slave" || $op eq "share") {
    spread($target, $flags, $target);
  } elsif ($op eq "enter") {
    enter($target, $flags);
  } elsif ($op eq "detach") {
    syscall($umount, $target, 10) == 0 or failed("cannot unmount $target");
  } else {
    my ($parent, $last) = $target =~ m{^(.*)/([^/]+)$}s;
    my $directory = $tree && inside($parent);
    my $at = $tree ? name($directory) . "/$last" : $target;
    if ($op eq "make") {
      my $new;
      ($type eq "l" ? symlink($data, $at) : $type eq "d" ? mkdir($at) : open($new, ">", $at)) or failed("cannot create $target");
      !$new or print($new $data) && close($new) or failed("cannot write $target");
      $type eq "l" or chown(split(" ", $source), $at) && chmod($flags, $at) or failed("cannot give away $target");
    } elsif (-l $at && !($flags && unlink $at)) {
      $! = 40; failed("$target");
    } elsif ($op eq "dir") {
      -d _ or mkdir $at, 0755 or failed("cannot create the directory $target");
    } elsif (-d _) {
      $! = 21; failed("$target");
    } else {
      -e _ or open(my $file, ">", $at) or failed("cannot create the file $target");
    }
  }
}
`;
