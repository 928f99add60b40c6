/** Where the processes of a session are counted, and where they die. */
import * as cgroup from '../../linux/cgroup.ts';
import { killAll } from '../../linux/kill.ts';
import { isMounted } from '../../linux/mounts.ts';
import { bootId, isAlive } from '../../linux/process-id.ts';
import type { Machine } from '../../state/machine.ts';
import { type Session, writeSession } from '../../state/sessions.ts';
import { devicesOf } from './mounts.ts';
import type { Step } from './step.ts';

/** Where the processes of the session are counted, and where they die. */
export const processes: Step = {
  name: 'processes',
  async up(s, on) {
    const root = cgroup.hierarchy(on.host);
    if (root === undefined) return s;
    const group = cgroup.groupPath(root, on.paths.cgroup, s.id);
    on.host.mkdir(group, 0o755);
    return adoptCaller(s, on, group);
  },
  async down(s, on) {
    const root = cgroup.hierarchy(on.host);
    const group = root === undefined ? undefined : cgroup.groupPath(root, on.paths.cgroup, s.id);
    const there = group !== undefined && on.host.lstat(group) ? group : undefined;
    if (root !== undefined && there !== undefined) releaseCallers(s, on, root, there);
    const { grace, kill_timeout } = on.config.logout;
    const target = { devices: await presentDevices(s, on), group: there, uid: s.user.uid };
    await killAll(on.host, target, { grace: grace * 1000, timeout: kill_timeout * 1000 });
    if (there !== undefined) cgroup.remove(on.host, there);
  },
};

/**
 * The recorded devices that are certainly still this session's. The kernel gives the number of an unmounted file
 * system to the next one, which may be another session: a number counts only while it shows where it was mounted, or
 * while the kernel says that the volume is in use although it shows nowhere any more.
 */
async function presentDevices(s: Session, on: Machine): Promise<Set<number>> {
  if (isMounted(on.host, s.root)) {
    const shown = devicesOf(on.host, s);
    // A login that died before it could write them down: only the root itself is beyond doubt.
    return new Set(s.devices.length > 0 ? shown.filter(d => s.devices.includes(d)) : shown.slice(0, 1));
  }
  if (s.devices[0] === undefined || s.boot !== bootId(on.host)) return new Set();
  const held = await on.backend(s.volume.backend).busyReason(s.volume);
  return new Set(held === undefined ? [] : [s.devices[0]]);
}

/**
 * gdm forks the whole session from one worker of its own, our caller: in our group, everything that session ever
 * starts is too. Not where systemd keeps sessions in scopes already, and never the daemon of all seats (lightdm).
 */
function adoptCaller(s: Session, { host, paths }: Machine, group: string): Session {
  const caller = s.logins[0]?.caller;
  if (!caller || s.logins[0]?.adapter === 'lightdm' || host.exists('/run/systemd/system')) return s;
  if (!(host.read(`/proc/${caller.pid}/comm`) ?? '').startsWith('gdm-session-wor')) return s;
  const before = cgroup.groupOf(host, caller.pid);
  if (before === undefined) return s;
  const adopted = { ...s, logins: s.logins.map((l, i) => (i === 0 ? { ...l, group: before } : l)) };
  writeSession(host, paths, adopted);
  cgroup.move(host, group, caller.pid);
  return adopted;
}

/** The callers, and we, are not to die with the session. */
function releaseCallers(s: Session, { host }: Machine, root: string, group: string): void {
  const inside = new Set(cgroup.members(host, group));
  for (const login of s.logins) {
    if (login.group !== undefined && inside.has(login.caller.pid) && isAlive(host, login.caller)) {
      cgroup.move(host, `${root}${login.group}`, login.caller.pid);
    }
  }
  if (inside.has(host.pid)) cgroup.move(host, `${root}${s.logins[0]?.group ?? ''}`, host.pid);
}
