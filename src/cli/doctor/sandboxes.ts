/** What in the kernel's settings keeps sandboxes from working, in sessions and on the host. */
import { hasNamespaces } from '../../session/mount-namespace.ts';
import { type CheckResult, check, found, type Subject, warning } from './check.ts';
import { adaptersIn } from './setup.ts';

/** Settings by which a kernel or distribution forbids user namespaces, the value that does, and the command. */
const SETTINGS = [
  ['user.max_user_namespaces', '0', 'sysctl -w user.max_user_namespaces=30000'],
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
  /** Sessions get a mount namespace. */
  readonly namespaces: boolean;
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
  return found(findings, s.namespaces ? 'allowed; sessions have mount namespaces' : 'allowed');
}

function gatherSandboxes({ host, paths }: Subject): Sandboxes {
  const values = SETTINGS.flatMap(([name]) => {
    const value = host.read(`/proc/sys/${name.replace('.', '/')}`)?.trim();
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    enabled: adaptersIn(host).length > 0,
    namespaces: hasNamespaces(host, paths),
    values: new Map(values),
  };
}

export const sandboxChecks = [
  check({ group: 'display managers', title: 'sandboxes', gather: gatherSandboxes, evaluate: judgeSandboxes }),
];
