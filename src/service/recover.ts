/**
 * Brings any state to a consistent one: after a power cut, after a kill at any instruction, at boot before the
 * display manager, and at any time while people are logged in. It touches only what is certainly over: a session of
 * another boot, one whose end had begun, one whose maker died, and what lies around in no record's name.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import * as cgroup from '../linux/cgroup.ts';
import { sweepTemporary } from '../linux/files.ts';
import { isSessionId, uidOfSession } from '../names.ts';
import { overBecause } from '../session/over.ts';
import { listEntries } from '../session/schroot.ts';
import { stop } from '../session/session.ts';
import { prepareSpare } from '../session/spare.ts';
import { resetUserManager } from '../session/user-manager.ts';
import { generationNumbers, readableGeneration, stableNumber } from '../state/generations.ts';
import { lockNameOf, takeLock, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories, userFiles } from '../state/paths.ts';
import { readPool, writePool } from '../state/pool.ts';
import { readSession, type Session, sessionIds } from '../state/sessions.ts';
import { clearRunning } from '../state/update-history.ts';
import { publishSessions } from '../update/greeter.ts';
import { writeHealth } from '../update/health.ts';
import { finishInterruptedUpdate, isUsable, mountPool, poolOf } from '../update/pool.ts';
import { generationOf, type Pool, sessionOf, type Volume } from '../volume/backend.ts';

export interface Recovered {
  /** Sessions that were taken down. */
  readonly ended: string[];
  /** Half-made or forgotten things that were removed. */
  readonly swept: string[];
  /** What could not be mended, one sentence each. */
  readonly stuck: string[];
}

/** Repeats as often as wanted: a second run finds nothing to do. Goes on past what is stuck. */
export async function recover(on: Machine): Promise<Recovered> {
  const { host, paths } = on;
  const result: Recovered = { ended: [], swept: [], stuck: [] };
  makeDirectories(host, paths);
  for (const directory of [paths.state, paths.sessions, paths.generations, paths.run])
    sweepTemporary(host, directory);
  sweepTemporary(host, paths.schroot, 'mayfly-');

  const pool = poolOnRecord(on, result);
  if (pool) await tryStep(result, 'the pool', () => mountPool(on, pool));

  // Asked in this order: a session writes its record before it makes anything and deletes it last, so what exists
  // now and is in no record read afterwards belongs to nobody.
  const found = pool ? await leftovers(on, pool, result) : new Map<string, Volume | undefined>();
  for (const id of sessionIds(host, paths)) {
    await tryStep(result, id, () => recoverSession(on, id, found.get(id), result));
    found.delete(id);
  }
  for (const [id, volume] of found) {
    if (readSession(host, paths, id)) continue; // began after we looked
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
  if (pool) await writeHealth(on);
  await removeEmptyUsers(on, result);
  return result;
}

/** The pool; where its record is not whole, as that of a generation in it has it, and written down anew. */
function poolOnRecord({ host, paths }: Machine, result: Recovered): Pool | undefined {
  try {
    return readPool(host, paths);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'corrupt') throw error;
    const known = generationNumbers(host, paths).map(n => readableGeneration(host, paths, n));
    const volume = known.find(g => g !== undefined)?.volume;
    if (!volume) {
      const hint = `rm -f ${paths.poolFile} ${paths.stable} ${paths.generations}/* && mayfly init`; // which makes all anew
      throw new MayflyError('corrupt', `${error.message}, nor is any generation's record`, { hint });
    }
    const pool = poolOf(host, paths, volume);
    writePool(host, paths, pool);
    result.swept.push(`what was left of "${paths.poolFile}", which is written anew`);
    return pool;
  }
}

async function tryStep(result: Recovered, what: string, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    // Held by somebody who is at work on it right now: theirs to finish.
    if (error instanceof MayflyError && error.code === 'locked') return;
    const hint = error instanceof MayflyError ? error.facts.hint : undefined;
    result.stuck.push(`${what}: ${reasonOf(error)}${hint === undefined ? '' : `; fix it with "${hint}"`}`);
  }
}

async function recoverSession(
  on: Machine,
  id: string,
  volume: Volume | undefined,
  result: Recovered,
): Promise<void> {
  const { host, paths } = on;
  const seen = readSession(host, paths, id);
  const s = seen ?? sessionFromId(on, id, volume, readPool(host, paths));
  if (seen && overBecause(host, seen) === undefined) return;
  await withLock(host, paths, lockNameOf(s), 0, async lock => {
    const now = readSession(host, paths, id);
    if (now && overBecause(host, now) === undefined) return;
    if (!now && seen) return; // ended meanwhile
    on.log(
      'notice',
      `${id} of ${s.user.name} is over: ${(now && overBecause(host, now)) ?? 'its record is not whole'}`,
      {
        session: id,
        user: s.user.name,
      },
    );
    await stop({ ...on, lockFds: [lock.fd] }, now ?? s);
    result.ended.push(id);
  });
}

/** Sessions by what they left: volumes, mount points, schroot entries, cgroups. */
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
  // A disk that is not there (yet) keeps nobody from cleaning up what else is left.
  await tryStep(result, 'the pool', async () => {
    for (const v of (await on.backend(pool.backend).list(pool.path)).volumes)
      if (v.role === 'session') found.set(v.name, v);
  });
  return found;
}

/** A session as its name alone tells it: enough to take down whatever is there of it. */
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

/** Half-made generations and copies of an updater that died; only where no updater is at work. */
async function recoverPool(on: Machine, pool: Pool, result: Recovered): Promise<void> {
  const { host, paths } = on;
  const lock = await takeLock(host, paths, 'update', 0).catch(error => {
    if (error instanceof MayflyError && error.code === 'locked') return undefined;
    throw error;
  });
  if (!lock) return;
  try {
    clearRunning(host, paths); // of an update that died
    await finishInterruptedUpdate(on, pool, (what, act) => tryStep(result, what, act), result.swept);
    const stable = stableNumber(host, paths);
    if (stable !== undefined && !(await isUsable(on, readableGeneration(host, paths, stable)))) {
      result.stuck.push(
        `the stable generation ${stable} is not usable: its record is not whole, or its volume is missing or was replaced`,
      );
    }
    await prepareSpare(on);
    await tryStep(result, 'the list of desktops', () => publishSessions(on));
  } finally {
    lock.release();
  }
}

/** What people's wrappers read, of sessions that are no more. */
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
