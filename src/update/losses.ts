/**
 * What a new generation lacks of the stable one: desktops, programs that people start, shells, packages. apt solves a
 * conflict by removing a desktop, and what is left still passes every check. So both trees are compared, also where the
 * administrator's own command updates them.
 */
import type { Config } from '../config/config.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { readEntries } from '../linux/desktop-entry.ts';
import type { Host } from '../linux/host.ts';
import { readableGeneration, stableNumber } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import { wrapEntry } from './greeter.ts';
import { loadedVersions, mismatches, type PairVersions, treeVersions } from './kernel-pairs.ts';
import {
  describeChanges,
  type PackageChange,
  type PackageFacts,
  packageChanges,
  packagesOf,
} from './packages.ts';
import { withMountedVolume } from './volume-tree.ts';

/** What people would miss in a tree, beside packages. One that has another name in the new tree counts as lost. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  'display server': ['Xorg', 'Xwayland'],
  'default program': ['x-session-manager', 'x-window-manager', 'x-terminal-emulator', 'x-www-browser'],
  browser: [
    ...['firefox', 'firefox-esr', 'chromium', 'chromium-browser', 'google-chrome', 'brave-browser'],
    ...['microsoft-edge', 'vivaldi', 'opera', 'epiphany-browser', 'falkon', 'konqueror', 'librewolf'],
  ],
  'sound server': ['pipewire', 'pulseaudio'],
  'input method': ['ibus-daemon', 'fcitx5', 'fcitx'],
};

/** Virtual packages of Debian's Policy whose providers people start or see. */
const ROLES = [
  ...['x-session-manager', 'x-window-manager', 'x-terminal-emulator', 'x-display-manager', 'xserver'],
  ...[
    'www-browser',
    'gnome-www-browser',
    'default-x-display-manager',
    'polkit-1-auth-agent',
    'notification-daemon',
  ],
];

/** Sections of packages that a transition renames, and that nobody misses. */
const UNCOUNTED = /^(?:[^/]+\/)?(?:libs|oldlibs|libdevel|debug|kernel)$/;

/** Kernels and their parts have their version in their name. Sessions do not boot them. */
const KERNEL = /^linux-(?:image|headers|modules|modules-extra|tools|kbuild|compiler|objects)-/;

export interface Inventory {
  /** The desktops that a greeter offers, as `xsessions/NAME`. */
  readonly desktops: ReadonlySet<string>;
  /** Shells and {@link PROGRAMS}, each with what it is: "shell /bin/zsh". */
  readonly programs: ReadonlySet<string>;
  readonly packages: ReadonlyMap<string, PackageFacts>;
  /** What must match the running kernel. */
  readonly pairs: PairVersions;
}

export interface Losses {
  /** What does not match the running kernel, and need not keep it from becoming stable. */
  readonly warnings: readonly string[];
  /** Why the generation must not become stable. */
  readonly failures: readonly string[];
  /** What the administrator should know: "browser firefox-esr", "desktop xsessions/xfce.desktop". */
  readonly lost: readonly string[];
  /** All packages that are gone, whatever they are. */
  readonly packages: readonly string[];
  /** All packages that are new, gone, or have another version. */
  readonly changes: readonly PackageChange[];
}

const SHELL = 'shell ';

/**
 * What is in a tree. `before`: what the tree to compare with has. A shell of it counts if the file is still there, also if
 * /etc/shells does not list it any more: that of Debian 13 has /usr/bin/dash only, of which /bin/dash is another path.
 */
export function readInventory(host: Host, root: string, before?: Inventory): Inventory {
  const directories = ['/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/usr/games', '/usr/lib/xorg'];
  const has = (program: string): boolean => directories.some(d => host.lstat(`${root}${d}/${program}`));
  const isFile = (path: string): boolean => host.lstat(root + path)?.kind === 'file';
  const shells = isFile('/etc/shells') ? (host.read(`${root}/etc/shells`) ?? '').split('\n') : [];
  const there = (shell: string): boolean => host.lstat(root + shell.slice(SHELL.length)) !== undefined;
  const packages = packagesOf(host, root);
  return {
    desktops: new Set(
      readEntries(host, root).flatMap(e => (wrapEntry(e, 'inside') ? [`${e.kind}/${e.name}`] : [])),
    ),
    programs: new Set([
      ...shells.filter(path => path.startsWith('/') && host.lstat(root + path)).map(path => SHELL + path),
      ...[...(before?.programs ?? [])].filter(name => name.startsWith(SHELL) && there(name)),
      ...Object.entries(PROGRAMS).flatMap(([what, names]) =>
        names.filter(has).map(name => `${what} ${name}`),
      ),
    ]),
    packages,
    pairs: treeVersions(host, root, name => packages.get(name)?.version),
  };
}

const listed = (names: readonly string[], most = 10): string =>
  names.length <= most
    ? names.join(', ')
    : `${names.slice(0, most).join(', ')} and ${names.length - most} more`;

/** What `after` lacks of `before`. Pure. */
export function planLosses(
  before: Inventory,
  after: Inventory,
  { protect, packages, max_removals }: Pick<Config['update'], 'protect' | 'packages' | 'max_removals'>,
  loaded: PairVersions = new Map(),
): Losses {
  const without = (from: Iterable<string>, there: { has(name: string): boolean }): string[] =>
    [...from].filter(name => !there.has(name)).sort();
  const desktops = without(before.desktops, after.desktops);
  const gone = without(before.packages.keys(), after.packages);
  const heirs = [...after.packages].filter(([name]) => !before.packages.has(name)).map(([, facts]) => facts);
  // A package that got another name is taken over by the new one.
  const removed = gone.filter(
    name => !heirs.some(h => h.provides.includes(name) || h.replaces.includes(name)),
  );
  const counted = removed.filter(
    name => !KERNEL.test(name) && !UNCOUNTED.test(before.packages.get(name)?.section ?? ''),
  );
  const isProtected = (name: string): boolean => protect.includes(name);
  const isNotable = (name: string): boolean => {
    const { section = '', provides = [] } = before.packages.get(name) ?? {};
    return (
      isProtected(name) ||
      packages.includes(name) ||
      /(?:^|\/)(?:metapackages|shells)$/.test(section) ||
      /^task-.*desktop$/.test(name) ||
      provides.some(role => ROLES.includes(role))
    );
  };
  const unlike = mismatches(loaded, after.pairs);
  const had = mismatches(loaded, before.pairs).map(m => m.name);
  // What the stable one lacks as well is not lost.
  const isWorse = (name: string): boolean => before.pairs.has(name) && !had.includes(name);
  const broken = unlike.filter(m => m.isStrict && isWorse(m.name));
  const failures = [
    ...broken.map(m => `${m.words}; update the host and reboot it, or wait for that`),
    ...(desktops.length > 0 && after.desktops.size === 0
      ? [`no desktop is left of ${listed(desktops)}`]
      : []),
    ...(removed.some(isProtected)
      ? [`protected packages are gone: ${removed.filter(isProtected).join(', ')}`]
      : []),
    ...(counted.length > max_removals
      ? [
          `${counted.length} ${counted.length === 1 ? 'package is' : 'packages are'} gone, and "update.max_removals" is ${max_removals}: ${listed(counted)}`,
        ]
      : []),
  ];
  const lost = [
    ...desktops.map(name => `desktop ${name}`),
    ...without(before.programs, after.programs),
    ...gone
      .filter(name => isProtected(name) || (removed.includes(name) && isNotable(name)))
      .map(name => `package ${name}`),
  ];
  const warnings = unlike.filter(m => !broken.includes(m)).map(m => m.words);
  const changes = packageChanges(before.packages, after.packages);
  return { failures, lost, warnings, packages: gone, changes };
}

/** What a comparison with the stable generation comes to. */
export interface Comparison {
  readonly lost: readonly string[];
  readonly warnings: readonly string[];
  /** In which packages they differ, in words; absent if in none, or if there was nothing to compare with. */
  readonly changes?: { readonly since: number; readonly packages: string };
}

/** Whether losses that would refuse a generation are wanted, and the command that says so. */
export interface LossPolicy {
  readonly allow: boolean;
  readonly command: string;
}

/**
 * Compares the tree of a candidate's trial session with the stable generation. Throws `update` if it lacks what it must
 * not lack, unless `policy` allows that; returns what else it lacks and was not allowed, warnings, and in which packages
 * both differ. If the stable one cannot be read, that is a warning: it must not keep a new one from replacing it.
 */
export async function refuseLosses(
  on: Machine,
  s: Pick<Session, 'root' | 'generation'>,
  say: (line: string, detail?: boolean) => void,
  policy?: LossPolicy,
): Promise<Comparison> {
  const stable = stableNumber(on.host, on.paths);
  if (stable === undefined || stable === s.generation) return { lost: [], warnings: [] };
  const found = await compareWith(on, s.root, stable);
  if (typeof found === 'string')
    return { lost: [], warnings: [`it was not compared with generation ${stable}: ${found}`] };
  const { failures, lost, warnings, packages, changes } = found;
  if (packages.length > 0) say(`removed packages: ${packages.join(', ')}`, true);
  if (failures.length > 0 && policy?.allow !== true) {
    const facts = policy ? { hint: `if this is intended: ${policy.command}` } : {};
    const message = `compared with generation ${stable}: ${failures.join('; ')}`;
    throw new MayflyError('update', message, { generation: s.generation, ...facts });
  }
  const warning = `compared with generation ${stable}, it lacks: ${lost.join(', ')}`;
  return {
    lost: policy?.allow ? [] : lost,
    warnings: [...failures, ...warnings, ...(lost.length > 0 ? [warning] : [])],
    ...(changes.length > 0 ? { changes: { since: stable, packages: describeChanges(changes) } } : {}),
  };
}

/** The losses; a text says why the stable generation cannot be read. */
async function compareWith(on: Machine, root: string, stable: number): Promise<Losses | string> {
  const { host, paths, config } = on;
  try {
    const g = readableGeneration(host, paths, stable);
    if (!g) return 'its record cannot be read';
    const before = await withMountedVolume(on, g.volume, async tree =>
      host.lstat(tree) === undefined ? undefined : readInventory(host, tree),
    );
    return before
      ? planLosses(before, readInventory(host, root, before), config.update, loadedVersions(host))
      : 'its volume is missing';
  } catch (error) {
    return reasonOf(error);
  }
}
