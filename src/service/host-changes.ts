/**
 * What changes on the host while sessions last: a service is restarted and makes its directory in /run anew, or starts
 * for the first time; a password is changed or an account locked. Sessions are brought up to date, so that a login long
 * ago sees what one of now would see. Without the service, only later logins do.
 */
import type { Config } from '../config/config.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { bootId } from '../linux/process-id.ts';
import { refreshCommand } from '../linux/refresh-session.ts';
import { planMounts } from '../session/mount-plan.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { readSession, type Session } from '../state/sessions.ts';

/** The shared directories that services create. None is on a file server, which might not answer. */
const replaceable = ({ mounts }: Pick<Config, 'mounts'>): string[] =>
  mounts.bind.filter(path => path.startsWith('/run/') || path === '/var/lib/sss/pipes');

/** Another text after each change that sessions must be told of. */
export function hostSnapshot({ host, config }: Pick<Machine, 'host' | 'config'>): string {
  const shared = replaceable(config).map(path => host.stat(path));
  const shadow = host.stat('/etc/shadow');
  return [
    ...shared.map(there => (there ? `${there.dev}:${there.ino}` : '')),
    `${shadow?.ino} ${shadow?.size} ${shadow?.ctimeMs}`,
  ].join(' ');
}

export interface HostChanges {
  /** Brings all `sessions` up to date that are not; resolves with whether all are. Never rejects. */
  apply(on: Machine, sessions: readonly Session[], snapshot: string): Promise<boolean>;
}

export function hostChanges(): HostChanges {
  const known = new Map<string, string>(); // by session
  const problems = new Map<string, string>();
  let last: string | undefined; // sessions that began before the service may be out of date
  return {
    async apply(on, sessions, snapshot) {
      const current = sessions.filter(s => s.state !== 'ending' && s.boot === bootId(on.host));
      for (const id of known.keys()) if (!current.some(s => s.id === id)) known.delete(id);
      let complete = true;
      for (const s of current) {
        const before = known.get(s.id) ?? last;
        if (before !== undefined) known.set(s.id, before);
        if (before === snapshot) continue;
        if (s.state !== 'live' || !(await tryRefresh(on, s, problems))) complete = false;
        else known.set(s.id, snapshot);
      }
      last = snapshot;
      return complete;
    },
  };
}

/** Whether the session is up to date, or never will be: a problem is logged once. */
async function tryRefresh(on: Machine, { id }: Session, problems: Map<string, string>): Promise<boolean> {
  const { host, paths, log } = on;
  try {
    const s = readSession(host, paths, id);
    // While somebody else logs in or out for this user, the tree may be half there.
    if (s) await withLock(host, paths, lockNameOf(s), 0, () => refresh(on, id));
    problems.delete(id);
    return true;
  } catch (error) {
    if (error instanceof MayflyError && error.code === 'locked') return false;
    const reason = reasonOf(error);
    if (problems.get(id) !== reason) log('warning', `${id} is not up to date: ${reason}`, { session: id });
    problems.set(id, reason);
    return true;
  }
}

async function refresh({ host, paths, config }: Machine, id: string): Promise<void> {
  const s = readSession(host, paths, id);
  if (s?.state !== 'live') return;
  const { home: path, uid, gid, name } = s.user;
  const ephemeral = s.mounts.some(m => m.type === 'tmpfs' && m.target === s.root + path);
  const changing = replaceable(config);
  const shared = planMounts(config, s.root, { path, ephemeral, uid, gid })
    .filter(m => m.type === 'none' && m.target === s.root + m.source && changing.includes(m.source))
    .map(m => ({ path: m.source, readOnly: m.options.endsWith(',ro') }));
  await host.run(refreshCommand(s.root, uid === 0 ? '' : name, `${paths.roots}/.way`, shared));
}
