/** Compares the users and groups of a tree with those of this machine, as NSS knows them. */
import { isInRange, type NamedNumber, namedNumbers } from '../linux/account-files.ts';
import { OUT_OF_TIME } from '../linux/command.ts';
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';
import type { NumberMoves } from '../linux/ownership.ts';
import type { Machine } from '../state/machine.ts';
import type { UnnamedNumbers } from '../state/owners.ts';
import { deviceGroups, type HostNumbers, isFixed, planMoves } from './numbers.ts';

export const DATABASES = { users: 'passwd', groups: 'group' } as const;

export type NumberKind = keyof typeof DATABASES;

export const NUMBER_KINDS = ['users', 'groups'] as const;

/** The text of a file in the tree's /etc; undefined unless it is a regular file. */
export function readEtc(host: Host, tree: string, name: string): string | undefined {
  const path = `${tree}/etc/${name}`;
  return host.lstat(path)?.kind === 'file' && isPlainDirectory(host, tree, '/etc')
    ? host.read(path)
    : undefined;
}

/** How long a directory may take to answer; without an answer, only the local files count. */
const ANSWER_LIMIT = 120_000;

/** Asks NSS for all names and numbers in one call; a number that is a name, too, is asked as a number. */
export async function askHost(
  { host, log }: Pick<Machine, 'host' | 'log'>,
  database: string,
  names: readonly string[],
  numbers: readonly number[],
): Promise<HostNumbers> {
  const keys = [...names.filter(name => !/^\d+$/.test(name)), ...numbers.map(String)];
  const byName = new Map<string, number>();
  const byNumber = new Map<number, string>();
  const wanted = new Set(names);
  if (keys.length === 0) return { byName, byNumber };
  const ask = (options: readonly string[], limit?: number) =>
    host.run({
      file: 'getent',
      args: [...options, '--', database, ...keys],
      effect: 'read',
      okCodes: [0, 2], // 2: some were not found
      ...(limit === undefined ? {} : { limit }),
    });
  let out = await ask([], ANSWER_LIMIT);
  if (out.code === OUT_OF_TIME) {
    log('warning', `"getent ${database}" does not answer: only the local ${database} file counts`);
    out = await ask(['-s', 'files']);
  }
  for (const { name, number } of namedNumbers(out.stdout)) {
    if (wanted.has(name) && !byName.has(name)) byName.set(name, number);
    if (!byNumber.has(number)) byNumber.set(number, name);
  }
  return { byName, byNumber };
}

/** Groups to which systemd's and Debian's rules give devices; other packages name more in their rules. */
const DEVICE_GROUPS = ['tty', 'dialout', 'kmem', 'input', 'video', 'render', 'audio', 'lp', 'disk', 'cdrom', 'tape', 'kvm', 'sgx', 'floppy', 'plugdev', 'scanner']; // biome-ignore format: a list

/** The names of this machine's device groups. */
function namesOfDeviceGroups(host: Host): string[] {
  const rules = ['/etc/udev/rules.d', '/usr/lib/udev/rules.d', '/lib/udev/rules.d'].flatMap(directory =>
    host.list(directory).flatMap(name => {
      const path = `${directory}/${name}`;
      return name.endsWith('.rules') && host.pathType(path) === 'other' ? (host.read(path) ?? '') : [];
    }),
  );
  return [...new Set([...DEVICE_GROUPS, ...rules.flatMap(deviceGroups)])];
}

/** What has to be done with a tree. */
export interface Renumbering {
  readonly moves: NumberMoves;
  readonly homeless: Readonly<Record<NumberKind, readonly number[]>>;
  /** Device groups of the host that the tree lacks. */
  readonly missing: readonly NamedNumber[];
  readonly named: Readonly<Record<NumberKind, readonly NamedNumber[]>>;
}

/** Compares the databases of the tree with the host's; reads nothing else of it. */
export async function compareNumbers(
  on: Machine,
  tree: string,
  unnamed: UnnamedNumbers,
): Promise<Renumbering> {
  const { host } = on;
  const ranges = ['subuid', 'subgid'].map(name => readEtc(host, tree, name) ?? '');
  const devices = namesOfDeviceGroups(host);
  const of = async (kind: NumberKind) => {
    const named = namedNumbers(readEtc(host, tree, DATABASES[kind]) ?? '');
    const others = Object.entries(unnamed[kind]).map(([number, name]) => [Number(number), name] as const);
    const mine = new Map(others.filter(([number]) => !ranges.some(text => isInRange(text, number))));
    const names = [...named.map(n => n.name), ...[...mine.values()].filter(Boolean)];
    const numbers = [...new Set([...named.map(n => n.number), ...mine.keys()])];
    const extra = kind === 'groups' ? devices : [];
    const theirs = await askHost(on, DATABASES[kind], [...new Set([...names, ...extra])], numbers);
    return { named, theirs, plan: planMoves(named, mine, theirs) };
  };
  const [users, groups] = [await of('users'), await of('groups')];
  const known = new Set(groups.named.map(g => g.name));
  const missing = devices.flatMap(name => {
    const number = groups.theirs.byName.get(name);
    return known.has(name) || number === undefined || isFixed(number) ? [] : [{ name, number }];
  });
  return {
    moves: { users: users.plan.moves, groups: groups.plan.moves },
    homeless: { users: users.plan.homeless, groups: groups.plan.homeless },
    missing: groups.named.length === 0 ? [] : missing,
    named: { users: users.named, groups: groups.named },
  };
}

export const movesFiles = (r: Renumbering): boolean =>
  NUMBER_KINDS.some(kind => r.moves[kind].size > 0 || r.homeless[kind].length > 0);
