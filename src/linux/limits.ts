/** Limits of resources (setrlimit(2)) that this process has from its caller. */
import type { Command } from './command.ts';

/**
 * Gives this process, and so every command that it starts, the limits that systemd gives a service: with those of a
 * shell, such as `ulimit -f`, a package manager in a copy is killed while it writes. What is not allowed stays as it is.
 */
export function resetLimits(pid: number): Command {
  const unlimited = ['fsize', 'cpu', 'as', 'data', 'rss'].map(name => `--${name}=unlimited`);
  const soft = ['--nofile=1024:', '--stack=8388608:', '--core=0:'];
  return {
    file: 'prlimit',
    args: ['--pid', String(pid), ...unlimited, ...soft],
    effect: 'read', // it changes nothing of the machine
    okCodes: [0, 1],
  };
}
