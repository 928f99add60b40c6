/**
 * The Perl program of `helper-process.ts`. Arguments: the process whose descriptors it uses, the numbers of pidfd_open(2) and
 * pidfd_getfd(2), and the program that mounts.
 *
 * Request: `ID COUNT LENGTH\n`, and COUNT fields that end with \0, of LENGTH bytes together: what to do, the descriptors that
 * it uses as `NUMBER=DEVICE:INODE`, separated by commas, and arguments. Answers are `ID CODE LENGTH\n` and a text. On standard
 * output: 999 before a child begins, 121 if nothing was done, and 128 and a signal if it has killed the child. On descriptor 3,
 * from the child itself: its exit code, and what it wrote to stderr. The first answer, to request 0, says whether it can work.
 *
 * Each request is done by a child, which ends with it: one that hangs delays no other, and none needs its parent any more. A
 * lock that it uses stays taken while it runs. The child has copies of the descriptors (pidfd_getfd), so a lock that it takes
 * with flock(2) belongs to the process that has asked, as with flock(1). They are taken before 999 is said: whoever has heard
 * that may close theirs.
 */
export const HELPER_PROGRAM = `
use strict;
# Where none of our variables is seen. Each child compiles it, which takes a millisecond: its functions share its variables
# only with the first to run it.
sub run_program { eval $_[0]; print STDERR $@; exit($@ ? 1 : 0) }
my ($owner, $open, $get, $mount_program) = @ARGV;
my ($received, $mine, $errors, %children) = ("");
open(my $results, ">&=", 3) or exit 1;
sub answer {
  my ($to, $id, $code, $text) = @_;
  syswrite $to, "$id $code " . length($text) . "\\n$text";
}
END { # of a child
  if (defined $mine) {
    my ($code, $text) = ($?, "");
    close STDERR;
    sysread($errors, $text, 3000); # so short that it is written at once
    answer($results, $mine, $code, $text);
    $? = $code;
  }
}
my $owner_fd = syscall($open + 0, $owner + 0, 0);
my $copy = $owner_fd >= 0 ? syscall($get + 0, $owner_fd, 0, 0) : -1; # its standard input: a container may refuse that
answer(*STDOUT, 0, $copy >= 0 && getppid == $owner ? 0 : 1, "$!");
open(my $unused, "<&=", $copy) if $copy >= 0;
close $unused if $unused;
sub take {
  my ($number, $file) = split(/=/, $_[0]);
  my $fd = syscall($get + 0, $owner_fd, $number + 0, 0);
  for ($fd < 0 ? () : ("+<&=", "<&=")) {
    open(my $handle, $_, $fd) or next;
    return join(":", (stat $handle)[0, 1]) eq $file ? $handle : undef;
  }
  return undef;
}
sub work {
  my ($what, $lock, @arguments) = @_;
  if ($what eq "lock") {
    my ($seconds, $code) = @arguments;
    exit 0 if flock($lock, 6);
    exit 121 if $! != 11; # EWOULDBLOCK
    exit $code if $seconds == 0;
    local $SIG{ALRM} = sub { exit $code };
    alarm $seconds;
    exit(flock($lock, 2) ? 0 : 121);
  }
  @ARGV = @arguments;
  run_program($mount_program);
}
sub begin {
  my ($id, $what, $descriptors, @arguments) = @_;
  return answer(*STDOUT, $id, 0, "") if $what eq "answer";
  my @taken = map { take($_) } split(/,/, $descriptors);
  my ($alive, $living, $text, $written);
  return answer(*STDOUT, $id, 121, "")
    if grep({ !defined } @taken) || !pipe($alive, $living) || !pipe($text, $written);
  answer(*STDOUT, $id, 999, "");
  my $pid = fork;
  return answer(*STDOUT, $id, 121, "") unless defined $pid;
  if ($pid == 0) {
    ($mine, $errors) = ($id, $text);
    open(STDIN, "<", "/dev/null") && open(STDOUT, ">", "/dev/null") && open(STDERR, ">&", $written) or exit 121;
    close $written;
    work($what, $taken[0], @arguments);
  }
  $children{fileno $alive} = { id => $id, pid => $pid, alive => $alive };
}
sub bury {
  my ($child) = @_;
  waitpid($child->{pid}, 0);
  my $signal = $? & 127;
  delete $children{fileno $child->{alive}};
  answer(*STDOUT, $child->{id}, 128 + $signal, "") if $signal;
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
  bury($_) for map { vec($set, $_, 1) ? $children{$_} : () } keys %children;
  vec($set, fileno(STDIN), 1) or next;
  sysread(STDIN, $received, 65536, length $received) or exit;
}
`;
