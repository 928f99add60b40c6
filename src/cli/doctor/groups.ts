/**
 * The groups that the configuration names: those of this machine, directory groups with the same names, and those that
 * nothing knows.
 */
import type { Config } from '../../config/config.ts';
import { directoryServices, groupsAreLocal, parseGroups } from '../../linux/accounts.ts';
import type { Host } from '../../linux/host.ts';
import { shellWord } from '../../names.ts';
import { lookupGroups, notLocal } from '../../session/unknown-groups.ts';
import { check, type Finding, found, problem, type Subject, warning } from './check.ts';

/** A group of the configuration that exists on this machine and, under another number, in a directory. */
export interface TwofoldGroup {
  readonly name: string;
  readonly options: readonly string[];
  readonly here: number;
  readonly there: number;
  /** The service of nsswitch.conf(5). */
  readonly service: string;
}

export function judgeGroups(all: readonly TwofoldGroup[]): Finding[] {
  return all.map(g => {
    const what = `"@${g.name}" in ${g.options.join(', ')} is the group ${g.here} of this machine; the group ${g.there} that "${g.service}" has under this name does not count`;
    return warning(what, `getent -s ${g.service} group ${g.name}; name another group in mayfly.toml`);
  });
}

/** A group of the configuration that NSS does not know. */
export interface UnknownGroup {
  readonly name: string;
  readonly options: readonly string[];
  /** Whether a directory has groups, which may not answer now. */
  readonly directory: boolean;
}

/** What follows from it: people of a directory are refused, those of the machine get the host. */
export function judgeUnknown(all: readonly UnknownGroup[]): Finding[] {
  return all.map(({ name, options, directory }) => {
    const isScope = options.includes('"include"');
    const follows = directory
      ? 'people of the directory who could be in it cannot log in'
      : 'its members log in to the host';
    const what = `no group has the name "${name}", which ${options.join(', ')} ${options.length > 1 ? 'name' : 'names'}${isScope ? `: ${follows}` : ''}`;
    const fix = directory
      ? `getent group ${shellWord(name)}`
      : `groupadd ${shellWord(name)}; or remove it from mayfly.toml`;
    return isScope ? problem(what, fix) : warning(what, fix);
  });
}

/** The options that name each group. */
function namedGroups(config: Config): Map<string, string[]> {
  const named = new Map<string, string[]>();
  for (const option of ['include', 'exclude', 'sudo', 'ephemeral_home', 'root_users'] as const)
    for (const entry of config[option])
      if (entry.startsWith('@'))
        named.set(entry.slice(1), [...(named.get(entry.slice(1)) ?? []), `"${option}"`]);
  return named;
}

/** Milliseconds for a directory to answer. */
const ANSWER_LIMIT = 10_000;

/** The groups of the configuration that NSS does not know now. */
export async function unknownGroups(host: Host, config: Config): Promise<UnknownGroup[]> {
  const directory = !groupsAreLocal(host.read('/etc/nsswitch.conf'));
  const named = namedGroups(config);
  const names = notLocal(host, [...named.keys()]);
  const answers = directory ? await lookupGroups(host, names, names.join(', '), ANSWER_LIMIT) : [];
  return names.flatMap((name, i) =>
    answers[i] === undefined ? [{ name, options: named.get(name) ?? [], directory }] : [],
  );
}

interface GroupFacts {
  readonly twofold: readonly TwofoldGroup[];
  readonly unknown: readonly UnknownGroup[];
}

async function gatherGroups({ host, config }: Subject): Promise<GroupFacts> {
  const services = directoryServices(host.read('/etc/nsswitch.conf'));
  const local = parseGroups(host.read('/etc/group') ?? '');
  const twofold: TwofoldGroup[] = [];
  for (const [name, options] of namedGroups(config)) {
    const here = local.find(g => g.name === name)?.gid;
    if (here === undefined) continue;
    for (const service of services) {
      const args = ['-s', service, '--', 'group', name];
      // 1: the service is not installed; 2: it does not know the group.
      const out = await host.run({ file: 'getent', args, effect: 'read', okCodes: [0, 1, 2] });
      const there = parseGroups(out.stdout)[0]?.gid;
      if (there !== undefined && there !== here) twofold.push({ name, options, here, there, service });
    }
  }
  return { twofold, unknown: await unknownGroups(host, config) };
}

export const groupCheck = check({
  group: 'configuration',
  title: 'groups',
  gather: gatherGroups,
  evaluate: ({ twofold, unknown }) =>
    found(
      [...judgeGroups(twofold), ...judgeUnknown(unknown)],
      'each group that a list names is known, and only once',
    ),
});
