/**
 * Brings a session up to date with the host: binds directories and sockets that the host has replaced or created since
 * the login, and copies its user's line of /etc/shadow. A person may be root in the session, so nothing there is
 * believed: each path is opened beneath the tree without following symlinks, and used by its descriptor.
 */
import type { Command } from './command.ts';
import { systemCallNumbers } from './mount-program.ts';

/**
 * Arguments: the numbers of mount(2), umount2(2) and openat2(2), a place for mounts on their way, the root of the
 * session, the name of its user or "", then each path with "ro" or "". The resolve flags are those of `mount-script.ts`,
 * and RESOLVE_NO_XDEV for /etc.
 *
 * A bind on a shared mount appears in all its peers at once, and would there be a peer of the host's mount. So it is made
 * a slave on its way, where nothing is shared.
 */
const PROGRAM = `
use strict;
use Fcntl;
umask 022;
my ($mount, $umount, $openat2) = map { $_ + 0 } splice @ARGV, 0, 3;
my ($way, $root, $user) = splice @ARGV, 0, 3;
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
  my ($path, $read_only) = @_;
  my @now = stat $path or return;
  my $is_directory = -d _;
  my $there = opened(fileno($tree), substr($path, 1), $PATH, 0x0e);
  if ($there) {
    my @shown = stat name($there);
    return if $shown[0] == $now[0] && $shown[1] == $now[1];
    syscall($umount, name($there), $DETACH); # fails where nothing was mounted yet
  }
  my $place = place($path, $is_directory) or return note("cannot open $path in $root");
  my $stage = $way . ($is_directory ? ".directory" : ".file");
  syscall($umount, $stage, $DETACH); # of a run that was killed
  $is_directory ? mkdir $stage, 0700 : sysopen(my $file, $stage, O_WRONLY | O_CREAT, 0600);
  mounted($path, $stage, $BIND) or note("cannot mount $path");
  (mounted($none, $stage, $SLAVE) && (!$read_only || mounted($none, $stage, $READ_ONLY))
    && mounted($stage, name($place), $BIND)) or note("cannot mount $path in $root");
  syscall($umount, $stage, $DETACH);
  ($is_directory ? rmdir $stage : unlink $stage) or note("cannot remove $stage");
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
  my $part = name($etc) . "/.shadow.mayfly";
  unlink $part;
  sysopen(my $new, $part, O_WRONLY | O_CREAT | O_EXCL, 0600) or return note("cannot write in $root/etc");
  chown($there[4], $there[5], $new) && chmod($there[2] & 07777, $new) && print($new @others, $line) && close($new)
    && rename($part, name($etc) . "/shadow") or note("cannot write $root/etc/shadow");
}
copy_shadow() if $user ne "";
while (my ($path, $read_only) = splice @ARGV, 0, 2) { refresh($path, $read_only) }
exit $failed;
`;

export interface SharedPath {
  readonly path: string;
  readonly readOnly: boolean;
}

/**
 * The command for the session whose root is `root`; `user` names the account whose line of /etc/shadow it has, `way` is a
 * path in a private mount. It ends after some seconds whatever it finds. No password is in its arguments.
 */
export function refreshCommand(
  root: string,
  user: string,
  way: string,
  shared: readonly SharedPath[],
): Command {
  const numbers = systemCallNumbers(process.arch).map(String);
  const paths = shared.flatMap(({ path, readOnly }) => [path, readOnly ? 'ro' : '']);
  return {
    file: 'timeout',
    args: ['-s', 'KILL', '10', 'perl', '-e', PROGRAM, '--', ...numbers, way, root, user, ...paths],
    effect: 'write',
    describe: () => [`bring ${root} up to date`],
  };
}
