/** What updates did and are doing: for `status`, for monitoring, and for whoever finds the lock taken. */
import type { Host } from '../linux/host.ts';
import { identify, isAlive, type ProcessId } from '../linux/process-id.ts';
import type { Paths } from './paths.ts';

export type Phase =
  | 'prepare'
  | 'fork'
  | 'refresh'
  | 'compare'
  | 'seal'
  | 'check'
  | 'promote'
  | 'adopt'
  | 'retire';

/** `kept` is proven but not stable, because the pointer was moved by somebody else meanwhile. */
export type Result = 'promoted' | 'unchanged' | 'discarded' | 'kept' | 'failed' | 'interrupted';

/** The updates of this machine, as far as they are remembered. Times are milliseconds since the epoch. */
export interface History {
  readonly lastAttempt: number;
  /** The last time that master was found or made current. */
  readonly lastSuccess?: number;
  readonly result: Result | 'running';
  readonly phase?: Phase;
  readonly reason?: string;
  readonly generation?: number;
  readonly warnings?: readonly string[];
}

/** The update that is at work. */
export interface RunningUpdate {
  readonly holder: ProcessId;
  readonly what: string;
  readonly since: number;
  readonly phase: Phase;
}

/** Undefined where there is none or it is not whole: no update waits for somebody to fix a mere note. */
function readNote<T>(host: Host, path: string): T | undefined {
  try {
    return (JSON.parse(host.read(path) ?? 'null') as T | null) ?? undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** A history whose update died is told as interrupted; one that is not whole is none. */
export function readHistory(host: Host, paths: Paths): History | undefined {
  const history = readNote<History>(host, paths.history);
  if (history === undefined) return undefined;
  if (history.result !== 'running' || readRunning(host, paths)) return history;
  const reason = `it was interrupted${history.phase ? ` in "${history.phase}"` : ''}`;
  return { ...history, result: 'interrupted', reason };
}

export function writeHistory(host: Host, paths: Paths, history: History): void {
  host.write(paths.history, `${JSON.stringify(history, null, 2)}\n`, { mode: 0o600, durable: true });
}

/** The update at work, if one is. */
export function readRunning(host: Host, paths: Paths): RunningUpdate | undefined {
  const running = readNote<RunningUpdate>(host, paths.runningUpdate);
  return running && isAlive(host, running.holder) ? running : undefined;
}

export function writeRunning(host: Host, paths: Paths, running: Omit<RunningUpdate, 'holder'>): void {
  const holder = identify(host, host.pid);
  if (!holder) return;
  host.write(paths.runningUpdate, `${JSON.stringify({ ...running, holder })}\n`, { mode: 0o600 });
}

export function clearRunning(host: Host, paths: Paths): void {
  host.unlink(paths.runningUpdate);
}
