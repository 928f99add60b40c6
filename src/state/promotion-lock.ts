/**
 * The lock between logins and promotions. A login holds it, with others, from reading the pointer `stable` to the end of
 * its fork; whoever moves the pointer holds it alone, for one rename. So no login forks the old generation after a
 * promotion has returned. It costs a login two system calls and no process: flock(2) would need one.
 *
 * A login has the FIFO `forks` open for reading while it forks, and its storage commands inherit the descriptor. The kernel
 * closes it when the last of them has ended, however it ends. Opening it for writing fails (ENXIO) unless somebody has it
 * open for reading (fifo(7)): that is how a promotion asks whether a login is forking.
 *
 * A promotion says in `promotion.json` that it is there. A login opens the FIFO and then looks for that file; a promotion
 * writes the file and then asks for the FIFO. Each writes before it reads, so at least one sees the other. If the file says
 * `moving`, the login steps back. A file whose process is dead counts for nothing.
 *
 * Nobody starves. While the file says `waiting`, new logins stay out until the time that it names, so a promotion waits
 * only for those that are in. Then it lets everybody in for a while, and tries again with a longer time. Logins compare that
 * time themselves, so a promotion that is stopped delays each of them once and no more.
 *
 * Beneath this lock the pins of `generations.ts` protect what a login forks; they alone survive a power cut.
 */
import { hasCode, isErrno, MayflyError } from '../errors.ts';
import { readJson } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { processesWithOpen } from '../linux/open-files.ts';
import { identify, isAlive, type ProcessId } from '../linux/process-id.ts';
import { processName } from '../linux/processes.ts';
import { takeLock } from './locks.ts';
import type { Machine } from './machine.ts';
import { makeDirectories, type Paths } from './paths.ts';
import { readSessions } from './sessions.ts';
import { hasFields, isProcessId } from './shape.ts';

// Times are in milliseconds, on the monotonic clock.

/** How often a promotion and a login look again. */
const LOOK_AGAIN = 5;

/** How long new logins stay out in a promotion's first attempt, each time twice as long as before, and at most. */
const STAY_OUT = { first: 1000, most: 8000 } as const;

/** How long everybody is let in between two attempts. */
const LET_IN = 1000;

/** How long a login stays out at most, whatever promotions come one after the other. */
const STAY_OUT_IN_ALL = 10_000;

/** How long a login waits for one rename before it is refused. */
const RENAME_WAIT = 25_000;

/** A promotion that is under way. */
export interface RunningPromotion {
  readonly holder: ProcessId;
  readonly what: string;
  readonly state: 'waiting' | 'moving';
  /** Until when new logins stay out. */
  readonly until: number;
}

/** The promotion that is under way; undefined if its process is dead, or if the file is damaged: then it is not ours. */
export function readPromotion(host: Host, paths: Paths): RunningPromotion | undefined {
  const fields = { what: 'text', state: 'text', until: 'number', holder: 'record' } as const;
  const p = readJson<RunningPromotion>(
    host,
    paths.promotion,
    value => hasFields(value, fields) && isProcessId(value.holder),
  );
  return p && isAlive(host, p.holder) ? p : undefined;
}

/** Removes what is certainly not a FIFO. Another process may just have made one. */
function removeOther(host: Host, path: string): void {
  const { kind = 'other' } = host.lstat(path) ?? {};
  if (kind === 'dir') host.rmdir(path);
  else if (kind !== 'other') host.unlink(path);
}

/** Opens the FIFO of logins, which does not exist before the first use after a boot. Negative in a dry run. */
async function enter(host: Host, { forks }: Paths): Promise<number> {
  const there = host.openFifo(forks);
  if (there !== undefined) return there;
  removeOther(host, forks);
  const args = ['-m', '600', '--', forks];
  const { stderr } = await host.run({ file: 'mkfifo', args, effect: 'write', okCodes: [0, 1] });
  const made = host.openFifo(forks);
  if (made !== undefined) return made;
  // Not `unsafe`, which would count against the generation.
  throw new MayflyError('refused', `"${forks}" is not a FIFO: ${stderr.trim()}`, { path: forks });
}

/**
 * For a login: stays out while a promotion wants it to, and returns the descriptor by which it is in. `entered` is that of
 * an earlier attempt. Throws `locked` if a promotion has begun its rename and does not end.
 */
export async function waitForPromotion(
  host: Host,
  paths: Paths,
  entered: number | undefined,
): Promise<number> {
  const began = host.monotonic();
  let fd = entered ?? (await enter(host, paths));
  if (fd < 0) return fd;
  const keepsOut = (): RunningPromotion | undefined => {
    const p = readPromotion(host, paths);
    const isOver = host.monotonic() >= Math.min(p?.until ?? 0, began + STAY_OUT_IN_ALL);
    return p?.state === 'waiting' && isOver ? undefined : p;
  };
  for (let p = keepsOut(); p; p = keepsOut()) {
    host.close(fd);
    for (; p; p = keepsOut()) {
      if (host.monotonic() >= began + RENAME_WAIT) {
        const what = `${p.what} (process ${p.holder.pid}) has begun and does not end`;
        throw new MayflyError('locked', what, { pid: p.holder.pid });
      }
      await host.sleep(LOOK_AGAIN);
    }
    fd = await enter(host, paths); // and look once more
  }
  return fd;
}

export interface MoveOptions {
  /** Names the promotion, for messages. */
  readonly what: string;
  /** How long to try. */
  readonly seconds: number;
  /** It takes away, which must need no room: without any it goes on, and only pins protect a login of the same moment. */
  readonly isRemoval?: true;
}

/**
 * Runs `act` while no login is between reading the pointer and its fork, and no other promotion runs. `act` moves the pointer
 * with the function that it gets, by one rename; that is made durable afterwards. Throws `locked`, with who kept it from
 * that, if this does not succeed in time.
 */
export async function movePointer<T>(
  { host, paths }: Machine,
  o: MoveOptions,
  act: (point: (to: number) => void) => T,
): Promise<T> {
  makeDirectories(host, paths);
  const fd = await enter(host, paths);
  host.close(fd);
  let hasMoved = false;
  const point = (to: number): void => {
    hasMoved = true;
    host.symlink(`generations/${to}.json`, paths.stable);
  };
  const inTime = host.monotonic() + o.seconds * 1000;
  const holder = identify(host, host.pid);
  if (!holder) throw new MayflyError('internal', 'this process is not in /proc');
  const announce = (state: RunningPromotion['state'], until: number): void => {
    try {
      const text = `${JSON.stringify({ holder, what: o.what, state, until })}\n`;
      host.write(paths.promotion, text, { mode: 0o600 });
    } catch (error) {
      if (!isErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
      if (o.isRemoval) return;
      const what = `there is no room in "${paths.run}" to announce ${o.what}`;
      throw new MayflyError('full', what, {
        path: paths.run,
        hint: `df -h ${paths.run}; df -i ${paths.run}`,
      });
    }
  };
  for (let stayOut: number = STAY_OUT.first; ; stayOut = Math.min(stayOut * 2, STAY_OUT.most)) {
    const left = Math.max(0, inTime - host.monotonic()) / 1000;
    const lock = await takeLock(host, paths, 'promote', left).catch(error => {
      throw hasCode(error, 'locked') ? notInTimeFor(host, paths, o) : error;
    });
    let isLast = true;
    try {
      if (fd < 0) return act(point); // a dry run
      const until = Math.min(host.monotonic() + stayOut, Math.max(inTime, host.monotonic()));
      let isAnnounced = false;
      do {
        if (!host.hasReader(paths.forks)) {
          announce('moving', until);
          if (!host.hasReader(paths.forks) && forking(host, paths).length === 0) {
            try {
              return act(point);
            } finally {
              host.unlink(paths.promotion); // logins need not wait for the disk
              if (hasMoved) host.sync(paths.state);
            }
          }
          isAnnounced = false;
        }
        if (!isAnnounced) announce('waiting', until);
        isAnnounced = true;
        await host.sleep(LOOK_AGAIN);
      } while (host.monotonic() < until);
      isLast = host.monotonic() >= inTime;
      if (isLast) throw notInTimeFor(host, paths, o);
    } finally {
      if (isLast) host.unlink(paths.promotion);
      lock.release();
    }
    await host.sleep(LET_IN);
  }
}

function notInTimeFor(host: Host, paths: Paths, { what, seconds }: MoveOptions): MayflyError {
  const other = readPromotion(host, paths);
  const isOther = other !== undefined && other.holder.pid !== host.pid;
  const who = isOther
    ? `${other.what} (process ${other.holder.pid})`
    : (describeForking(host, paths) ?? 'logins, one after the other');
  return new MayflyError('locked', `${what} has waited ${seconds} s for ${who}`);
}

/**
 * The processes of logins that are forking. One whose FIFO was removed or replaced meanwhile is found by what it has open:
 * a new FIFO knows nothing of it.
 */
function forking(host: Host, { forks }: Paths): number[] {
  return processesWithOpen(host, forks, `${forks} (deleted)`);
}

/** The logins that are between reading the pointer and the end of their fork, in one line; undefined if there is none. */
export function describeForking(host: Host, paths: Paths): string | undefined {
  const sessions = readSessions(host, paths);
  const who = forking(host, paths).map(pid => {
    const s = sessions.find(({ starter }) => starter.pid === pid);
    return s ? `the login of ${s.user.name} (process ${pid})` : `process ${pid} ${processName(host, pid)}`;
  });
  return who.length === 0 ? undefined : who.join(', ');
}

/** What the promotion that is under way waits for, in one line; undefined if there is none. */
export function describePromotion(host: Host, paths: Paths): string | undefined {
  const p = readPromotion(host, paths);
  return p && `${p.what} (process ${p.holder.pid}) waits for ${describeForking(host, paths) ?? 'nobody'}`;
}

/**
 * Makes the FIFO of logins unless it is there, so that no login has to, and removes what a promotion that has died has left,
 * which every login would read.
 */
export async function restorePromotionLock({ host, paths }: Machine): Promise<void> {
  host.close(await enter(host, paths));
  if (!host.exists(paths.promotion) || readPromotion(host, paths)) return;
  const lock = await takeLock(host, paths, 'promote', 0);
  try {
    if (!readPromotion(host, paths)) host.unlink(paths.promotion);
  } finally {
    lock.release();
  }
}
