/** Sessions for one command: `mayfly run`, and the trial login of a candidate. */
import { MayflyError } from '../errors.ts';
import { groupsOf, lookupUser } from '../linux/accounts.ts';
import { type Generation, readGeneration, readStable } from '../state/generations.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories } from '../state/paths.ts';
import type { Login, Session } from '../state/sessions.ts';
import { checkHome } from './home-path.ts';
import { LOGIN_TRIES } from './probation.ts';
import { LOGIN_LOCK_WAIT, runSteps } from './session.ts';
import { planSession } from './session-plan.ts';

/**
 * Starts a session for one command, from the stable generation, generation number `which`, or the candidate `which`.
 * Throws `no-generation` if that number does not exist, `no-stable` if none is stable, `unknown-user`, `unsafe` (the
 * home directory), `locked`, and whatever a step throws.
 */
export async function startRunSession(
  on: Machine,
  userName: string,
  caller: Login,
  which?: number | Generation,
): Promise<Session> {
  const user = await lookupUser(on.host, userName);
  const groups = await groupsOf(on.host, user);
  const places = await checkHome(on, user, groups);
  makeDirectories(on.host, on.paths);
  const who = { kind: 'run', user, groups, logins: [caller] } as const;
  const start = async (generation: Generation, plan: Parameters<typeof planSession>[2]): Promise<Session> => {
    const s = await planSession(on, generation, plan, places);
    return withLock(on.host, on.paths, lockNameOf(s), LOGIN_LOCK_WAIT, lock =>
      runSteps({ ...on, lockFds: [lock.fd] }, s, generation),
    );
  };
  if (which !== undefined) {
    const generation = typeof which === 'number' ? readGeneration(on.host, on.paths, which) : which;
    if (generation) return start(generation, who);
    throw new MayflyError('no-generation', `there is no generation ${which}`, { generation: Number(which) });
  }
  for (let tries = 0; ; tries++) {
    try {
      return await start(readStable(on.host, on.paths), { ...who, fromStable: true });
    } catch (error) {
      const hasMoved = error instanceof MayflyError && error.facts.moved === true;
      if (!hasMoved || tries >= LOGIN_TRIES) throw error;
    }
  }
}
