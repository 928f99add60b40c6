/**
 * systemd's settings for the person's own service manager: user@UID.service gets the root that the symlink of
 * session/user-manager.ts names. The same for everybody, so that no login makes systemd read its units again (0.1 s).
 */

import { SYSTEM_RUN } from '../config/config.ts';
import type { Host } from '../linux/host.ts';
import { GREETER_DIRECTORY, userFiles } from '../state/paths.ts';
import { type Change, readTarget } from './changes.ts';

/** What starts as the first process of a person; a volume without it leaves people with the host's. */
const MANAGER = 'usr/lib/systemd/systemd';

const UNITS = '/etc/systemd/system';

const OWN = '50-mayfly.conf';

const OURS = '# Written by "mayfly enable" and removed by "mayfly disable".\n';

/** Of the instance %i, which is a uid. */
const USER = userFiles({ users: `${SYSTEM_RUN}/users` }, '%i');

const LINK = USER.root;

/**
 * user-runtime-dir@ is required by user@ and comes before it. It makes the link where there is none, or one that
 * leads to no manager: RootDirectory is applied to user@'s own ExecStartPre, too (systemd 252). The shell is safe:
 * %i is a user's number, and only root starts these units. A failure is ignored ("-"), for without the link only
 * user@ fails, while without the runtime directory nothing of the login works.
 * MountAPIVFS=no: otherwise the manager gets a mount namespace of its own, whose copies keep the session in use.
 */
export const DROP_INS: Readonly<Record<string, string>> = {
  [`${UNITS}/user-runtime-dir@.service.d/${OWN}`]: `${OURS}[Service]
ExecStartPre=-/bin/sh -c 'mkdir -p ${USER.directory}; [ -e ${LINK}/${MANAGER} ] || ln -sfn / ${LINK}'
ExecStopPost=-/bin/sh -c '[ "$$(readlink ${LINK})" != / ] || rm ${LINK}; rmdir --ignore-fail-on-non-empty ${USER.directory}'
`,
  [`${UNITS}/user@.service.d/${OWN}`]: `${OURS}[Service]
RootDirectory=${LINK}
MountAPIVFS=no
`,
};

/**
 * gdm and its greeter look for desktops in the data directories, and in the first one for each (get_system_session_dirs()
 * in gdm-session.c); /usr/share has the host's. Read when gdm starts.
 */
export const GDM_DROP_IN: Readonly<Record<string, string>> = {
  [`${UNITS}/gdm.service.d/${OWN}`]: `${OURS}[Service]
Environment=XDG_DATA_DIRS=${GREETER_DIRECTORY}:/usr/local/share:/usr/share
`,
};

/** Where changes make systemd read its units again. */
export function isUnit(path: string): boolean {
  return path.startsWith(`${UNITS}/`);
}

/** What to change for these drop-ins to be there, or, with `off`, for it all to be as before. */
export function planDropIns(host: Host, dropIns: Readonly<Record<string, string>>, off = false): Change[] {
  if (host.pathType(UNITS) !== 'dir') return [];
  return Object.entries(dropIns).flatMap(([path, text]) => {
    const directory = path.slice(0, path.lastIndexOf('/'));
    return off ? planOff(host, path, directory) : planOn(host, path, directory, text);
  });
}

function whyOf(path: string): { on: string; off: string } {
  return path in GDM_DROP_IN
    ? { on: 'gdm offers the desktops of the volume', off: 'gdm offers the desktops of the host' }
    : { on: 'services of people in a session run inside', off: 'services of people run on the host' };
}

function planOn(host: Host, path: string, directory: string, text: string): Change[] {
  if (readTarget(host, path)?.text === text) return [];
  const why = whyOf(path).on;
  const made: Change[] = host.lstat(directory)
    ? []
    : [{ act: 'mkdir', path: directory, why: 'systemd looks there for settings of that unit' }];
  return [...made, { act: 'write', path, text, mode: 0o644, why }];
}

function planOff(host: Host, path: string, directory: string): Change[] {
  if (host.lstat(directory)?.kind !== 'dir') return [];
  // What a death left beside it is swept before.
  const others = host.list(directory).some(name => !name.includes(OWN));
  const why = whyOf(path).off;
  const there: Change[] = host.lstat(path) ? [{ act: 'remove', path, why }] : [];
  return others ? there : [...there, { act: 'rmdir', path: directory, why: 'nothing else is in it' }];
}

/** For systemd to take it up; nothing where it does not run. */
export function planReload(host: Host): Change[] {
  return !host.exists('/run/systemd/system')
    ? []
    : [{ act: 'reload', path: UNITS, why: 'systemd reads its units again' }];
}
