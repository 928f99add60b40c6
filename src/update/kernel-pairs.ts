/**
 * What a tree must have in the same version as the running kernel has its module: the libraries of NVIDIA refuse to work
 * with another ("API mismatch"), and then no desktop starts that needs them. The kernel is the host's, so a night that
 * updates the tree alone separates them.
 */
import type { Host } from '../linux/host.ts';

/** A module of the running kernel, and what belongs to it in a tree. */
interface KernelPair {
  readonly name: string;
  /** Files that have the version of the module, and what stands around it. */
  readonly module: readonly (readonly [string, RegExp])[];
  /** The files in a tree that have the version in their names, or the packages that have it. */
  readonly libraries?: RegExp;
  readonly packages?: readonly string[];
  /** How many parts of the version must be the same. */
  readonly parts: number;
  /** Nothing works with another version. */
  readonly isStrict: boolean;
  /** What packages call the module on disk. */
  readonly files?: readonly string[];
}

const VERSION_FILE = /^(\d+(?:\.\d+)*)/;

const PAIRS: readonly KernelPair[] = [
  {
    name: 'NVIDIA',
    module: [
      ['/proc/driver/nvidia/version', /^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s/m],
      ['/sys/module/nvidia/version', VERSION_FILE],
    ],
    libraries: /^lib(?:nvidia-glcore|nvidia-ml|cuda|GLX_nvidia)\.so\.(\d+\.\d+(?:\.\d+)?)$/,
    parts: 3,
    isStrict: true,
    files: ['nvidia', 'nvidia-current', 'nvidia-current-open'],
  },
  {
    name: 'VirtualBox Guest Additions',
    module: [['/sys/module/vboxguest/version', VERSION_FILE]],
    packages: ['virtualbox-guest-utils', 'virtualbox-guest-x11'],
    parts: 2,
    isStrict: false,
  },
  {
    name: 'ZFS',
    module: [['/sys/module/zfs/version', VERSION_FILE]],
    packages: ['zfsutils-linux'],
    parts: 2,
    isStrict: false,
  },
  {
    name: 'DisplayLink (evdi)',
    module: [['/sys/module/evdi/version', VERSION_FILE]],
    packages: ['libevdi1', 'libevdi0'],
    parts: 2,
    isStrict: false,
  },
];

/** Versions by the name of a pair. */
export type PairVersions = ReadonlyMap<string, readonly string[]>;

/** The versions of the modules that the kernel has loaded. */
export function loadedVersions(host: Host): PairVersions {
  return new Map(
    PAIRS.flatMap(({ name, module }): [string, string[]][] => {
      const found = module.flatMap(([path, pattern]) => pattern.exec(host.read(path) ?? '')?.[1] ?? []);
      return found[0] === undefined ? [] : [[name, [found[0]]]];
    }),
  );
}

/** What a tree has for the modules; `versionOf` gives the version of an installed package. */
export function treeVersions(
  host: Host,
  root: string,
  versionOf: (name: string) => string | undefined,
): PairVersions {
  // Debian has the libraries in directories of their own, of which an alternative chooses one.
  const machine = host.list(`${root}/usr/lib`).filter(name => name.endsWith('-linux-gnu'));
  const places = ['/usr/lib', '/usr/lib64', ...machine.map(name => `/usr/lib/${name}`)];
  const directories = places.flatMap(place => [
    place,
    ...host.list(`${root}${place}/nvidia`).map(name => `${place}/nvidia/${name}`),
  ]);
  const files = new Set(
    directories.flatMap(at => (host.pathType(root + at) === 'dir' ? host.list(root + at) : [])),
  );
  return new Map(
    PAIRS.flatMap(({ name, libraries, packages = [] }): [string, string[]][] => {
      const found = [
        ...[...files].flatMap(file => libraries?.exec(file)?.[1] ?? []),
        // "1:7.0.20-dfsg-1" is version 7.0.20.
        ...packages.flatMap(p => /^(?:\d+:)?(\d+(?:\.\d+)*)/.exec(versionOf(p) ?? '')?.[1] ?? []),
      ];
      return found.length === 0 ? [] : [[name, [...new Set(found)].sort()]];
    }),
  );
}

/** The names of the module of a pair on disk, for modinfo(8). Pure. */
export const moduleFiles = (name: string): readonly string[] => PAIRS.find(p => p.name === name)?.files ?? [];

/** The pairs of which a tree has something, and not in the version of the loaded module. Pure. */
export function mismatches(
  loaded: PairVersions,
  tree: PairVersions,
): { readonly name: string; readonly words: string; readonly isStrict: boolean }[] {
  return PAIRS.flatMap(({ name, parts, isStrict }) => {
    const [running] = loaded.get(name) ?? [];
    const there = tree.get(name) ?? [];
    const head = (version: string): string => version.split('.').slice(0, parts).join('.');
    if (running === undefined || there.length === 0 || there.some(v => head(v) === head(running))) return [];
    const words = `${name}: the running kernel has the module ${running}, and this has ${there.join(', ')}`;
    return [{ name, words, isStrict }];
  });
}
