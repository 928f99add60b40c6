/** Limits of resources (setrlimit(2)) that this process has from its caller. */
import type { Command } from './command.ts';

/**
 * A shell script for prlimit(1): the process ID is its argument. Without CAP_SYS_RESOURCE, as in some containers, only the
 * soft limits can be raised.
 */
const SCRIPT = `for l in fsize cpu as data rss; do
  prlimit --pid "$1" --$l=unlimited || prlimit --pid "$1" --$l="$(prlimit --pid "$1" --$l -o HARD --noheadings --raw)":
done
for l in nofile=1024: stack=8388608: core=0:; do prlimit --pid "$1" --$l; done`;

/**
 * Gives this process, and so every command that it starts, the limits that systemd gives a service: with those of a
 * shell, such as `ulimit -f`, a package manager in a copy is killed while it writes. What is not allowed stays as it is.
 */
export function resetLimits(pid: number): Command {
  return {
    ...{ file: 'sh', args: ['-c', SCRIPT, 'sh', String(pid)] },
    effect: 'read', // it changes nothing of the machine
    okCodes: [0, 1],
  };
}
