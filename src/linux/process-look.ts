/**
 * Looking at what processes use, in a child process that ends after some seconds.
 *
 * A look can take long or hang: a process may have a million descriptors, and stat(2) of a file asks its file server,
 * which may be dead. The child asks no server (`AT_STATX_DONT_SYNC`), and what it has found when its time is over is its
 * answer. If one process takes too long all the same, the child dies, and another one leaves that process out. A child that
 * no signal reaches, because it waits for a server, is left behind. It is a Perl program, because Node.js has no statx(2)
 * with flags; perl-base is Essential in Debian.
 */
import type { Command } from './command.ts';
import type { Host } from './host.ts';
import { KEPT_NAMESPACES } from './kept-namespaces.ts';
import { LOOK_CALLS } from './look-calls.ts';

/** A directory of a file system, as in mount tables. */
export interface MountedDirectory {
  /** major:minor of the file system. */
  readonly device: string;
  /** The directory; "" for the root of the file system. */
  readonly root: string;
}

export interface LookOptions {
  /** Numbers of the file systems whose users are wanted. */
  readonly devices: ReadonlySet<number>;
  /**
   * The processes of which more than the root directory is looked at: of a user, of a user and the system (user IDs
   * below 1000), or all.
   */
  readonly of: { readonly uid: number; readonly system?: boolean } | 'all';
  /** Also finds one process of each mount namespace in which this, or one of the file systems, is still mounted. */
  readonly mounted?: MountedDirectory | undefined;
}

/** A process that uses one of the devices. */
export interface DeviceUser {
  readonly pid: number;
  /** The name of the process, which it chooses itself. */
  readonly name: string;
  /**
   * "root", "cwd", "exe", "open file /x", "mapped file /x", "its mount at /x", "open mount namespace", or "its mount of a
   * namespace at /x".
   */
  readonly use: string;
}

export interface ProcessLook {
  readonly users: readonly DeviceUser[];
  /** The processes that could not be looked at in time. */
  readonly unseen: readonly number[];
}

/** How long a look at all processes may take, in seconds; it normally takes a thousandth of it. */
const LOOK_SECONDS = 20;

/**
 * How long a look at one process may take, in seconds. At a load of 10 it took more than 2 for one with 60,000 mappings.
 */
const PROCESS_SECONDS = 5;

/** The exit code of a child whose time is over. */
const OVER = 3;

/** The exit code of a child that SIGALRM has ended. */
const KILLED = 255;

/**
 * Arguments: the number of statx (0: unknown), the times for all processes and for each in seconds, whose processes, pids
 * to leave out, devices, device and directory of a mount, and the numbers of setns and clock_gettime (0: unknown). It
 * writes a line with the pid before it looks at a process, and a line with pid, name and use, separated by tabs, for each
 * that it finds. SIGALRM ends it wherever it is.
 *
 * Root directories come first, because they are quickly seen. A mapped file stays in use after its descriptor is closed. The
 * device numbers in /proc/PID/maps are not used: on btrfs they are not those of the subvolumes.
 */
export const LOOK_PROGRAM = `
use strict;
my ($statx, $seconds, $each, $of, $skip, $devices, $device, $root, $setns, $clock) = splice @ARGV, 0, 10;
my $over = seconds() + $seconds;
my %skip = map { $_ => 1 } $$, split(/,/, $skip);
my %wanted = map { $_ => 1 } split(/,/, $devices);
my $buffer = "\\0" x 256;
sub seconds { # of the monotonic clock: the time of day may be set at any moment
  my $now = "\\0" x 16;
  return $clock && syscall($clock + 0, 1, $now) == 0 ? unpack("l!", $now) : time;
}
sub device_of {
  my ($path) = @_;
  return (stat $path)[0] // -1 unless $statx;
  # AT_FDCWD; AT_STATX_DONT_SYNC and AT_NO_AUTOMOUNT
  syscall($statx + 0, -100, $path, 0x4800, 0, $buffer) == 0 or return -1;
  return number_of(unpack("x136 L2", $buffer));
}
sub number_of {
  my ($major, $minor) = @_;
  return (($major & ~0xfff) << 32) | (($minor & ~0xff) << 12) | (($major & 0xfff) << 8) | ($minor & 0xff);
}
sub slurp {
  open(my $file, "<", $_[0]) or return "";
  local $/;
  return scalar(<$file>) // "";
}
sub tell_of { syswrite(STDOUT, join("\\t", map { s/([^\\x20-\\x7e]|%)/sprintf "%%%02x", ord $1/ger } @_) . "\\n") }
sub begin {
  tell_of($_[0]);
  exit ${OVER} if seconds() > $over;
  alarm $each;
}
sub found {
  my ($pid, $use) = @_;
  my $name = slurp("/proc/$pid/comm");
  chomp $name;
  tell_of($pid, $name eq "" ? "?" : $name, $use);
}
sub is_one_of_them {
  my ($pid) = @_;
  return 1 if $of eq "all";
  my ($uid) = slurp("/proc/$pid/status") =~ /^Uid:\\s+(\\d+)/m or return 0;
  my ($own, $system) = split(/,/, $of);
  return $uid == $own || ($system && $uid < 1000);
}
sub place_in {
  my ($pid) = @_;
  for (split /\\n/, slurp("/proc/$pid/mountinfo")) {
    my (undef, undef, $on, $directory, $place) = split / /;
    return $place if $wanted{number_of(split(/:/, $on))};
    return $place if $on eq $device && ($directory eq $root || index($directory, "$root/") == 0);
  }
  return;
}
${KEPT_NAMESPACES}sub use_of {
  my ($pid) = @_;
  for my $what ("cwd", "exe") { return $what if $wanted{device_of("/proc/$pid/$what")} }
  opendir(my $descriptors, "/proc/$pid/fd") or return;
  while (defined(my $fd = readdir $descriptors)) {
    next if $fd eq "." || $fd eq "..";
    my $link = "/proc/$pid/fd/$fd";
    my $on = device_of($link);
    return "open file " . (readlink($link) // $fd) if $wanted{$on};
    return "open mount namespace" if $on == $nsfs && $device ne "" && is_kept($link);
  }
  my %seen;
  for (split /\\n/, slurp("/proc/$pid/maps")) {
    my ($from, $to, $inode, $path) = /^0*([0-9a-f]+)-0*([0-9a-f]+) \\S+ \\S+ (\\S+ [1-9]\\d*) *(.*)/ or next;
    next if $seen{$inode}++;
    return "mapped file $path" if $wanted{device_of("/proc/$pid/map_files/$from-$to")};
  }
  return;
}
my %namespaces;
sub mount_in {
  my ($pid) = @_;
  my $namespace = readlink("/proc/$pid/ns/mnt") // return;
  return $namespaces{$namespace}++ ? undef : place_in($pid);
}
opendir(my $proc, "/proc") or exit 1;
my @pids = grep { /^\\d+$/ && $_ > 1 && !$skip{$_} } readdir $proc;
my %rooted;
for my $pid (@pids) {
  begin($pid);
  $wanted{device_of("/proc/$pid/root")} or next;
  found($pid, "root");
  $rooted{$pid} = 1;
  $namespaces{readlink("/proc/$pid/ns/mnt") // ""} = 1;
}
for my $pid (@pids) {
  next if $rooted{$pid} || !is_one_of_them($pid);
  begin($pid);
  my $use = use_of($pid);
  defined $use or next;
  found($pid, $use);
  $namespaces{readlink("/proc/$pid/ns/mnt") // ""} = 1;
}
exit if $device eq "";
for my $pid (@pids) {
  begin($pid);
  my $place = mount_in($pid);
  found($pid, "its mount at $place") if defined $place;
}
begin(1);
named_namespaces();
`;

/** The command of one look; `skip`: pids to leave out. */
function lookCommand(o: LookOptions, skip: readonly number[], seconds: number): Command {
  const whose = o.of === 'all' ? 'all' : `${o.of.uid},${o.of.system ? 1 : 0}`;
  const [statx, setns, clock] = LOOK_CALLS[process.arch] ?? [0, 0, 0];
  const numbers = [statx, seconds, PROCESS_SECONDS];
  const lists = [skip.join(), [...o.devices].join()];
  const mount = [o.mounted?.device ?? '', o.mounted?.root ?? ''];
  return {
    file: 'perl',
    args: [
      '-e',
      LOOK_PROGRAM,
      '--',
      ...numbers.map(String),
      whose,
      ...lists,
      ...mount,
      `${setns}`,
      `${clock}`,
    ],
    effect: 'read',
    okCodes: [0, OVER, KILLED],
    limit: (seconds + PROCESS_SECONDS + 1) * 1000,
    describe: () => [],
  };
}

/** Bytes from the child, which may be no valid UTF-8. */
function decode(field: string): string {
  return Buffer.from(
    field.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  ).toString('utf8');
}

/** Parses what a child has written; `last`: the process that it looked at when it ended. */
function parseLook(text: string): { users: DeviceUser[]; last: number | undefined } {
  const users: DeviceUser[] = [];
  let last: number | undefined;
  for (const line of text.split('\n').slice(0, -1)) {
    const [pid, name, use] = line.split('\t');
    if (name === undefined || use === undefined) last = Number(pid);
    else users.push({ pid: Number(pid), name: decode(name), use: decode(use) });
  }
  return { users, last };
}

/** Looks at all processes but ourselves. */
export async function lookAtProcesses(host: Host, o: LookOptions): Promise<ProcessLook> {
  const users = new Map<number, DeviceUser>();
  const unseen: number[] = [];
  const over = host.monotonic() + LOOK_SECONDS * 1000;
  for (;;) {
    const seconds = Math.max(0, Math.ceil((over - host.monotonic()) / 1000));
    const { code, stdout } = await host.run(lookCommand(o, [host.pid, ...unseen], seconds));
    const seen = parseLook(stdout);
    for (const user of seen.users) if (!users.has(user.pid)) users.set(user.pid, user);
    if (code !== 0) unseen.push(seen.last ?? 0);
    if (code !== KILLED || seen.last === undefined || seconds === 0) break;
  }
  return { users: [...users.values()], unseen };
}
