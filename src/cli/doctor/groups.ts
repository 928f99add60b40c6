/** The groups that the configuration names: those of this machine, and directory groups with the same names. */
import type { Config } from '../../config/config.ts';
import { directoryServices, parseGroups } from '../../linux/accounts.ts';
import { check, type Finding, found, notApplicable, type Subject, warning } from './check.ts';

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

/** The options that name each group. */
function namedGroups(config: Config): Map<string, string[]> {
  const named = new Map<string, string[]>();
  for (const option of ['include', 'exclude', 'sudo', 'ephemeral_home', 'root_users'] as const)
    for (const entry of config[option])
      if (entry.startsWith('@'))
        named.set(entry.slice(1), [...(named.get(entry.slice(1)) ?? []), `"${option}"`]);
  return named;
}

async function gatherGroups({ host, config }: Subject): Promise<TwofoldGroup[] | undefined> {
  const services = directoryServices(host.read('/etc/nsswitch.conf'));
  if (services.length === 0) return undefined;
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
  return twofold;
}

export const groupCheck = check({
  group: 'configuration',
  title: 'groups',
  gather: gatherGroups,
  evaluate: all =>
    all
      ? found(judgeGroups(all), 'no directory group has the name of a local one')
      : notApplicable('all groups are local'),
});
