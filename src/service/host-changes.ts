/**
 * What changes on the host while sessions last: a service is restarted and makes its directory in /run anew, or starts
 * for the first time; a password is changed or an account locked; a network brings other name servers, the time zone is
 * set. Sessions are brought up to date, so that a login long ago sees what one of now would see. Without the service, only
 * later logins do.
 */
import type { Config } from '../config/config.ts';
import { DEFAULT_BIND, DEFAULT_RBIND } from '../config/shared-paths.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { openParents } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { bootId } from '../linux/process-id.ts';
import { refreshCommand } from '../linux/refresh-session.ts';
import { isRemote, remoteMounts } from '../linux/remote.ts';
import { planMounts } from '../session/mount-plan.ts';
import { lockNameOf, withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { readSession, type Session } from '../state/sessions.ts';

/**
 * The shared paths that services and updates of the host create or replace. None is on a file server, which might not
 * answer, nor, of those that the administrator has added, where others than root could exchange it.
 */
function replaceable({ host, config }: Pick<Machine, 'host' | 'config'>): string[] {
  const isOfRoot = (path: string): boolean =>
    !isRemote(host, path, remoteMounts(host)) && openParents(host, path).length === 0;
  const own = config.mounts.rbind.filter(path => !DEFAULT_RBIND.includes(path) && isOfRoot(path));
  const bind = config.mounts.bind.filter(
    path =>
      path.startsWith('/run/') ||
      path === '/var/lib/sss/pipes' ||
      (!DEFAULT_BIND.includes(path) && isOfRoot(path)),
  );
  return [...bind, ...own];
}

/** The state of a file and of the symlink to it. A file server that may not answer is not asked. */
function fileState(host: Host, path: string): string {
  const own = host.lstat(path);
  if (!own) return '';
  const isLink = own.kind === 'link' && !isRemote(host, path, remoteMounts(host));
  const there = isLink ? host.stat(path) : undefined;
  return [own, ...(there ? [there] : [])].map(s => `${s.dev}:${s.ino}:${s.size}:${s.ctimeMs}`).join('>');
}

/** A line for each path, which is another after each change that sessions must be told of. */
export function hostSnapshot({ host, config }: Pick<Machine, 'host' | 'config'>): string {
  const shared = replaceable({ host, config }).map(path => {
    const there = host.stat(path);
    return `${path} ${there ? `${there.dev}:${there.ino}` : ''}`;
  });
  const files = ['/etc/shadow', ...config.identity.copy];
  return [...shared, ...files.map(path => `${path} ${fileState(host, path)}`)].join('\n');
}

/** What a login has chosen between the host and the image. */
const CHOSEN = ['/etc/machine-id', '/etc/default/locale'];

/** Which of the files that sessions have copies of are not the same in both snapshots; without the first, all. Pure. */
export function changedCopies(
  { identity }: Pick<Config, 'identity'>,
  before: string | undefined,
  now: string,
): string[] {
  const old = new Set(before?.split('\n'));
  const changed = now.split('\n').filter(line => !old.has(line));
  const follows = (path: string): boolean => !CHOSEN.includes(path);
  return identity.copy.filter(path => follows(path) && changed.some(line => line.startsWith(`${path} `)));
}

export interface HostChanges {
  /** Brings all `sessions` up to date that are not; resolves with whether all are. Never rejects. */
  apply(on: Machine, sessions: readonly Session[], snapshot: string): Promise<boolean>;
  /** Whether there are sessions that must be brought up to date when the host changes. */
  hasSessions(): boolean;
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
        const copies = changedCopies(on.config, before, snapshot);
        if (s.state !== 'live' || !(await tryRefresh(on, s, copies, problems))) complete = false;
        else known.set(s.id, snapshot);
      }
      last = snapshot;
      return complete;
    },
    hasSessions: () => known.size > 0,
  };
}

/** Whether the session is up to date, or never will be: a problem is logged once. */
async function tryRefresh(
  on: Machine,
  { id }: Session,
  copies: readonly string[],
  problems: Map<string, string>,
): Promise<boolean> {
  const { host, paths, log } = on;
  try {
    const s = readSession(host, paths, id);
    // While somebody else logs in or out for this user, the tree may be half there.
    if (s) await withLock(host, paths, lockNameOf(s), 0, () => refresh(on, id, copies));
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

async function refresh(
  { host, paths, config }: Machine,
  id: string,
  copies: readonly string[],
): Promise<void> {
  const s = readSession(host, paths, id);
  if (s?.state !== 'live') return;
  const { home: path, uid, gid, name } = s.user;
  const ephemeral = s.mounts.some(m => m.type === 'tmpfs' && m.target === s.root + path);
  const changing = replaceable({ host, config });
  const shared = planMounts(config, s.root, { path, ephemeral, uid, gid })
    .filter(m => m.type === 'none' && m.target === s.root + m.source && changing.includes(m.source))
    .map(m => ({
      path: m.source,
      readOnly: m.options.endsWith(',ro'),
      recursive: m.options.startsWith('rbind'),
    }));
  const account = uid === 0 ? '' : name;
  await host.run(refreshCommand(s.root, account, `${paths.roots}/.way`, shared, copies));
}
