/** The exit code and the hint (the command to run) of every error code. A code without an entry does not compile. */
import type { ErrorCode, ErrorFacts } from './errors.ts';

export interface Advice {
  readonly exit: number;
  readonly hint?: (facts: ErrorFacts) => string | undefined;
}

/** Exit codes. They are public: `--help` and mayfly(8) list them. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  config: 3,
  refused: 4,
  locked: 5,
  stuck: 6,
  warned: 7,
} as const;

/** Hints that name our own commands, for the folders below the command line. */
export const REMEDY = {
  recover: 'mayfly recover',
  examine: 'mayfly doctor',
  status: 'mayfly status',
  sessions: 'mayfly sessions',
  rollback: 'mayfly rollback',
  destroy: 'mayfly destroy --yes',
  disable: 'mayfly disable lightdm (or gdm, or pam)',
  endSessions: 'end sessions ("mayfly sessions")',
} as const;

/** The exit code and hint of an error code. The table is built only after an error. */
export function adviceOn(code: ErrorCode): Advice {
  const advice: Record<ErrorCode, Advice> = {
    usage: { exit: EXIT.usage, hint: f => String(f.hint ?? 'mayfly --help') },
    config: { exit: EXIT.config, hint: f => String(f.hint ?? '') || undefined },
    'not-root': { exit: EXIT.usage, hint: () => 'run the command as root' },
    'no-stable': { exit: EXIT.refused, hint: f => String(f.hint ?? 'mayfly init') },
    'no-pool': { exit: EXIT.refused, hint: () => 'mayfly init' },
    'no-generation': { exit: EXIT.refused, hint: () => 'mayfly generations' },
    'bad-user': { exit: EXIT.refused, hint: () => 'mayfly doctor bad-user' },
    'unknown-user': { exit: EXIT.refused, hint: f => `getent passwd ${f.user ?? ''}` },
    'unknown-group': { exit: EXIT.refused, hint: f => String(f.hint ?? '') || undefined },
    'unknown-session': { exit: EXIT.usage, hint: () => REMEDY.sessions },
    refused: { exit: EXIT.refused, hint: f => String(f.hint ?? '') || undefined },
    full: {
      exit: EXIT.refused,
      hint: f => String(f.hint ?? `${REMEDY.endSessions} or free space in the pool`),
    },
    exists: { exit: EXIT.refused, hint: f => String(f.hint ?? '') || undefined },
    locked: { exit: EXIT.locked, hint: () => 'try again when it has finished' },
    saving: { exit: EXIT.locked, hint: () => 'try again in a minute' },
    timeout: { exit: EXIT.failed, hint: f => String(f.hint ?? REMEDY.recover) },
    unsafe: { exit: EXIT.failed, hint: f => String(f.hint ?? '') || undefined },
    stuck: { exit: EXIT.stuck, hint: () => REMEDY.recover },
    'missing-tool': {
      exit: EXIT.failed,
      hint: f => (f.tool === undefined ? undefined : installHint(String(f.tool))),
    },
    command: { exit: EXIT.failed },
    corrupt: { exit: EXIT.failed, hint: f => String(f.hint ?? REMEDY.recover) },
    held: { exit: EXIT.refused },
    update: { exit: EXIT.failed, hint: f => String(f.hint ?? REMEDY.status) },
    internal: { exit: EXIT.failed },
  };
  return advice[code];
}

/** The command that installs a missing program. */
export function installHint(tool: string): string {
  return `apt install ${packageOf(tool)}`;
}

/** The Debian package that contains a program that Mayfly runs. */
function packageOf(tool: string): string {
  const packages: Record<string, string> = {
    btrfs: 'btrfs-progs',
    'mkfs.btrfs': 'btrfs-progs',
    busybox: 'busybox-static',
    chattr: 'e2fsprogs',
    getent: 'libc-bin',
    perl: 'perl-base',
    umount: 'mount',
    losetup: 'mount',
    flock: 'util-linux',
    findmnt: 'util-linux',
    setpriv: 'util-linux',
    unshare: 'util-linux',
    logger: 'bsdutils',
    node: 'nodejs',
    systemctl: 'systemd',
    'systemd-notify': 'systemd',
    'unattended-upgrade': 'unattended-upgrades',
    shutdown: 'systemd-sysv',
    lvs: 'lvm2',
    vgs: 'lvm2',
    lvcreate: 'lvm2',
    thin_check: 'thin-provisioning-tools',
    'mkfs.xfs': 'xfsprogs',
    'mkfs.ext4': 'e2fsprogs',
  };
  return packages[tool] ?? tool;
}
