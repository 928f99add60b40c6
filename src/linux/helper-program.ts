/**
 * The Perl program of `helper.ts`. Arguments: the process whose descriptors it uses, the numbers of pidfd_open(2) and
 * pidfd_getfd(2), and the program that mounts.
 *
 * Request: `ID COUNT LENGTH\n`, and COUNT fields that end with \0, of LENGTH bytes together: what to do, the descriptors that
 * it uses, separated by commas, and arguments. Answer: `ID 999 0\n` when a child has begun, then `ID CODE LENGTH\n`, and what
 * it wrote to stderr. The first answer, to request 0, says whether it can work.
 *
 * Each request is done by a child, which ends with it: one that hangs delays no other, and a lock that it uses stays taken
 * while it runs. The child has copies of the descriptors (pidfd_getfd), so a lock that it takes with flock(2) belongs to the
 * process that has asked, as with flock(1).
 */
export const HELPER_PROGRAM = `
use strict;
# Where none of our variables is seen. Each child compiles it, which takes a millisecond: its functions share its variables
# only with the first to run it.
sub run_program { eval $_[0]; print STDERR $@; exit($@ ? 1 : 0) }
my ($owner, $open, $get, $mount_program) = @ARGV;
my $owner_fd = syscall($open + 0, $owner + 0, 0);
my ($received, %children) = ("");
sub answer { my $text = join(" ", @_[0, 1], length $_[2]) . "\\n$_[2]"; print STDOUT $text }
$| = 1;
my $copy = $owner_fd >= 0 ? syscall($get + 0, $owner_fd, 0, 0) : -1; # its standard input: a container may refuse that
answer(0, $copy >= 0 && getppid == $owner ? 0 : 1, "$!");
open(my $unused, "<&=", $copy) if $copy >= 0;
close $unused if $unused;
sub take {
  my ($number) = @_;
  my $fd = syscall($get + 0, $owner_fd, $number + 0, 0);
  for ($fd < 0 ? () : ("+<&=", "<&=")) { my $handle; open($handle, $_, $fd) and return $handle }
  exit 121; # nothing has been done
}
sub work {
  my ($what, $descriptors, @arguments) = @_;
  my @taken = map { take($_) } split(/,/, $descriptors);
  if ($what eq "lock") {
    my ($seconds, $code) = @arguments;
    exit 0 if flock($taken[0], 6);
    exit $code if $seconds == 0;
    local $SIG{ALRM} = sub { exit $code };
    alarm $seconds;
    exit(flock($taken[0], 2) ? 0 : 1);
  }
  @ARGV = @arguments;
  run_program($mount_program);
}
sub begin {
  my ($id, @fields) = @_;
  my ($errors, $written);
  my $pid = pipe($errors, $written) ? fork : undef;
  defined $pid or return answer($id, 121, ""); # nothing has been done
  if ($pid == 0) {
    open(STDERR, ">&", $written);
    open(STDIN, "<", "/dev/null");
    open(STDOUT, ">", "/dev/null");
    close $written;
    close $errors;
    work(@fields);
  }
  answer($id, 999, "");
  close $written;
  $children{fileno $errors} = { id => $id, pid => $pid, errors => $errors, text => "" };
}
sub listen_to {
  my ($child) = @_;
  sysread($child->{errors}, $child->{text}, 65536, length $child->{text}) and return;
  waitpid($child->{pid}, 0);
  my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
  delete $children{fileno $child->{errors}};
  answer($child->{id}, $code, $child->{text});
}
for (;;) {
  while ($received =~ /^(\\d+) (\\d+) (\\d+)\\n/ && length($received) >= length($&) + $3) {
    my ($id, $count, $length, $head) = ($1, $2, $3, length $&);
    my @fields = split(/\\0/, substr($received, $head, $length), -1);
    $received = substr($received, $head + $length);
    begin($id, @fields[0 .. $count - 1]);
  }
  my $set = "";
  vec($set, $_, 1) = 1 for fileno(STDIN), keys %children;
  select($set, undef, undef, undef) > 0 or next;
  listen_to($_) for map { vec($set, $_, 1) ? $children{$_} : () } keys %children;
  vec($set, fileno(STDIN), 1) or next;
  sysread(STDIN, $received, 65536, length $received) or exit;
}
`;
