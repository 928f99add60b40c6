/** The control group of a session, and ending its processes. */
import * as cgroup from '../../linux/cgroup.ts';
import { killAll, type Target } from '../../linux/kill.ts';
import { isMounted } from '../../linux/mounts.ts';
import { bootId, isAlive } from '../../linux/process-id.ts';
import type { Machine } from '../../state/machine.ts';
import { type Session, writeSession } from '../../state/sessions.ts';
import { endedScopes, managerGroup } from '../ended-scopes.ts';
import { devicesOf } from './mounts.ts';
import type { Step } from './step.ts';

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
    const present = group !== undefined && on.host.lstat(group) ? group : undefined;
    if (root !== undefined && present !== undefined) releaseCallers(s, on, root, present);
    const scopes = root === undefined ? [] : endedScopes(on.host, root, s);
    const target = { devices: await presentDevices(s, on), group: present, scopes, uid: s.user.uid };
    const manager = root === undefined ? undefined : managerGroup(on.host, root, s);
    await endPrograms(s, on, target, manager);
    if (manager !== undefined) {
      const { endManager } = await import('../manager-end.ts');
      await endManager(s, on, manager, target.devices);
      await endPrograms(s, on, target, undefined);
    }
    if (present !== undefined) cgroup.remove(on.host, present);
  },
};

/** Ends all processes but those in `apart`. Throws `saving` while some work on ending and have time. */
async function endPrograms(
  s: Session,
  on: Machine,
  target: Target,
  apart: string | undefined,
): Promise<void> {
  const { host, config, log } = on;
  const asked = s.saving?.asked ?? host.monotonic();
  const until = asked + config.logout.grace * 1000;
  const { working, killed } = await killAll(
    host,
    { ...target, apart },
    {
      grace: s.boot === bootId(host) ? Math.max(0, until - host.monotonic()) : 0,
      timeout: config.logout.kill_timeout * 1000,
      known: s.saving?.processes,
    },
  );
  if (working.length + killed.length === 0) return;
  const { reportKilled, saveWait } = await import('../saving.ts');
  reportKilled(s, log, killed);
  if (working.length > 0) saveWait(s, on, { asked, until, processes: working });
}

/**
 * The recorded device numbers that certainly still belong to this session. The kernel gives the number of an
 * unmounted file system to the next one, which may be another session's. So a number counts only while that device is
 * mounted where it was, or while the kernel reports the volume in use although it is mounted nowhere any more.
 */
async function presentDevices(s: Session, on: Machine): Promise<Set<number>> {
  const shown = isMounted(on.host, s.root) ? devicesOf(on.host, s) : [];
  // The login died before it recorded its devices: only the root itself is certain.
  if (s.devices.length === 0) return new Set(shown.slice(0, 1));
  const present = new Set(shown.filter(d => s.devices.includes(d)));
  const [first] = s.devices;
  if (first === undefined || present.has(first) || s.boot !== bootId(on.host)) return present;
  // It is unmounted, or root in the session has mounted something over it, or its file system refuses every look.
  const busy = await on.backend(s.volume.backend).busyReason(s.volume);
  return busy === undefined ? present : present.add(first);
}

/**
 * Moves gdm's session worker, our caller, into the session's control group, so that everything the session starts is
 * in it too. Not under systemd, which keeps sessions in scopes already, and never lightdm's daemon, which serves all
 * seats. The record is written first, so that a crash cannot lose the group to return to.
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

/** Moves the callers and this process out of the session's control group, so that they are not killed with it. */
function releaseCallers(s: Session, { host }: Machine, root: string, group: string): void {
  const inside = new Set(cgroup.members(host, group));
  for (const login of s.logins) {
    if (login.group !== undefined && inside.has(login.caller.pid) && isAlive(host, login.caller)) {
      cgroup.move(host, `${root}${login.group}`, login.caller.pid);
    }
  }
  if (inside.has(host.pid)) cgroup.move(host, `${root}${s.logins[0]?.group ?? ''}`, host.pid);
}
