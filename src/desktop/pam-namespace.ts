/**
 * The line by which PAM gives a mount namespace to what enters a session: `hooks/pam/pam_mayfly.c` in the stacks of
 * schroot and of systemd's user managers. If the module is missing or fails, PAM goes on: the line keeps nobody out.
 */
import type { Host } from '../linux/host.ts';
import { namesModule, PAM_MODULE, SCHROOT_STACK } from '../session/mount-namespace.ts';
import { type Change, readTarget } from './changes.ts';

const MARK = 'was added by "mayfly enable" and is removed by "mayfly disable".';

const LINES = `# The next line ${MARK}\n-session optional ${PAM_MODULE}`;

const MANAGER = '/etc/pam.d/systemd-user';

/** systemd's own stack. A file in /etc with its name takes its place, so ours includes it. */
const VENDOR_MANAGER = '/usr/lib/pam.d/systemd-user';

const MANAGER_TEXT = `# This file ${MARK}\n@include ${VENDOR_MANAGER}\n${LINES}\n`;

/** The files that we write. */
export const NAMESPACE_FILES = [SCHROOT_STACK, MANAGER] as const;

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

/** Whether our module is where PAM looks for it: /usr/lib/ARCHITECTURE/security. */
export function hasModule(host: Host): boolean {
  return host.list('/usr/lib').some(name => host.exists(`/usr/lib/${name}/security/${PAM_MODULE}`));
}

function planStack(host: Host, path: string): Change[] {
  const found = readTarget(host, path);
  if (!found || namesModule(found.text)) return [];
  return [{ act: 'write', path, text: withNamespace(found.text), mode: found.mode, why: ON }];
}

/** The changes that give sessions their namespace; none if the module is not installed. */
export function planNamespacesOn(host: Host): Change[] {
  if (!hasModule(host)) return [];
  const isVendors = !host.exists(MANAGER) && host.exists(VENDOR_MANAGER);
  const manager: Change[] = isVendors
    ? [{ act: 'write', path: MANAGER, text: MANAGER_TEXT, mode: 0o644, why: ON }]
    : planStack(host, MANAGER);
  return [...planStack(host, SCHROOT_STACK), ...manager];
}

/** The changes that take all of it back. */
export function planNamespacesOff(host: Host): Change[] {
  return NAMESPACE_FILES.flatMap((path): Change[] => {
    const found = readTarget(host, path);
    if (found?.text === MANAGER_TEXT) return [{ act: 'remove', path, why: OFF }];
    const text = found && withoutNamespace(found.text);
    return text === undefined ? [] : [{ act: 'write', path, text, mode: found?.mode ?? 0o644, why: OFF }];
  });
}
