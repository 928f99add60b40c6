/** Users whose login shell a generation lacks: their sessions have another one. */
import { groupsOf, parsePasswd } from '../linux/accounts.ts';
import { shellIn } from '../session/identity.ts';
import { inScope } from '../session/scope.ts';
import type { Machine } from '../state/machine.ts';

export interface UserShell {
  readonly name: string;
  readonly shell: string;
  /** What the sessions of the user have. */
  readonly instead: string;
}

/** The users in scope whose shell the tree at `root` lacks. Of a directory, NSS may list only local accounts. */
export async function usersWithoutShell(
  { host, config }: Pick<Machine, 'host' | 'config'>,
  root: string,
): Promise<UserShell[]> {
  const { stdout } = await host.run({ file: 'getent', args: ['--', 'passwd'], effect: 'read' });
  const found: UserShell[] = [];
  for (const user of stdout.split('\n').flatMap(line => parsePasswd(line) ?? [])) {
    const instead = user.uid < config.min_uid ? user.shell : shellIn(host, root, user.shell);
    if (instead !== user.shell && inScope(config, user, await groupsOf(host, user)))
      found.push({ name: user.name, shell: user.shell, instead });
  }
  return found;
}

/** One sentence for each shell, with the first of its users. */
export function describeShells(all: readonly UserShell[]): string[] {
  return [...new Set(all.map(u => u.shell))].map(shell => {
    const users = all.filter(u => u.shell === shell);
    const names = users.slice(0, 5).map(u => `"${u.name}"`);
    if (users.length > names.length) names.push(`${users.length - names.length} more`);
    return `the generation lacks "${shell}", the shell of ${names.join(', ')}: sessions have "${users[0]?.instead}" instead`;
  });
}
