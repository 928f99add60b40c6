/**
 * What only the image has, and what works only on the host: the kernel, udev, the system bus, polkit, the system's service
 * manager and cron are the host's, and read the host's files.
 */
import type { Host } from '../../linux/host.ts';
import { readableGeneration, stableNumber } from '../../state/generations.ts';
import { type CheckResult, check, found, notApplicable, type Subject, warning } from './check.ts';

/** Each kind of file, and where its programs look for it. A file may be in another of these directories on the host. */
const KINDS: readonly (readonly [string, readonly string[]])[] = [
  ['udev rules', ['/etc/udev/rules.d', '/usr/lib/udev/rules.d', '/lib/udev/rules.d']],
  [
    'D-Bus policies and services',
    ['/etc/dbus-1/system.d', '/usr/share/dbus-1/system.d', '/usr/share/dbus-1/system-services'],
  ],
  [
    'polkit rules and actions',
    ['/etc/polkit-1/rules.d', '/usr/share/polkit-1/rules.d', '/usr/share/polkit-1/actions'],
  ],
  ['kernel settings', ['/etc/sysctl.d', '/usr/lib/sysctl.d']],
  [
    'settings of kernel modules',
    [
      ...['/etc/modprobe.d', '/usr/lib/modprobe.d', '/lib/modprobe.d'],
      ...['/etc/modules-load.d', '/usr/lib/modules-load.d', '/etc/binfmt.d', '/usr/lib/binfmt.d'],
    ],
  ],
  ['system units', ['/etc/systemd/system', '/usr/lib/systemd/system', '/lib/systemd/system']],
  [
    'cron jobs',
    ['/etc/cron.d', '/etc/cron.hourly', '/etc/cron.daily', '/etc/cron.weekly', '/etc/cron.monthly'],
  ],
];

const UNITS = 'system units';

/** A file of the image without effect. */
export interface HostOnly {
  readonly kind: string;
  readonly path: string;
  /** The package of the image that it is from; undefined if somebody has put it there. */
  readonly owner: string | undefined;
}

/** Names of an image's units that a boot would start: a unit that nothing starts has no effect anywhere. */
function startedUnits(host: Host, tree: string): string[] {
  const directory = `${tree}/etc/systemd/system`;
  const links = host.list(directory).filter(name => /\.(wants|requires)$/.test(name));
  return links.flatMap(name => host.list(`${directory}/${name}`));
}

/** The files of the tree that the host lacks; of those below /etc, also those that differ. Without their owners. */
export function missingOnHost(host: Host, tree: string): Omit<HostOnly, 'owner'>[] {
  const started = new Set(startedUnits(host, tree));
  return KINDS.flatMap(([kind, directories]) => {
    const known = new Set(directories.flatMap(path => host.list(path)));
    const seen = new Set<string>(); // "/lib" is a symlink to "/usr/lib"
    return directories.flatMap(directory =>
      host.list(tree + directory).flatMap(name => {
        const path = `${directory}/${name}`;
        const isLocal = directory.startsWith('/etc/');
        if (name.startsWith('.') || host.lstat(tree + path)?.kind !== 'file' || seen.has(name)) return [];
        seen.add(name);
        if (kind === UNITS && !isLocal && !started.has(name)) return [];
        const isSame = !isLocal || kind === UNITS || host.read(path) === host.read(tree + path);
        return known.has(name) && (!host.exists(path) || isSame) ? [] : [{ kind, path }];
      }),
    );
  });
}

export function judgeHostOnly(all: readonly HostOnly[] | undefined): CheckResult {
  if (!all) return notApplicable('the generation is on a device, which is not mounted');
  const own = all.filter(f => f.owner === undefined);
  const findings = own.map(({ kind, path }) =>
    warning(
      `"${path}" of the generation has no effect in sessions: ${kind} are the host's`,
      `mayfly enter master -- cat ${path} # and put it on the host, if it is wanted`,
    ),
  );
  const packages = [...new Set(all.flatMap(f => f.owner ?? []))].sort();
  const kinds = [...new Set(all.filter(f => f.owner !== undefined).map(f => f.kind))];
  const words =
    packages.length === 0
      ? 'the host has all that works only there'
      : `${kinds.join(', ')} of these packages work only if the host has them, too: ${packages.join(' ')}`;
  return found(findings, words);
}

/** The packages of the tree that own paths, by path. */
async function ownersOf(host: Host, tree: string, paths: readonly string[]): Promise<Map<string, string>> {
  if (paths.length === 0) return new Map();
  // A list may name a file below "/lib" although it is in "/usr/lib", or the other way round.
  const wanted = paths.flatMap(path => ['-e', path, '-e', path.replace(/^\/usr\/lib\//, '/lib/')]);
  const args = ['-rFx', '--include=*.list', ...wanted, '--', `${tree}/var/lib/dpkg/info`];
  const { stdout } = await host.run({ file: 'grep', args, effect: 'read', okCodes: [0, 1, 2] });
  const owners = new Map<string, string>();
  for (const line of stdout.split('\n')) {
    const [, name, path] = /\/([^/:]+)(?::[a-z0-9-]+)?\.list:(\/.*)$/.exec(line) ?? [];
    if (name && path) owners.set(path.replace(/^\/lib\//, '/usr/lib/'), name);
  }
  return owners;
}

/** Undefined if the tree of the stable generation is not to be seen without mounting it. */
async function gatherHostOnly(on: Subject): Promise<HostOnly[] | undefined> {
  const { host, paths } = on;
  const stable = stableNumber(host, paths);
  const volume = stable === undefined ? undefined : readableGeneration(host, paths, stable)?.volume;
  const tree = volume && on.backend(volume.backend).path(volume);
  if (tree === undefined || host.pathType(tree) !== 'dir') return undefined;
  const missing = missingOnHost(host, tree);
  const owners = await ownersOf(
    host,
    tree,
    missing.map(f => f.path),
  );
  return missing.map(f => ({ ...f, owner: owners.get(f.path.replace(/^\/lib\//, '/usr/lib/')) }));
}

export const hostOnlyCheck = check({
  group: 'generations',
  title: 'works only on the host',
  gather: gatherHostOnly,
  evaluate: judgeHostOnly,
});
