/**
 * The lines by which PAM gives a mount namespace to what enters a session, and the limits of the session's limits.conf(5):
 * `hooks/pam/pam_mayfly.c` in the stacks of schroot and of systemd's user managers. Once the module has succeeded, the
 * files of the session are those that the next one reads. If it is missing, fails, or finds no session, the next one is
 * skipped. Neither keeps anybody out.
 */
import type { Host } from '../linux/host.ts';
import { namesModule, PAM_MODULE, SCHROOT_STACK } from '../session/mount-namespace.ts';
import { type Change, readTarget } from './changes.ts';

const WHO = 'added by "mayfly enable" and';

const LINES = `# The next two lines were ${WHO} are removed by "mayfly disable".
-session [success=ignore default=1] ${PAM_MODULE}
session optional pam_limits.so`;

/** Of earlier versions. */
const FORMER_LINES = `# The next line was ${WHO} is removed by "mayfly disable".\n-session optional ${PAM_MODULE}`;

const MANAGER = '/etc/pam.d/systemd-user';

/** systemd's own stack. A file in /etc with its name takes its place, so ours includes it. */
const VENDOR_MANAGER = '/usr/lib/pam.d/systemd-user';

const managerText = (lines: string): string =>
  `# This file was ${WHO} is removed by "mayfly disable".\n@include ${VENDOR_MANAGER}\n${lines}\n`;

const MANAGER_TEXTS: readonly (string | undefined)[] = [LINES, FORMER_LINES].map(managerText);

/** The files that we write. */
export const NAMESPACE_FILES = [SCHROOT_STACK, MANAGER] as const;

const ON = 'what enters a session gets a mount namespace, in which sandboxes work';

const OFF = 'sessions are entered by chroot only';

/** Adds our lines at the end of a stack. Without a newline at its end, it gets none, so that it can be restored. Pure. */
export function withNamespace(text: string): string {
  const newline = text === '' || text.endsWith('\n');
  return newline ? `${text}${LINES}\n` : `${text}\n${LINES}`;
}

/** Removes what {@link withNamespace} has added, of this or an earlier version; undefined if it is not there as a whole. Pure. */
export function withoutNamespace(text: string): string | undefined {
  for (const lines of [LINES, FORMER_LINES]) {
    if (text.includes(`${lines}\n`)) return text.replace(`${lines}\n`, '');
    if (text.endsWith(`\n${lines}`)) return text.slice(0, -`\n${lines}`.length);
  }
  return undefined;
}

/** Whether our module is where PAM looks for it: /usr/lib/ARCHITECTURE/security. */
export function hasModule(host: Host): boolean {
  return host.list('/usr/lib').some(name => host.exists(`/usr/lib/${name}/security/${PAM_MODULE}`));
}

function planStack(host: Host, path: string): Change[] {
  const found = readTarget(host, path);
  if (!found) return [];
  const bare = withoutNamespace(found.text) ?? found.text;
  if (namesModule(bare)) return []; // added by hand
  const text = withNamespace(bare);
  return text === found.text ? [] : [{ act: 'write', path, text, mode: found.mode, why: ON }];
}

/** The changes that give sessions their namespace; none if the module is not installed. */
export function planNamespacesOn(host: Host): Change[] {
  if (!hasModule(host)) return [];
  const there = readTarget(host, MANAGER)?.text;
  const isOurs = there === undefined ? host.exists(VENDOR_MANAGER) : MANAGER_TEXTS.includes(there);
  const text = managerText(LINES);
  const ours: Change[] = there === text ? [] : [{ act: 'write', path: MANAGER, text, mode: 0o644, why: ON }];
  const manager = isOurs ? ours : planStack(host, MANAGER);
  return [...planStack(host, SCHROOT_STACK), ...manager];
}

/** The changes that take all of it back. */
export function planNamespacesOff(host: Host): Change[] {
  return NAMESPACE_FILES.flatMap((path): Change[] => {
    const found = readTarget(host, path);
    if (MANAGER_TEXTS.includes(found?.text ?? '')) return [{ act: 'remove', path, why: OFF }];
    const text = found && withoutNamespace(found.text);
    return text === undefined ? [] : [{ act: 'write', path, text, mode: found?.mode ?? 0o644, why: OFF }];
  });
}
