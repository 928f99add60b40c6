/**
 * What keeps a hook from waiting for ever: a look at paths whose file server may be dead, and the watchdog of the hook.
 * Hooks load this file only on machines with such file systems.
 */
import { MayflyError } from '../errors.ts';
import { type Command, OUT_OF_TIME } from './command.ts';
import type { Host } from './host.ts';

/** Writes a line after each path that was looked at. */
export const ANSWER_PROGRAM = 'for (@ARGV) { stat; syswrite STDOUT, "\\n" }';

/**
 * Throws `timeout` unless a look at each of `paths`, which need not exist, comes to an end within `seconds`. A child
 * looks, because nothing can interrupt a process that waits for a server. If it hangs, it is left behind and ends when the
 * server answers or the kernel gives it up.
 */
export async function requireAnswers(host: Host, paths: readonly string[], seconds: number): Promise<void> {
  const { code, stdout } = await host.run({
    file: 'perl',
    args: ['-e', ANSWER_PROGRAM, '--', ...paths],
    effect: 'read',
    limit: seconds * 1000,
  });
  const path = paths[stdout.length];
  if (code !== OUT_OF_TIME || path === undefined) return;
  const message = `"${path}" did not answer within ${seconds} s; its file server may be down`;
  throw new MayflyError('timeout', message, { path, hint: `timeout 5 stat ${path}` });
}

/** The number of prctl(2), by Node's name of the architecture. */
const PRCTL: Readonly<Record<string, number>> = {
  x64: 157,
  arm64: 167,
  riscv64: 167,
  loong64: 167,
  arm: 172,
  ia32: 172,
  ppc64: 171,
  s390x: 172,
  mips64el: 5153,
};

/**
 * Arguments: the number of prctl (0: unknown), our pid, seconds, and what to log. It dies with us (PR_SET_PDEATHSIG), at
 * the latest a second later.
 */
const WATCHDOG = `
use strict;
my ($prctl, $pid, $seconds, $text) = @ARGV;
syscall($prctl + 0, 1, 9, 0, 0, 0) if $prctl;
sub wait_for { for (1 .. $_[0]) { exit if getppid != $pid; sleep 1 } exit if getppid != $pid }
wait_for($seconds);
my $logger = fork;
exec("logger", "-t", "mayfly", "-p", "auth.err", "--", $text) if defined $logger && $logger == 0;
waitpid($logger, 0) if $logger;
kill "TERM", $pid;
wait_for(5);
kill "KILL", $pid;
`;

/**
 * Ends this process `seconds` from now if it still runs, also if it hangs in a system call. It ends nothing else: a storage
 * command that it has started goes on, and keeps its lock.
 */
export function watchdogCommand(pid: number, seconds: number, what: string): Command {
  const text = `${what} did not finish within ${seconds} s and is ended; "mayfly recover" removes what it left`;
  return {
    file: 'perl',
    args: ['-e', WATCHDOG, '--', `${PRCTL[process.arch] ?? 0}`, `${pid}`, `${seconds}`, text],
    effect: 'write',
    background: true,
    describe: () => [],
  };
}
