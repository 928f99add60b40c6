/** The last update and the running one, for `status`, for monitoring, and for the message of a taken lock. */
import { readJson } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { identify, isAlive, type ProcessId } from '../linux/process-id.ts';
import type { Paths } from './paths.ts';
import { hasFields, isProcessId } from './shape.ts';

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

/** `kept`: the generation is proven but not stable, because the stable pointer was moved meanwhile. */
export type Result = 'promoted' | 'unchanged' | 'discarded' | 'kept' | 'failed' | 'interrupted';

/** The last update of this machine. Times are in milliseconds since the epoch. */
export interface History {
  readonly lastAttempt: number;
  /** When an update last succeeded, with or without changes. */
  readonly lastSuccess?: number;
  readonly result: Result | 'running';
  readonly phase?: Phase;
  readonly reason?: string;
  readonly generation?: number;
  readonly warnings?: readonly string[];
  /** What the last generation that lacked something lacked of the stable one before it. */
  readonly lost?: { readonly generation: number; readonly what: readonly string[] };
  /** In which packages the last generation that was promoted or kept differs from `since`, the stable one before it, in words. */
  readonly changes?: { readonly generation: number; readonly since: number; readonly packages: string };
}

/** The update that is running. */
export interface RunningUpdate {
  readonly holder: ProcessId;
  readonly what: string;
  readonly since: number;
  readonly phase: Phase;
}

/** One line for the log. Pure. */
export function describeOutcome(o: Pick<History, 'result' | 'generation' | 'reason'>): string {
  switch (o.result) {
    case 'promoted':
      return `generation ${o.generation} is stable`;
    case 'unchanged':
      return 'nothing has changed; no new generation was created';
    case 'kept':
      return `generation ${o.generation} passed its checks but was not promoted: ${o.reason}`;
    default:
      return `${o.result}${o.reason ? `: ${o.reason}` : ''}`;
  }
}

/** What is new in a generation, in one line. Pure. */
export const generationChanges = (c: NonNullable<History['changes']>): string =>
  `generation ${c.generation} compared with ${c.since}: ${c.packages}`;

/**
 * The last update. One that is marked running but has no process is returned as `interrupted`. Undefined if corrupt.
 */
export function readHistory(host: Host, paths: Paths): History | undefined {
  const history = readJson<History>(host, paths.history, h =>
    hasFields(
      h,
      { lastAttempt: 'number', result: 'text' },
      {
        lastSuccess: 'number',
        phase: 'text',
        reason: 'text',
        generation: 'number',
        warnings: 'list',
        lost: 'record',
        changes: 'record',
      },
    ),
  );
  if (history === undefined) return undefined;
  if (history.result !== 'running' || readRunning(host, paths)) return history;
  return { ...history, result: 'interrupted', reason: 'its process no longer exists' };
}

export function writeHistory(host: Host, paths: Paths, history: History): void {
  host.write(paths.history, `${JSON.stringify(history, null, 2)}\n`, { mode: 0o600, durable: true });
}

/** The running update; undefined if its process is gone. */
export function readRunning(host: Host, paths: Paths): RunningUpdate | undefined {
  const running = readJson<RunningUpdate>(
    host,
    paths.runningUpdate,
    r => hasFields(r, { what: 'text', since: 'number', phase: 'text' }) && isProcessId(r.holder),
  );
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
