/**
 * Commands that would say "done" in a session, and whose effect would be gone with it: they say so instead. This changes
 * the session's own copy only, before anyone can enter; an upgrade of their package in the session brings them back.
 *
 * - crontab(1), at(1), batch(1): nothing in a session would run the job, and on the host it would run without the session.
 * - passwd(1), chpasswd(8), chsh(1), chfn(1) for the user's own account, which is the host's. The session has a line of its
 *   own for an account of a directory, too, and would change that. Its password is left to PAM if the image has a module
 *   that asks the directory.
 * - systemctl(1) as root finds itself in a chroot, ignores its request, and succeeds. The service manager is the host's, so
 *   it is asked. What a package does in its installation stays ignored: the host's service may have the same name.
 * - Services that a package starts: forbidden in Debian's way, which says so.
 */
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';

const WITHOUT_JOBS = ['crontab', 'at', 'batch'];

/** Replaces a program. */
const NO_JOBS = `#!/bin/sh
echo "\${0##*/}: a session runs no jobs, because it ends when you log out; ask your administrator to run this on the host" >&2
exit 1
`;

const SYSTEMCTL = `#!/bin/sh
# The system's service manager is the host's. For root, systemctl would take the session for a chroot, and its socket is not
# here. All others reach theirs: units of a user's manager that call systemctl while it starts would wait for its bus, which
# starts after them, and the manager would time out.
case " $* " in
*" --user "*) ;;
*) [ ! -O /proc/1 ] || [ -n "\${DPKG_MAINTSCRIPT_PACKAGE-}" ] ||
	export SYSTEMD_IGNORE_CHROOT=1 SYSTEMD_IN_CHROOT=0 SYSTEMCTL_FORCE_BUS=1 ;;
esac
exec /usr/bin/systemctl "$@"
`;

const NO_SERVICES = `#!/bin/sh
echo "services of packages do not start in a session" >&2
exit 101
`;

/** What each service of PAM is asked for first by its program, and what the user is told. */
const ACCOUNT = {
  passwd: ['password', 'password'],
  chpasswd: ['password', 'password'],
  chsh: ['auth', 'login shell'],
  chfn: ['auth', 'name'],
} as const;

/** Modules that change no password but one in the files of the system. */
const OF_FILES =
  /^pam_(unix|deny|permit|cracklib|pwquality|passwdqc|pwhistory|gnome_keyring|kwallet5?|ecryptfs|cap|echo|succeed_if|warn|umask)$/;

/** Whether one of the stacks has a module that may change a password elsewhere. Pure. */
export function asksDirectory(...stacks: readonly string[]): boolean {
  const lines = stacks.flatMap(text => text.split('\n')).filter(line => /^\s*-?password\s/.test(line));
  return lines.some(line => (line.match(/pam_\w+(?=\.so)/g) ?? []).some(name => !OF_FILES.test(name)));
}

/** The stack of a service of PAM, which refuses the user with this number in words, and nobody else. Pure. */
export function refusingStack(type: 'password' | 'auth', what: string, uid: number, stack: string): string {
  const words = `Your ${what} is kept on the host or in a directory, not in this session. Ask your administrator to change it.`;
  return [
    `${type} [success=ignore default=2] pam_succeed_if.so quiet uid = ${uid}`,
    `${type} optional pam_echo.so ${words}`,
    `${type} requisite pam_deny.so`,
    stack,
  ].join('\n');
}

export interface RefusedUser {
  readonly uid: number;
  /** The host has a password of this user. */
  readonly local: boolean;
  /** May become root in the session. */
  readonly admin: boolean;
}

/** Writes what refuses these commands to the tree of a session, where it has them. */
export function writeRefusals(host: Host, root: string, user: RefusedUser): void {
  const kindOf = (path: string): string | undefined => host.lstat(root + path)?.kind;
  const isOwn = (path: string): boolean => isPlainDirectory(host, root, path);
  const program = (path: string, text: string): void => host.write(root + path, text, { mode: 0o755 });
  if (isOwn('/usr/bin'))
    for (const name of WITHOUT_JOBS) if (kindOf(`/usr/bin/${name}`)) program(`/usr/bin/${name}`, NO_JOBS);
  if (user.uid !== 0 && isOwn('/etc/pam.d')) {
    const stack = (name: string): string =>
      kindOf(`/etc/pam.d/${name}`) === 'file' ? (host.read(`${root}/etc/pam.d/${name}`) ?? '') : '';
    const isLeft = !user.local && asksDirectory(stack('passwd'), stack('common-password'));
    for (const [service, [type, what]] of Object.entries(ACCOUNT)) {
      const isForRoot = service === 'chpasswd';
      if ((type === 'password' && isLeft) || (isForRoot && !user.admin)) continue;
      const path = `/etc/pam.d/${service}`;
      if (kindOf(path) !== 'file') continue;
      host.write(root + path, () => refusingStack(type, what, user.uid, stack(service)), { mode: 0o644 });
    }
  }
  if (!user.admin) return;
  if (isOwn('/usr/sbin') && !kindOf('/usr/sbin/policy-rc.d')) program('/usr/sbin/policy-rc.d', NO_SERVICES);
  if (kindOf('/usr/bin/systemctl') && isOwn('/usr/local/bin') && !kindOf('/usr/local/bin/systemctl'))
    program('/usr/local/bin/systemctl', SYSTEMCTL);
}
