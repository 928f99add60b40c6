/** Plans a session: everything that is known before the first effect. */
import { MayflyError } from '../errors.ts';
import { bootId, identify } from '../linux/process-id.ts';
import { newSessionId } from '../names.ts';
import { type Generation, isSealed } from '../state/generations.ts';
import { loginBlockReason } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import { sessionOf } from '../volume/backend.ts';
import { isSameVolume } from '../volume/identity.ts';
import { answerTime, existingMounts, planMounts, requireSources } from './mount-plan.ts';
import { leaveWhatMayHang } from './own-process.ts';
import { isMember } from './scope.ts';

/**
 * Returns the record of a new session in state `starting`. Has no effect; reads only which mount sources exist. Throws
 * `timeout` if the file server of one does not answer.
 */
export async function planSession(
  on: Machine,
  generation: Generation,
  who: Pick<Session, 'kind' | 'user' | 'groups' | 'logins' | 'fromStable'>,
  places: readonly string[],
): Promise<Session> {
  const { host, config, paths } = on;
  const id = newSessionId(who.user.uid, host.random());
  const root = `${paths.roots}/${id}`;
  const ephemeral = isMember(config.ephemeral_home, who.user, who.groups);
  const starter = on.client ?? identify(host, host.pid);
  if (!starter) throw new MayflyError('internal', 'this process is not in /proc');
  const home = { path: who.user.home, ephemeral, uid: who.user.uid, gid: who.user.gid, places };
  const mounts = planMounts(config, root, home);
  leaveWhatMayHang(
    on,
    mounts.filter(m => m.type === 'none').map(m => m.source),
  );
  await requireSources(host, mounts, answerTime(config));
  const unnamed = unnamedOf(generation, who);
  return {
    ...who,
    ...(unnamed ? { unnamed } : {}),
    id,
    generation: generation.number,
    volume: sessionOf(generation.volume, id),
    root,
    mounts: existingMounts(host, mounts),
    boot: bootId(host),
    starter,
    created: host.now(),
    since: host.monotonic(),
    state: 'starting',
    devices: [],
  };
}

/** The numbers that would give the user files of the generation whose owners have no name there; nearly never any. */
function unnamedOf(
  { unnamed }: Generation,
  { user, groups }: Pick<Session, 'user' | 'groups'>,
): Session['unnamed'] {
  if (!unnamed) return undefined;
  const isOthers = (name: string | undefined, own: string): boolean => name !== undefined && name !== own;
  const users = isOthers(unnamed.users[user.uid], user.name) ? [user.uid] : [];
  const theirs = groups.filter(g => isOthers(unnamed.groups[g.gid], g.name)).map(g => g.gid);
  return users.length + theirs.length > 0 ? { users, groups: theirs } : undefined;
}

/**
 * Verifies, after the record was written, that its generation still exists. Retirement renames the generation's file
 * before it looks for records (see state/generations.ts), so one of the two sees the other.
 */
export async function verifyGeneration(on: Machine, s: Session, generation: Generation): Promise<void> {
  const blocked = s.kind === 'login' ? loginBlockReason(on) : undefined;
  if (blocked !== undefined) throw new MayflyError('held', blocked);
  const identity = await on.backend(generation.volume.backend).identity(generation.volume);
  const sealed = isSealed(on.host, on.paths, generation.number);
  if (sealed && isSameVolume(identity, generation.identity)) return;
  const problem = identity === undefined ? 'its volume is missing' : 'its volume was replaced';
  throw new MayflyError(
    'no-generation',
    `generation ${s.generation} cannot be used: ${sealed ? problem : 'it was retired'}`,
    { generation: s.generation },
  );
}
