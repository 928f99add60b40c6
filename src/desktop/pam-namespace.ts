/**
 * The lines by which PAM gives a mount namespace to what enters a session: schroot, and systemd's user managers. The
 * mechanism is pam_namespace(8), which unshares the namespace of the calling process and runs our script in it;
 * `hooks/pam/namespace-wanted` decides for whom. A line that fails is ignored, so it cannot keep anybody out.
 */
import type { Host } from '../linux/host.ts';
import { type Change, readTarget } from './changes.ts';

const HOOKS = '/usr/lib/mayfly/hooks/pam';

/** The scripts that PAM runs. */
export const NAMESPACE_HOOKS = [`${HOOKS}/namespace-wanted`, `${HOOKS}/namespace`] as const;

const HEAD = '# Written by "mayfly enable" and removed by "mayfly disable".\n';

/** At the end of both stacks. The first line skips the second for everybody who does not enter a session. */
const LINES = `# The next two lines were added by "mayfly enable" and are removed by "mayfly disable".
session [success=ignore default=1] pam_exec.so quiet seteuid ${NAMESPACE_HOOKS[0]}
session optional pam_namespace.so`;

/** Every pam_namespace of the machine reads it. The script does nothing for what enters no session. */
const CONF = '/etc/security/namespace.d/mayfly.conf';

/** The directory is an empty one of our package. A tmpfs is mounted on it, in the new namespace only. */
const CONF_TEXT = `${HEAD}/usr/lib/mayfly/root none tmpfs:iscript=${NAMESPACE_HOOKS[1]}\n`;

const SCHROOT = '/etc/pam.d/schroot';

const MANAGER = '/etc/pam.d/systemd-user';

/** systemd's own stack. A file in /etc with its name takes its place, so ours includes it. */
const VENDOR_MANAGER = '/usr/lib/pam.d/systemd-user';

const MANAGER_TEXT = `${HEAD}@include ${VENDOR_MANAGER}\n${LINES}\n`;

/** The files that we write. */
export const NAMESPACE_FILES = [CONF, SCHROOT, MANAGER] as const;

const ON = 'what enters a session gets a mount namespace, in which sandboxes work';

const OFF = 'sessions are entered by chroot only';

/** Adds our lines at the end of a stack. Without a newline at its end, it gets none, so that it can be restored. Pure. */
export function withNamespace(text: string): string {
  const newline = text === '' || text.endsWith('\n');
  return newline ? `${text}${LINES}\n` : `${text}\n${LINES}`;
}

/** Removes what {@link withNamespace} has added; undefined if it is not there as a whole. Pure. */
export function withoutNamespace(text: string): string | undefined {
  if (text.includes(`${LINES}\n`)) return text.replace(`${LINES}\n`, '');
  return text.endsWith(`\n${LINES}`) ? text.slice(0, -`\n${LINES}`.length) : undefined;
}

function planStack(host: Host, path: string): Change[] {
  const found = readTarget(host, path);
  if (!found || found.text.includes(LINES)) return [];
  return [{ act: 'write', path, text: withNamespace(found.text), mode: found.mode, why: ON }];
}

/** The changes that give sessions their namespace; none on a machine whose PAM has no pam_namespace or no schroot. */
export function planNamespacesOn(host: Host): Change[] {
  if (!host.exists('/etc/security/namespace.d') || !host.exists('/etc/security/namespace.conf')) return [];
  const write = (path: string, text: string): Change => ({ act: 'write', path, text, mode: 0o644, why: ON });
  const conf = readTarget(host, CONF)?.text === CONF_TEXT ? [] : [write(CONF, CONF_TEXT)];
  const isVendors = !host.exists(MANAGER) && host.exists(VENDOR_MANAGER);
  const manager = isVendors ? [write(MANAGER, MANAGER_TEXT)] : planStack(host, MANAGER);
  // The stacks come last: with their lines but without the file they need, users would get an empty namespace.
  return [...conf, ...planStack(host, SCHROOT), ...manager];
}

/** The changes that take all of it back. */
export function planNamespacesOff(host: Host): Change[] {
  const remove = (path: string): Change => ({ act: 'remove', path, why: OFF });
  const stacks = [SCHROOT, MANAGER].flatMap((path): Change[] => {
    const found = readTarget(host, path);
    if (found?.text === MANAGER_TEXT) return [remove(path)];
    const text = found && withoutNamespace(found.text);
    return text === undefined ? [] : [{ act: 'write', path, text, mode: found?.mode ?? 0o644, why: OFF }];
  });
  return [...stacks, ...(readTarget(host, CONF) ? [remove(CONF)] : [])];
}
