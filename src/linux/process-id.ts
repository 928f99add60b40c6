/** Processes and boots that cannot be confused with later ones of the same number. */
import type { Host } from './host.ts';

/** A process that cannot be confused with a later one of the same number. */

export interface ProcessId {
  readonly pid: number;
  /** Start time in clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly start: string;
}

export function bootId(host: Host): string {
  return (host.read('/proc/sys/kernel/random/boot_id') ?? 'unknown').trim();
}

/** The mark of a living process; undefined where it is gone. */
export function identify(host: Host, pid: number): ProcessId | undefined {
  const start = statOf(host, pid)?.[19];
  return start === undefined ? undefined : { pid, start };
}

/** proc_pid_stat(5) from field 3 on. */
function statOf(host: Host, pid: number): string[] | undefined {
  const text = host.read(`/proc/${pid}/stat`);
  // The name in field 2 may hold blanks and parentheses: count from the last one.
  return text?.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** The children of a process. */
export function childrenOf(host: Host, pid: number): ProcessId[] {
  return host.list('/proc').flatMap(name => {
    const child = Number(name);
    const stat = Number.isInteger(child) ? statOf(host, child) : undefined;
    return stat?.[1] === String(pid) && stat[19] !== undefined ? [{ pid: child, start: stat[19] }] : [];
  });
}

export function isAlive(host: Host, mark: ProcessId): boolean {
  return identify(host, mark.pid)?.start === mark.start;
}
