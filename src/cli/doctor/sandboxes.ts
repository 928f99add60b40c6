/** What in the kernel's settings keeps sandboxes from working, in sessions and on the host. */
import { hasModule } from '../../desktop/pam-namespace.ts';
import { bootId } from '../../linux/process-id.ts';
import { hasNamespaces } from '../../session/mount-namespace.ts';
import { chrootedPaths, isChroot } from '../../session/root-kind.ts';
import { readSessions } from '../../state/sessions.ts';
import { type CheckResult, check, found, type Subject, warning } from './check.ts';
import { adaptersIn } from './setup.ts';

/** Settings by which a kernel or distribution forbids user namespaces, the value that does, and the command. */
const SETTINGS = [
  ['user.max_user_namespaces', '0', 'sysctl -w user.max_user_namespaces=30000'],
  ['user.max_mnt_namespaces', '0', 'sysctl -w user.max_mnt_namespaces=30000'],
  ['kernel.unprivileged_userns_clone', '0', 'sysctl -w kernel.unprivileged_userns_clone=1'],
  [
    'kernel.apparmor_restrict_unprivileged_userns',
    '1',
    'add profiles with "userns," for the programs to /etc/apparmor.d (apparmor.d(5)), or: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
  ],
] as const;

/** What keeps sandboxes from working. */
interface Sandboxes {
  /** A display manager uses Mayfly. */
  readonly enabled: boolean;
  /** PAM's stack gives sessions a mount namespace. */
  readonly namespaces: boolean;
  /** Its module is installed. */
  readonly module: boolean;
  /** The sessions that were entered by chroot although PAM should give them a namespace. */
  readonly refused: readonly string[];
  /** The values of the settings that exist, by name. */
  readonly values: ReadonlyMap<string, string>;
}

export function judgeSandboxes(s: Sandboxes): CheckResult {
  const findings = SETTINGS.filter(([name, value]) => s.values.get(name) === value).map(
    ([name, value, fix]) =>
      warning(`${name} is ${value}: sandboxes of browsers, Flatpak and rootless containers fail`, fix),
  );
  if (s.enabled && !s.namespaces)
    findings.push(
      warning(
        'sessions are entered by chroot only: sandboxes of browsers, Flatpak and rootless containers fail in them',
        'apt install --reinstall libpam-modules schroot, then repeat "mayfly enable"',
      ),
    );
  if (s.namespaces && !s.module)
    findings.push(
      warning(
        'the PAM module "pam_mayfly.so" is missing: sessions are entered by chroot only, and sandboxes fail in them',
        'apt install --reinstall mayfly',
      ),
    );
  else if (s.refused.length > 0)
    findings.push(
      warning(
        `${s.refused.join(', ')}: entered by chroot only, and sandboxes fail there: the kernel or a policy refused the mount namespace`,
        'journalctl -b -g "is entered by chroot only"',
      ),
    );
  return found(findings, s.namespaces ? 'allowed; sessions have mount namespaces' : 'allowed');
}

function gatherSandboxes({ host, paths }: Subject): Sandboxes {
  const values = SETTINGS.flatMap(([name]) => {
    const value = host.read(`/proc/sys/${name.replace('.', '/')}`)?.trim();
    return value === undefined ? [] : [[name, value] as const];
  });
  const promised = readSessions(host, paths).filter(s => s.namespace && s.boot === bootId(host));
  const chrooted = promised.length > 0 ? chrootedPaths(host) : new Set<string>();
  return {
    enabled: adaptersIn(host).length > 0,
    namespaces: hasNamespaces(host, paths),
    module: hasModule(host),
    refused: promised.filter(s => isChroot(s, chrooted)).map(s => s.id),
    values: new Map(values),
  };
}

export const sandboxChecks = [
  check({ group: 'display managers', title: 'sandboxes', gather: gatherSandboxes, evaluate: judgeSandboxes }),
];
