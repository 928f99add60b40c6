/**
 * systemd's settings for users' service managers: user@UID.service gets the root directory that the symlink of
 * session/user-manager.ts points to. The drop-ins are the same for all users, so that no login has to reload systemd's
 * units (0.1 s).
 */
import { SYSTEM_RUN } from '../config/config.ts';
import type { Host } from '../linux/host.ts';
import { GREETER_DIRECTORY, userFiles } from '../state/paths.ts';
import { type Change, readTarget } from './changes.ts';

/** The user manager. In a volume without it, users get the host's. */
const MANAGER = 'usr/lib/systemd/systemd';

const UNITS = '/etc/systemd/system';

const OWN = '50-mayfly.conf';

const OURS = '# Written by "mayfly enable" and removed by "mayfly disable".\n';

/** Of the instance %i, which is a uid. */
const USER = userFiles({ users: `${SYSTEM_RUN}/users` }, '%i');

const LINK = USER.root;

/**
 * user@ requires user-runtime-dir@, which runs before it. That unit creates the link if it is missing or leads to no
 * manager; user@ cannot do so itself, because RootDirectory applies to its own ExecStartPre, too (systemd 252). The
 * shell is safe: %i is a uid, and only root starts these units. A failure is ignored ("-"): without the link only user@
 * fails, but without the runtime directory the whole login does.
 * MountAPIVFS=no: otherwise the manager gets a mount namespace of its own, whose copies of the mounts keep the session's
 * volume busy.
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
 * gdm and its greeter search the data directories for desktops; of several with the same name, the first one counts
 * (get_system_session_dirs() in gdm-session.c). /usr/share has the host's. gdm reads the variable when it starts.
 */
export const GDM_DROP_IN: Readonly<Record<string, string>> = {
  [`${UNITS}/gdm.service.d/${OWN}`]: `${OURS}[Service]
Environment=XDG_DATA_DIRS=${GREETER_DIRECTORY}:/usr/local/share:/usr/share
`,
};

/** Whether systemd has to reload its units after a change to `path`. */
export function isUnit(path: string): boolean {
  return path.startsWith(`${UNITS}/`);
}

/** The changes that create these drop-ins, or, with `off`, remove them. None without systemd's directory. */
export function planDropIns(host: Host, dropIns: Readonly<Record<string, string>>, off = false): Change[] {
  if (host.pathType(UNITS) !== 'dir') return [];
  return Object.entries(dropIns).flatMap(([path, text]) => {
    const directory = path.slice(0, path.lastIndexOf('/'));
    return off ? planOff(host, path, directory) : planOn(host, path, directory, text);
  });
}

function whyOf(path: string): { on: string; off: string } {
  return path in GDM_DROP_IN
    ? { on: 'gdm offers the desktops of the stable generation', off: 'gdm offers the desktops of the host' }
    : { on: 'services of users run in their sessions', off: 'services of users run on the host' };
}

function planOn(host: Host, path: string, directory: string, text: string): Change[] {
  if (readTarget(host, path)?.text === text) return [];
  const why = whyOf(path).on;
  const made: Change[] = host.lstat(directory)
    ? []
    : [{ act: 'mkdir', path: directory, why: 'systemd reads settings of this unit there' }];
  return [...made, { act: 'write', path, text, mode: 0o644, why }];
}

function planOff(host: Host, path: string, directory: string): Change[] {
  if (host.lstat(directory)?.kind !== 'dir') return [];
  // Leftovers of an interrupted write have our name, and are removed before.
  const others = host.list(directory).some(name => !name.includes(OWN));
  const why = whyOf(path).off;
  const there: Change[] = host.lstat(path) ? [{ act: 'remove', path, why }] : [];
  return others ? there : [...there, { act: 'rmdir', path: directory, why: 'it is empty' }];
}

/** The change that reloads systemd's units; none if systemd is not running. */
export function planReload(host: Host): Change[] {
  return !host.exists('/run/systemd/system')
    ? []
    : [{ act: 'reload', path: UNITS, why: 'systemd applies the changes' }];
}
