/**
 * A part of the program of `process-look.ts`: mount namespaces that only a descriptor or a bind mount of their file keeps.
 * Whatever is mounted in them is in use, and no process shows it. A child enters such a namespace, so that the kernel shows
 * its mounts. The child looks at nothing there and runs no program of it. Since a process can exchange its descriptors,
 * what O_PATH has opened is proven to be a namespace before it is opened again.
 */
export const KEPT_NAMESPACES = `
my ($nsfs, %kept) = (device_of("/proc/self/ns/mnt"));
sub is_kept {
  my ($path) = @_;
  sysopen(my $there, $path, 010000000) or return 0;
  my ($on, $number) = stat $there;
  return 0 if $on != $nsfs || !$setns;
  return $kept{$number} //= place_kept("/proc/self/fd/" . fileno $there) ? 1 : 0;
}
sub place_kept {
  my ($path) = @_;
  sysopen(my $namespace, $path, 0) && pipe(my $read, my $write) or return;
  my $child = fork // return;
  if ($child == 0) {
    alarm $each;
    syswrite($write, "x") if syscall($setns + 0, fileno $namespace, 0x20000) == 0;
    close $write;
    sleep;
  }
  close $write;
  my $place = sysread($read, my $entered, 1) ? place_in($child) : undef;
  kill 9, $child;
  waitpid $child, 0;
  return $place;
}
sub named_namespaces {
  for (split /\\n/, slurp("/proc/self/mountinfo")) {
    my (undef, undef, undef, $what, $place) = split / /;
    next if $what !~ /^mnt:\\[/;
    $place =~ s/\\\\([0-7]{3})/chr oct $1/ge;
    found(1, "its mount of a namespace at $place") if is_kept($place);
  }
}
`;
