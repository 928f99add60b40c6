/**
 * Restores a consistent state: after a power cut, after a kill at any instruction, at boot before the display manager,
 * and at any time while users are logged in. It only changes what is certainly over: sessions of another boot, sessions
 * that were ending, sessions whose start was interrupted, and leftovers that belong to no record.
 */
import { REMEDY } from '../advice.ts';
import { hasCode, MayflyError, reasonOf } from '../errors.ts';
import * as cgroup from '../linux/cgroup.ts';
import { sweepTemporary } from '../linux/files.ts';
import type { ProcessId } from '../linux/process-id.ts';
import { isSessionId, uidOfSession } from '../names.ts';
import { loginsBeside, overBecause } from '../session/end-reason.ts';
import { stillSaving, whileSaving } from '../session/saving.ts';
import { listEntries } from '../session/schroot.ts';
import { stop } from '../session/session.ts';
import { prepareSpare } from '../session/spare-snapshot.ts';
import { resetUserManager } from '../session/user-manager.ts';
import { eraseDiscarded } from '../state/discarded.ts';
import { readableGeneration, stableNumber } from '../state/generations.ts';
import { lockNameOf, takeLock, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories, userFiles } from '../state/paths.ts';
import { readPool } from '../state/pool.ts';
import { restorePromotionLock } from '../state/promotion-lock.ts';
import { readSession, type Session, sessionIds, writeSession } from '../state/sessions.ts';
import { clearRunning } from '../state/update-history.ts';
import { noteMountPoint, poolOnRecord } from '../update/find-pool.ts';
import { publishSessions } from '../update/greeter.ts';
import { isUsable, writeHealth } from '../update/health.ts';
import { finishInterruptedUpdate } from '../update/interrupted-update.ts';
import { mountPool } from '../update/pool.ts';
import { isAnotherPool } from '../update/pool-place.ts';
import type { TryEach } from '../update/seals.ts';
import { generationOf, type Pool, sessionOf, type Volume } from '../volume/backend.ts';

export interface Recovered {
  /** The IDs of sessions that were ended. */
  readonly ended: string[];
  /** Leftovers that were removed. */
  readonly swept: string[];
  /** What was put on record again, or made stable, from what is in the pool. */
  readonly adopted: string[];
  /** What is in the pool, not on record, and neither adopted nor removed, one sentence each. */
  readonly kept: string[];
  /** What could not be fixed, one sentence each. */
  readonly stuck: string[];
}

/**
 * Returns what was done. Idempotent: a second run finds nothing to do. Continues after failures, which are in `stuck`. With
 * `erase` it waits for programs that work on ending, and until all is erased. Throws `corrupt` if no record of the pool can be read.
 */
export async function recover(on: Machine, erase = true): Promise<Recovered> {
  const { host, paths } = on;
  const result: Recovered = { ended: [], swept: [], adopted: [], kept: [], stuck: [] };
  makeDirectories(host, paths);
  host.mkdir(paths.generations, 0o700); // no login looks for it alone
  for (const directory of [paths.state, paths.sessions, paths.generations, paths.run])
    sweepTemporary(host, directory);
  sweepTemporary(host, paths.schroot, 'mayfly-');

  await tryStep(result, 'the lock of promotions', () => restorePromotionLock(on));
  const recorded = await poolOnRecord(on, {
    restored: what => result.adopted.push(what),
    wrong: what => result.stuck.push(what),
  });
  const pool = recorded && (await openPool(on, recorded, result));
  if (pool) await tryStep(result, 'the record of the pool', () => noteMountPoint(on, pool));

  // The order matters: a session writes its record before it creates anything and deletes it last. So an object that
  // exists now and that no record names afterwards is a leftover.
  const found = pool ? await leftovers(on, pool, result) : new Map<string, Volume | undefined>();
  for (const id of sessionIds(host, paths)) {
    await tryStep(result, id, () => recoverSession(on, id, found.get(id), result, erase));
    found.delete(id);
  }
  for (const [id, volume] of found) {
    if (readSession(host, paths, id)) continue; // started after the records were read
    const s = sessionFromId(on, id, volume, pool);
    await tryStep(result, id, () =>
      withLock(host, paths, lockNameOf(s), 0, async lock => {
        if (readSession(host, paths, id)) return;
        await stop({ ...on, lockFds: [lock.fd] }, s);
        result.swept.push(id);
      }),
    );
  }
  if (pool) await tryStep(result, 'the pool', () => recoverPool(on, pool, result));
  if (recorded) await writeHealth(on);
  await removeEmptyUsers(on, result);
  // Last, because it takes as long as the users liked.
  if (pool && erase)
    await tryStep(result, 'the pool', () =>
      eraseDiscarded(on, pool, (what, act) => tryStep(result, what, act)),
    );
  return result;
}

/** Makes the pool available, and returns it unless another one is in its place. */
async function openPool(on: Machine, pool: Pool, result: Recovered): Promise<Pool | undefined> {
  let isOurs = true;
  await tryStep(result, 'the pool', async () => {
    await mountPool(on, pool);
    isOurs = !isAnotherPool(on, pool);
  });
  if (!isOurs) result.stuck.push(`another pool is at "${pool.path}"; see "${REMEDY.examine}"`);
  return isOurs ? pool : undefined;
}

async function tryStep(result: Recovered, what: string, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    // Another process is working on it and will finish, or its programs are.
    if (hasCode(error, 'locked', 'saving')) return;
    const hint = error instanceof MayflyError ? error.facts.hint : undefined;
    result.stuck.push(`${what}: ${reasonOf(error)}${hint === undefined ? '' : `; fix it with "${hint}"`}`);
  }
}

async function recoverSession(
  on: Machine,
  id: string,
  volume: Volume | undefined,
  result: Recovered,
  patient: boolean,
): Promise<void> {
  const { host, paths } = on;
  const seen = readSession(host, paths, id);
  const s = seen ?? sessionFromId(on, id, volume, readPool(host, paths));
  if (seen && overBecause(host, seen) === undefined) return;
  const attempt = (processes?: readonly ProcessId[]): Promise<void> =>
    withLock(host, paths, lockNameOf(s), 0, async lock => {
      const now = readSession(host, paths, id);
      if (now && overBecause(host, now) === undefined) return;
      if (!now && seen) return; // it has ended in the meantime
      const logins = now ? await loginsBeside(host, now) : [];
      if (now && logins.length > 0) {
        writeSession(host, paths, { ...now, logins });
        return;
      }
      on.log(
        'notice',
        `${id} of ${s.user.name} is over: ${(now && overBecause(host, now)) ?? 'its record is corrupt'}`,
        {
          session: id,
          user: s.user.name,
        },
      );
      await stop({ ...on, lockFds: [lock.fd] }, stillSaving(now ?? s, processes));
      result.ended.push(id);
    });
  // The service ends it later; nobody waits for a boot.
  await (patient ? whileSaving(on, id, attempt) : attempt());
}

/** The IDs of sessions that have a volume, mount point, schroot entry or cgroup. */
async function leftovers(
  on: Machine,
  pool: Pool,
  result: Recovered,
): Promise<Map<string, Volume | undefined>> {
  const { host, paths } = on;
  const found = new Map<string, Volume | undefined>();
  const root = cgroup.hierarchy(host);
  const names = [
    ...host.list(paths.roots),
    ...listEntries(host, paths.schroot, paths.roots),
    ...(root === undefined ? [] : cgroup.listIds(host, root, paths.cgroup)),
  ];
  for (const name of names) if (isSessionId(name)) found.set(name, undefined);
  // If the disk is missing (so far), the other leftovers are still removed.
  await tryStep(result, 'the pool', async () => {
    for (const v of (await on.backend(pool.backend).list(pool.path)).volumes)
      if (v.role === 'session') found.set(v.name, v);
  });
  return found;
}

/** A session record derived from the ID alone; enough to remove everything of the session that exists. */
function sessionFromId(on: Machine, id: string, volume: Volume | undefined, pool: Pool | undefined): Session {
  const uid = uidOfSession(id);
  const origin = generationOf(pool ?? { backend: 'overlay', path: `${on.paths.state}/pool` }, 1);
  return {
    id,
    kind: 'login',
    user: { name: `uid ${uid}`, uid, gid: uid, gecos: '', home: '/', shell: '/bin/sh' },
    groups: [],
    generation: 0,
    volume: volume ?? sessionOf(origin, id),
    root: `${on.paths.roots}/${id}`,
    mounts: [],
    boot: 'unknown',
    starter: { pid: 0, start: '' },
    created: 0,
    state: 'ending',
    devices: [],
    logins: [],
  };
}

/** Removes unfinished generations and copies of an interrupted update; does nothing while an update is running. */
async function recoverPool(on: Machine, pool: Pool, result: Recovered): Promise<void> {
  const { host, paths } = on;
  const lock = await takeLock(host, paths, 'update', 0).catch(error => {
    if (error instanceof MayflyError && error.code === 'locked') return undefined;
    throw error;
  });
  if (!lock) return;
  try {
    clearRunning(host, paths); // of an interrupted update
    const tryEach: TryEach = (what, act) => tryStep(result, what, act);
    await finishInterruptedUpdate(on, pool, tryEach, result);
    const stable = stableNumber(host, paths);
    if (stable !== undefined && !(await isUsable(on, readableGeneration(host, paths, stable)))) {
      result.stuck.push(
        `the stable generation ${stable} is unusable: its record is corrupt, or its volume is missing or was replaced`,
      );
    }
    await prepareSpare(on);
    await tryStep(result, 'the list of desktops', () => publishSessions(on));
  } finally {
    lock.release();
  }
}

/** Removes the files that session wrappers read, if their session no longer exists. */
async function removeEmptyUsers(on: Machine, result: Recovered): Promise<void> {
  const { host, paths } = on;
  for (const uid of host.list(paths.users)) {
    await tryStep(result, `the directory of uid ${uid}`, () =>
      withLock(host, paths, `user-${uid}`, 0, async () => {
        const { directory, ...files } = userFiles(paths, uid);
        sweepTemporary(host, directory);
        const id = host.read(files.session)?.trim();
        const known = id !== undefined && readSession(host, paths, id);
        if (!known) {
          for (const path of [files.session, files.host]) host.unlink(path);
          resetUserManager(host, paths, Number(uid));
        }
        if (host.list(directory).length === 0) host.rmdir(directory);
      }),
    );
  }
}
