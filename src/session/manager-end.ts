/**
 * Ends the service manager of a user, which gives its services the time that their units say. There is one for each user:
 * for a login that stays, such as one over ssh, and for a user who lingers, it is started again, on the host.
 */
import * as cgroup from '../linux/cgroup.ts';
import type { Output } from '../linux/command.ts';
import type { Host } from '../linux/host.ts';
import { lingerFile } from '../linux/linger.ts';
import { type LogindSession, shownSessions } from '../linux/logind.ts';
import { identify, type ProcessId } from '../linux/process-id.ts';
import { findUsers, processName } from '../linux/processes.ts';
import { waitForAll } from '../linux/terminate.ts';
import type { Machine } from '../state/machine.ts';
import { userFiles } from '../state/paths.ts';
import type { Session } from '../state/sessions.ts';
import { isEndedLogin } from './ended-scopes.ts';
import { reportKilled, saveWait } from './saving.ts';

/** systemd gives a manager two minutes (TimeoutStopSec= in user@.service), and its services what is left of them. */
const MANAGER_TIMEOUT = 150_000;

/** After how long to look again whether a new login still waits for the manager, in milliseconds. */
const ASK_AGAIN = 5000;

/** How long to wait for an ordinary manager while the lock of the user is held, in milliseconds. */
const MOMENT = 1000;

/** How long logind may take to see that a login is over, in milliseconds. */
const LOGIND_DELAY = 1000;

/** The processes of the manager in `group` that are in the session. One on the host is another login's. */
async function processesOf(host: Host, group: string, s: Session, devices: ReadonlySet<number>) {
  const users = new Set(await findUsers(host, devices, s.user.uid));
  const inside = cgroup.members(host, group).filter(pid => users.has(pid));
  return inside.flatMap(pid => identify(host, pid) ?? []);
}

/**
 * Ends the manager if it is the session's, and waits a moment for it. Throws `saving` if its services take longer. The link
 * to its root does not name the session any more.
 */
export async function endManager(
  s: Session,
  on: Machine,
  group: string,
  devices: ReadonlySet<number>,
): Promise<void> {
  const { host } = on;
  const processes = await processesOf(host, group, s, devices);
  if (processes.length === 0) return;
  const now = host.monotonic();
  const asked = s.saving?.asked ?? now;
  const manager = s.saving?.manager ?? ((await askManager(s, on, processes)) ? now : undefined);
  const left = await waitForAll(host, processes, now + MOMENT);
  if (left.length === 0) return;
  // The user has removed the programs of the tree. A manager in it can start nothing, not even what ends its services, and
  // would wait for the end of its own time (120 s with systemd 257, observed): it is killed like any program. The path is
  // safe to look at: only root, who has the machine, could have mounted something there.
  if (!host.exists(`${s.root}/usr/lib`)) return;
  const services = servicesOf(host, group, left);
  // A new login that waits for it, and that may be refused: then it has to be asked.
  const until = manager === undefined ? now + ASK_AGAIN : manager + MANAGER_TIMEOUT;
  if (host.monotonic() < Math.min(until, asked + on.config.logout.grace * 1000 + 2 * MANAGER_TIMEOUT)) {
    const wait = { asked, until, processes: left, ...(manager === undefined ? {} : { manager }) };
    saveWait(s, on, wait, `the services ${services.join(', ')}`);
  }
  reportKilled(s, on.log, services);
}

/** The units that these processes belong to, as far as their groups say. */
function servicesOf(host: Host, group: string, processes: readonly ProcessId[]): string[] {
  const names = processes.map(({ pid }) => {
    const units = cgroup.groupOf(host, pid)?.match(/[^/]+\.(service|scope)(?=\/|$)/g);
    return units?.at(-1) ?? processName(host, pid);
  });
  const own = group.slice(group.lastIndexOf('/') + 1);
  const others = [...new Set(names)].filter(name => name !== own && name !== 'init.scope');
  return others.length > 0 ? others : [own];
}

/** The user's sessions; since systemd 256 the manager has one of its own. */
function loginsOf(host: Host, uid: number): LogindSession[] {
  return (shownSessions(host) ?? []).filter(a => a.uid === uid && !a.class.startsWith('manager'));
}

/** Whether somebody needs the manager after this session: another login, or one who lingers. */
function isNeeded({ host }: Machine, s: Session): boolean {
  if (host.exists(lingerFile(s.user.name))) return true;
  return loginsOf(host, s.user.uid).some(a => a.state !== 'closing' && !isEndedLogin(s, a));
}

/**
 * Tells the manager to end; false if a new login waits for it, which has named its own root and restarts it by itself.
 *
 * If nobody needs it, logind is told to forget the user, as it would do by itself after some seconds: it then stops the
 * manager, and starts it again at the next login. It would not do so if somebody else had stopped the manager (observed).
 * But logind also ends what is left in the user's sessions, such as a display manager's part at the end of a login.
 * So this waits until there are no sessions.
 */
async function askManager(s: Session, on: Machine, processes: readonly ProcessId[]): Promise<boolean> {
  const { host, paths } = on;
  const { uid } = s.user;
  const root = host.readlink(userFiles(paths, uid).root);
  if (root !== undefined && root !== '/' && root !== s.root) return false;
  const unit = `user@${uid}.service`;
  const run = (file: string, args: readonly string[], okCodes: readonly number[]): Promise<Output> =>
    host.run({
      ...{ file, args, effect: 'write', okCodes },
      simulate: view => {
        for (const { pid } of processes) view.end(pid);
      },
    });
  const systemctl = (verb: string): Promise<Output> =>
    run('systemctl', ['--no-block', verb, unit], [0, 1, 5]);
  if (isNeeded(on, s)) {
    on.log(
      'info',
      `${s.id}: the services of ${s.user.name} are started again on the host, for another login`,
    );
    await systemctl('restart');
    return true;
  }
  const isListed = (): boolean => loginsOf(host, uid).length > 0;
  for (const end = host.monotonic() + LOGIND_DELAY; isListed() && host.monotonic() < end; )
    await host.sleep(20);
  if (isListed()) {
    await systemctl('stop');
    return true;
  }
  const words = ['-k', '1', '5', 'loginctl', 'terminate-user', String(uid)];
  const { code } = await run('timeout', words, [0, 1, 124, 137]);
  if (code !== 0) await systemctl('stop');
  return true;
}
