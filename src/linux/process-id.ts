/** Identifying processes and boots unambiguously. */
import type { Host } from './host.ts';

/** A process, distinguished by its start time from a later one with the same pid. */
export interface ProcessId {
  readonly pid: number;
  /** Start time in clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly start: string;
}

/** The kernel's random ID of this boot (random(4)). */
export function bootId(host: Host): string {
  return (host.read('/proc/sys/kernel/random/boot_id') ?? 'unknown').trim();
}

/**
 * Identifies the running process `pid`; undefined if it no longer exists. A zombie has ended, although its parent has
 * not waited for it yet: it will neither write nor call again.
 */
export function identify(host: Host, pid: number): ProcessId | undefined {
  const fields = statOf(host, pid);
  const state = fields?.[0];
  const start = fields?.[19];
  return start === undefined || state === 'Z' || state === 'X' ? undefined : { pid, start };
}

/** The fields of proc_pid_stat(5), from field 3 on. */
function statOf(host: Host, pid: number): string[] | undefined {
  const text = host.read(`/proc/${pid}/stat`);
  // The name in field 2 may contain blanks and parentheses, so start after the last parenthesis.
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

/** Whether the process is still running. */
export function isAlive(host: Host, id: ProcessId): boolean {
  return identify(host, id.pid)?.start === id.start;
}
