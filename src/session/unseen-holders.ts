/**
 * What keeps the volume of a session in use although nothing of the session is left otherwise. A user's process outside
 * the session, such as one by ssh, can hold a descriptor of a mount namespace of the session, or move a copy of its tree
 * to a namespace of its own. Such processes end. Others are named, where the backend only knows that somebody uses it.
 */
import { MayflyError } from '../errors.ts';
import { lookAt } from '../linux/files.ts';
import { bootId } from '../linux/process-id.ts';
import { describeHolders, findHolders, type Holder, uidOf } from '../linux/processes.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import { UNSEEN } from '../volume/backend.ts';

/** Not in any table of mounts: all that is looked for is a device. */
const NOWHERE = { device: 'none', root: '' };

/** Whether `uid` is in one of the user's ranges of subuid(5), whose users are processes of their containers. Pure. */
export function isSubordinate(subuid: string, { name, uid: own }: Session['user'], uid: number): boolean {
  return subuid.split('\n').some(line => {
    const [who, first, count] = line.split(':');
    return (who === name || who === `${own}`) && uid >= Number(first) && uid < Number(first) + Number(count);
  });
}

/** Whether a process is the user's, or of one of their containers. */
function ownership({ host }: Machine, s: Session): (pid: number) => boolean {
  const subuid = host.read('/etc/subuid') ?? '';
  return pid => {
    const uid = uidOf(host, pid) ?? 0;
    return uid === s.user.uid || isSubordinate(subuid, s.user, uid);
  };
}

/**
 * The processes that use the session's volume and are not the user's: of the host, such as a backup, or of another person.
 * Rejects if they cannot be looked for.
 */
export async function foreignHolders(s: Session, on: Machine): Promise<Holder[]> {
  const [device] = s.devices;
  if (device === undefined) return [];
  const at = s.volume.backend === 'btrfs' ? on.backend('btrfs').path(s.volume) : undefined;
  // While it is mounted, its number is its own.
  if (lookAt(on.host, s.root)?.dev !== device && !isOwn(s, on, device)) return [];
  const isTheirs = ownership(on, s);
  return (await findHolders(on.host, new Set([device]), at ?? NOWHERE)).filter(h => !isTheirs(h.pid));
}

/** Kills the processes of the user, and of their containers, that use the volume, for up to `logout.kill_timeout`. */
async function endHolders(s: Session, on: Machine, device: number): Promise<void> {
  const { host, config } = on;
  // On btrfs, the device number in tables of mounts is not that of the volume.
  const path = s.volume.backend === 'btrfs' ? on.backend('btrfs').path(s.volume) : undefined;
  const isTheirs = ownership(on, s);
  const deadline = host.monotonic() + config.logout.kill_timeout * 1000;
  for (let wait = 4; ; wait = Math.min(wait * 2, 250)) {
    const holders = await findHolders(host, new Set([device]), path ?? NOWHERE, { uid: s.user.uid });
    const theirs = holders.filter(h => isTheirs(h.pid));
    if (theirs.length === 0 || host.monotonic() > deadline) return;
    for (const { pid } of theirs) host.kill(pid, 'SIGKILL');
    await host.sleep(wait);
  }
}

/**
 * Whether `device` is certainly that of the session's volume, which is in use. Meanwhile the kernel gives the number to
 * no other file system; but what is said to be in use may just have ended. All other sessions are mounted.
 */
function isOwn(s: Session, { host, paths }: Machine, device: number): boolean {
  const roots = host.list(paths.roots).map(name => lookAt(host, `${paths.roots}/${name}`)?.dev);
  return s.boot === bootId(host) && !roots.includes(device);
}

/**
 * Called after `discard` has thrown `error`: if that is `stuck`, ends the user's processes that use the volume, and tries
 * again. Copies of the session's mounts in other namespaces of the host went with the mount point; so whatever mount
 * namespace still shows the volume comes from the session. Throws the error with the processes that use the volume, or
 * with the statement that /proc shows none.
 */
export async function discardWithoutHolders(
  s: Session,
  on: Machine,
  error: unknown,
  discard: () => Promise<void>,
): Promise<void> {
  const [device] = s.devices;
  const isStuck = error instanceof MayflyError && error.code === 'stuck';
  if (!isStuck || device === undefined || !isOwn(s, on, device)) throw error;
  await endHolders(s, on, device);
  try {
    await discard();
  } catch (second) {
    throw await withHolders(s, on, device, second);
  }
}

async function withHolders(s: Session, { host }: Machine, device: number, error: unknown): Promise<unknown> {
  if (!(error instanceof MayflyError) || error.code !== 'stuck' || s.volume.backend !== 'overlay')
    return error;
  const who = await findHolders(host, new Set([device]), NOWHERE).then(
    holders => describeHolders(holders) || UNSEEN,
    () => UNSEEN,
  );
  return new MayflyError('stuck', `${error.message}; ${who}`, error.facts, { cause: error });
}
