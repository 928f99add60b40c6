/**
 * Several mounts in one process. mount(8) does many only by `-a`, which first reads the whole mount table: with 300
 * sessions that alone is 25 ms of every login, and umount(8) reads it likewise (measured). perl-base is Essential in
 * Debian, starts as fast as mount(8), and can make the two system calls itself; the program below does nothing else,
 * stops at the first failure, and gets all it needs as arguments.
 */

import type { Command } from './command.ts';
import { MayflyError } from './errors.ts';
import type { Mount } from './mounts.ts';

/** One call, in order; a failed one is the last. */
export type Call =
  | {
      readonly op: 'mount';
      readonly source: string;
      readonly target: string;
      readonly type: string;
      readonly flags: number;
      readonly data: string;
    }
  /** Makes a directory or an empty file; one that is there is success, a symlink there is not. */
  | { readonly op: 'dir' | 'file'; readonly target: string }
  /** MNT_DETACH: the tree at the target, with everything below it. */
  | { readonly op: 'detach'; readonly target: string };

/** From <sys/mount.h>; the same on every architecture. */
export const MS = { NOSUID: 2, NODEV: 4, BIND: 4096, REC: 16384, PRIVATE: 1 << 18, SLAVE: 1 << 19 } as const;

/** Numbers of mount(2) and umount2(2), by what Node calls the architecture. */
const NUMBERS: Readonly<Record<string, readonly [number, number]>> = {
  x64: [165, 166],
  arm64: [40, 39],
  riscv64: [40, 39],
  loong64: [40, 39],
  arm: [21, 52],
  ia32: [21, 52],
  ppc64: [21, 52],
  s390x: [21, 52],
  mips64el: [5160, 5161],
};

/** Arguments: the two numbers, then six for each call. umount2's flags are MNT_DETACH and UMOUNT_NOFOLLOW. */
const PROGRAM = String.raw`
use strict;
my ($mount, $umount) = map { $_ + 0 } splice @ARGV, 0, 2;
sub failed { print STDERR "$_[0]: $!\n"; exit 32 }
while (my ($op, $source, $target, $type, $flags, $data) = splice @ARGV, 0, 6) {
  if ($op eq "mount") {
    syscall($mount, $source, $target, $type, $flags + 0, $data) == 0 or failed("mounting $source on $target");
  } elsif ($op eq "detach") {
    syscall($umount, $target, 10) == 0 or failed("unmounting $target");
  } elsif (-l $target) {
    $! = 40; failed("$target");
  } elsif ($op eq "dir") {
    -d _ or mkdir $target, 0755 or failed("making the directory $target");
  } else {
    -e _ or open(my $file, ">", $target) or failed("making the file $target");
  }
}
`;

/** The calls for a mount, propagation and options as mount(8) understands them. */
export function callsFor(m: Mount): Call[] {
  const words = m.options.split(',');
  const take = (word: string): boolean => {
    const at = words.indexOf(word);
    if (at >= 0) words.splice(at, 1);
    return at >= 0;
  };
  const recursive = take('rbind');
  const bind = take('bind') || recursive;
  const rec = recursive ? MS.REC : 0;
  const propagation = take('rslave') || take('slave') ? MS.SLAVE : MS.PRIVATE;
  take('private');
  const flags =
    (bind ? MS.BIND | rec : 0) | (take('nosuid') ? MS.NOSUID : 0) | (take('nodev') ? MS.NODEV : 0);
  const call = {
    op: 'mount',
    source: m.source,
    target: m.target,
    type: m.type,
    flags,
    data: bind ? '' : words.join(','),
  } as const;
  return [
    call,
    { op: 'mount', source: 'none', target: m.target, type: 'none', flags: propagation | rec, data: '' },
  ];
}

function sayCall(c: Call): string {
  if (c.op === 'detach') return `unmount ${c.target} and everything below it`;
  if (c.op !== 'mount') return `make the ${c.op === 'dir' ? 'directory' : 'file'} ${c.target}`;
  if (c.flags & MS.BIND) return `bind ${c.source} to ${c.target}`;
  return c.source === 'none' ? '' : `mount ${c.type} on ${c.target} (${c.data})`;
}

/** One process for all of them; it keeps `fds`. */
export function commandFor(
  calls: readonly Call[],
  fds: readonly number[] = [],
  architecture: string = process.arch,
): Command {
  const numbers = NUMBERS[architecture];
  if (!numbers)
    throw new MayflyError('missing-tool', `the numbers of system calls on "${architecture}" are not known`);
  const args = calls.flatMap(c =>
    c.op === 'mount'
      ? [c.op, c.source, c.target, c.type, String(c.flags), c.data]
      : [c.op, '', c.target, '', '0', ''],
  );
  const says = calls.map(sayCall).filter(line => line !== '');
  return {
    file: 'perl',
    says,
    args: ['-e', PROGRAM, '--', ...numbers.map(String), ...args],
    effect: 'write',
    fds,
  };
}
