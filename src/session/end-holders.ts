/**
 * Ending what keeps the volume of a session from being removed although nothing of the session is left otherwise. A
 * user's process outside the session, such as one by ssh, can hold a descriptor of a mount namespace of the session, or
 * move a copy of its tree to a namespace of its own.
 */
import type { Host } from '../linux/host.ts';
import { describeHolders, findHolders, uidOf } from '../linux/processes.ts';
import type { Session } from '../state/sessions.ts';

/** Whether `uid` is in one of the user's ranges of subuid(5), whose users are processes of their containers. Pure. */
export function isSubordinate(subuid: string, { name, uid: own }: Session['user'], uid: number): boolean {
  return subuid.split('\n').some(line => {
    const [who, first, count] = line.split(':');
    return (who === name || who === `${own}`) && uid >= Number(first) && uid < Number(first) + Number(count);
  });
}

/**
 * Kills the processes of the user, and of their containers, that use `device`, for up to `timeout` milliseconds.
 * `directory`: where the volume is in the pool, if it has a path there. Returns who else uses it, in one line. The device
 * must be that of a volume that is in use and mounted nowhere on the host: copies of its mounts in other namespaces of the
 * host are gone with its mount point, so every mount namespace that still shows it comes from the session.
 */
export async function endHolders(
  host: Host,
  s: Session,
  device: number,
  directory: string | undefined,
  timeout: number,
): Promise<string> {
  const mounted = directory ?? { device: 'none', root: '' };
  const isTheirs = (pid: number): boolean => {
    const uid = uidOf(host, pid) ?? 0;
    return uid === s.user.uid || isSubordinate(host.read('/etc/subuid') ?? '', s.user, uid);
  };
  const deadline = host.monotonic() + timeout;
  for (let wait = 4; ; wait = Math.min(wait * 2, 250)) {
    const holders = await findHolders(host, new Set([device]), mounted, { uid: s.user.uid });
    const theirs = holders.filter(h => isTheirs(h.pid));
    if (theirs.length === 0 || host.monotonic() > deadline) break;
    for (const { pid } of theirs) host.kill(pid, 'SIGKILL');
    await host.sleep(wait);
  }
  return describeHolders(await findHolders(host, new Set([device]), mounted));
}
