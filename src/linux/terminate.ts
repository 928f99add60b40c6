/**
 * What processes do about SIGTERM, and waiting for those that work on ending, such as an editor that saves its files.
 *
 * /proc/PID/status tells which is which. A process that handles the signal works on ending. One that has it blocked does
 * so too if something has taken the signal: a signalfd(2) or sigwait(3); otherwise the signal stays pending. One that
 * ignores it will not end. What a process starts while it works on ending is a part of that work and gets no signal.
 */
import type { Host } from './host.ts';
import { identify, isAlive, type ProcessId } from './process-id.ts';

const HUP = 1n;
const TERM = 15n;

/** How long a process may take until it is seen to work on ending, in milliseconds. */
export const SETTLE_TIME = 300;

/** As many processes that were started after the signal are no work, but a program that keeps forking. */
const MOST_NEW = 256;

/** As many processes are no work either: a desktop has some hundreds. */
const MOST_WORKING = 1024;

/** After how many rounds of SIGKILL new processes mean the same. */
const MOST_ROUNDS = 4;

/** What a process does about a SIGTERM that it has been sent. */
export interface SignalState {
  readonly parent: number;
  /** Not all signals reach it before SIGCONT. */
  readonly stopped: boolean;
  /** `works` on ending, `ignores` the signal, or is about to end; also one that has not taken it yet. */
  readonly does: 'works' | 'ignores' | 'ends';
  /** It handles SIGHUP; interactive shells ignore SIGTERM, and save their history at a SIGHUP. */
  readonly handlesHup: boolean;
}

/** Parses /proc/PID/status; undefined if the process has ended. Pure. */
export function signalState(text: string): SignalState | undefined {
  const fields = new Map(text.split('\n').map(line => line.split(':\t', 2) as [string, string]));
  const state = fields.get('State')?.[0] ?? '';
  if (state === 'Z' || state === 'X') return undefined;
  const has = (name: string, signal: bigint): boolean =>
    ((BigInt(`0x${fields.get(name) ?? '0'}`) >> (signal - 1n)) & 1n) === 1n;
  const isPending = has('SigPnd', TERM) || has('ShdPnd', TERM);
  const handles = has('SigCgt', TERM) && !has('SigBlk', TERM);
  const takes = has('SigBlk', TERM) && !isPending;
  return {
    parent: Number(fields.get('PPid') ?? 0),
    stopped: state === 'T',
    does: has('SigIgn', TERM) ? 'ignores' : handles || takes ? 'works' : 'ends',
    handlesHup: has('SigCgt', HUP),
  };
}

export interface SettleOptions {
  /** The processes that are left now. */
  readonly find: () => Promise<number[]>;
  /** Those that were sent SIGTERM. */
  readonly told: Set<number>;
  /** Those that were seen to work on ending before. */
  readonly known: readonly ProcessId[];
  /** Milliseconds, at most {@link SETTLE_TIME}. */
  readonly time: number;
}

/**
 * Ends those of the processes `first` that do not work on ending, by SIGKILL if necessary, and returns the others.
 * `storm`: new processes keep coming, so that one by one is not enough.
 */
export async function settle(
  host: Host,
  first: readonly number[],
  { find, told, known, time }: SettleOptions,
): Promise<{ readonly working: readonly ProcessId[]; readonly storm: boolean }> {
  const ends = host.monotonic() + time;
  const before = new Set(known.filter(id => isAlive(host, id)).map(id => id.pid));
  const [initial, killed, woken] = [new Set(first), new Set<number>(), new Set<number>()];
  let [left, wait, rounds, fresh] = [first, 4, 0, 0];
  for (;;) {
    const { working, others } = sort(host, left, told, before);
    const isOver = host.monotonic() >= ends;
    const isNew = others.some(([pid]) => !killed.has(pid));
    for (const [pid, state] of [...working, ...others])
      if (state.stopped && !woken.has(pid)) host.kill(pid, 'SIGCONT');
    for (const [pid, { does, handlesHup }] of others) {
      if (!told.has(pid)) {
        host.kill(pid, 'SIGTERM');
        told.add(pid);
        fresh += 1;
      } else if (does === 'ignores' && handlesHup && !isOver) {
        if (!woken.has(pid)) host.kill(pid, 'SIGHUP');
      } else if (isOver || does === 'ignores') {
        host.kill(pid, 'SIGKILL');
        killed.add(pid);
      }
    }
    for (const pid of left) woken.add(pid);
    const grown = working.filter(([pid]) => !initial.has(pid)).length;
    const isMany = Math.max(grown, fresh) > MOST_NEW || working.length > MOST_WORKING;
    const storm = isMany || rounds > MOST_ROUNDS;
    // Those that SIGKILL does not end wait for a device. The caller reports them in the end.
    if (storm || others.length === 0 || (isOver && !isNew))
      return { working: working.flatMap(([pid]) => identify(host, pid) ?? []), storm };
    if (isOver) rounds += 1;
    const until = host.monotonic() + (isOver ? 4 : wait);
    wait = Math.min(wait * 2, 50);
    const going = others.flatMap(([pid]) => identify(host, pid) ?? []);
    do await host.sleep(4);
    while (host.monotonic() < until && going.some(id => isAlive(host, id)));
    left = await find();
  }
}

/** Who of them works on ending, or was started by one who does; `others` with what they do. */
function sort(
  host: Host,
  pids: readonly number[],
  told: ReadonlySet<number>,
  known: ReadonlySet<number>,
): Record<'working' | 'others', readonly (readonly [number, SignalState])[]> {
  const all = new Map<number, SignalState>();
  for (const pid of pids) {
    const state = signalState(host.read(`/proc/${pid}/status`) ?? 'State:\tX');
    if (state) all.set(pid, state);
  }
  const works = new Map<number, boolean>();
  const doesWork = (pid: number): boolean => {
    const state = all.get(pid);
    if (!state) return false;
    const seen = works.get(pid);
    if (seen !== undefined) return seen;
    works.set(pid, false); // pids can be reused, and parents then form a circle
    const result = known.has(pid) || (told.has(pid) ? state.does === 'works' : doesWork(state.parent));
    works.set(pid, result);
    return result;
  };
  const working = [...all].filter(([pid]) => doesWork(pid));
  return { working, others: [...all].filter(([pid]) => !doesWork(pid)) };
}

/**
 * Waits until these processes, and what they start meanwhile, have ended, but no longer than `until` on the monotonic
 * clock, or until they are too many. Returns those that are left.
 */
export async function waitForAll(
  host: Host,
  ids: readonly ProcessId[],
  until: number,
): Promise<readonly ProcessId[]> {
  let left: readonly ProcessId[] = ids;
  for (let wait = 10; ; wait = Math.min(wait * 2, 200)) {
    left = withChildren(host, left).filter(id => isAlive(host, id));
    const time = until - host.monotonic();
    if (left.length === 0 || left.length > MOST_WORKING || time <= 0) break;
    await host.sleep(Math.max(1, Math.min(wait, time)));
  }
  return left;
}

/** These processes and their children. */
function withChildren(host: Host, ids: readonly ProcessId[]): readonly ProcessId[] {
  const all = new Map(ids.map(id => [id.pid, id]));
  for (const name of host.list('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || all.has(pid)) continue;
    const stat = host.read(`/proc/${pid}/stat`);
    const parent = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    const id = all.has(parent) ? identify(host, pid) : undefined;
    if (id) all.set(pid, id);
  }
  return [...all.values()];
}
