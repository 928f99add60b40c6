/**
 * A file server that answers until it is told to be silent: a FUSE file system with an empty directory, served by a Perl
 * program. Needs root and /dev/fuse.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';

const MOUNT: Readonly<Record<string, number>> = { x64: 165, arm64: 40 };

/** Answers INIT, GETATTR, LOOKUP (of nothing), ACCESS, OPENDIR, READDIR and STATFS; SIGUSR1 silences it. */
const PROGRAM = `
use strict;
my ($mount, $place) = @ARGV;
sysopen(my $device, "/dev/fuse", 2) or die "/dev/fuse: $!\\n";
my ($source, $type, $data) = ("server", "fuse", "fd=" . fileno($device) . ",rootmode=40000,user_id=0,group_id=0,allow_other");
syscall($mount + 0, $source, $place, $type, 0, $data) == 0 or die "mount: $!\\n";
my $silent = 0;
$SIG{USR1} = sub { $silent = 1; syswrite(STDOUT, "silent\\n") };
syswrite(STDOUT, "mounted\\n");
sub attributes { return pack("QQQ QQQ LLL LLLLLLL", 1, 0, 0, 0, 0, 0, 0, 0, 0, 040755, 2, 0, 0, 0, 4096, 0) }
while (1) {
  my $read = sysread($device, my $request, 1 << 18);
  if (!defined $read) { next if $!{EINTR}; last }
  next if $silent;
  my ($length, $op, $unique) = unpack("LLQ", $request);
  my ($error, $answer) = (0, "");
  if ($op == 26) { $answer = pack("LLLL SSLL SS L8", 7, 31, 65536, 0, 12, 10, 4096, 1, 1, 0, (0) x 8) }
  elsif ($op == 3) { $answer = pack("QLL", 0, 0, 0) . attributes() }
  elsif ($op == 17) { $answer = pack("QQQQQ LLLL L6", (0) x 5, 4096, 255, 4096, 0, (0) x 6) }
  elsif ($op == 27) { $answer = pack("QLL", 1, 0, 0) }
  elsif ($op == 28 || $op == 34 || $op == 29) { $answer = "" }
  elsif ($op == 2 || $op == 42 || $op == 36) { next }
  elsif ($op == 1) { $error = -2 }
  else { $error = -38 }
  syswrite($device, pack("LlQ", 16 + length $answer, $error, $unique) . $answer);
}
`;

/** Whether this machine can have one. */
export const canServe = ((): boolean => {
  if (process.getuid?.() !== 0 || MOUNT[process.arch] === undefined || !existsSync('/dev/fuse')) return false;
  try {
    closeSync(openSync('/dev/fuse', 'r+'));
    return true;
  } catch {
    return false; // a container without the device
  }
})();

export interface FileServer {
  /** From now on it answers nothing. */
  silence(): Promise<void>;
  /** The kernel gives up all requests; unmounts. */
  close(): Promise<void>;
}

const said = (child: ChildProcess, word: string): Promise<void> =>
  new Promise((yes, no) => {
    child.stdout?.on('data', data => String(data).includes(word) && yes());
    child.once('close', () => no(new Error(`the file server ended instead of saying "${word}"`)));
  });

/** Mounts a file system at the directory `place`. */
export async function fileServer(place: string): Promise<FileServer> {
  const child = spawn('perl', ['-e', PROGRAM, String(MOUNT[process.arch]), place], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise(yes => child.once('close', yes));
  await said(child, 'mounted');
  return {
    async silence() {
      const done = said(child, 'silent');
      child.kill('SIGUSR1');
      await done;
    },
    async close() {
      child.kill('SIGKILL');
      await ended;
      spawnSync('umount', ['-l', place]);
    },
  };
}
