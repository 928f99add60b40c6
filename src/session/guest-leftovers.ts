/**
 * What a guest, who has an ephemeral home, can leave on the host without a file in the session: System V and POSIX objects
 * of interprocess communication, which last as long as the machine, and sockets beside those of the host's X servers.
 * logind removes the former after a user's last logout (RemoveIPC=), but not everywhere.
 */
import type { Host } from '../linux/host.ts';
import { liveSessions } from '../linux/logind.ts';
import { bootId } from '../linux/process-id.ts';
import type { Session } from '../state/sessions.ts';
import { isEndedLogin } from './ended-scopes.ts';

/** The IDs of the objects of a user, from a file of /proc/sysvipc. Pure. */
export function ipcObjects(text: string, uid: number): string[] {
  const [head = '', ...rows] = text.split('\n');
  const columns = head.trim().split(/\s+/);
  const id = columns.findIndex(name => name.endsWith('id') && /^(shm|sem|msq)/.test(name));
  const owners = [columns.indexOf('uid'), columns.indexOf('cuid')];
  return rows.flatMap(row => {
    const fields = row.trim().split(/\s+/);
    const isTheirs = owners.some(column => fields[column] === String(uid));
    return isTheirs && fields[id] !== undefined ? [fields[id]] : [];
  });
}

/** Kind in /proc/sysvipc and option of ipcrm(1). */
const KINDS = { shm: '-m', sem: '-s', msg: '-q' } as const;

/**
 * Removes the user's files in a directory of the host in which everybody may create them, and root owns the names. find(1)
 * takes each name as it is: one that is not valid UTF-8 leads Node.js to no file. rm follows no symlink, and the user has no
 * processes left that could change the tree.
 */
async function removeFiles(host: Host, directory: string, uid: number): Promise<void> {
  const there = host.lstat(directory);
  if (there?.kind !== 'dir' || there.uid !== 0) return;
  const mayBeTheirs = (name: string): boolean =>
    name.includes('\ufffd') || host.lstat(`${directory}/${name}`)?.uid === uid;
  if (!host.list(directory).some(mayBeTheirs)) return;
  const theirs = [directory, '-xdev', '-mindepth', '1', '-maxdepth', '1', '-uid', String(uid)];
  const args = [...theirs, '-exec', 'rm', '-rf', '--one-file-system', '--', '{}', '+'];
  await host.run({ file: 'find', args, effect: 'write' });
}

/** Removes what the guest of a session has left, unless they are logged in in another way, too. */
export async function removeLeftovers(host: Host, s: Session): Promise<void> {
  const { uid } = s.user;
  if (uid === 0 || s.boot !== bootId(host)) return;
  const isOurs = (display: string): boolean => s.logins.some(l => l.display === display);
  const isElsewhere = liveSessions(host, uid).some(a => !isEndedLogin(s, a) && !isOurs(a.display));
  if (isElsewhere) return;
  const args = Object.entries(KINDS).flatMap(([kind, option]) =>
    ipcObjects(host.read(`/proc/sysvipc/${kind}`) ?? '', uid).flatMap(id => [option, id]),
  );
  // 1: one has just been removed
  if (args.length > 0) await host.run({ file: 'ipcrm', args, effect: 'write', okCodes: [0, 1] });
  for (const directory of ['/dev/mqueue', '/tmp/.X11-unix']) await removeFiles(host, directory, uid);
}
