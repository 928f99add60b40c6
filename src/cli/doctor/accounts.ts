/** Accounts whose logins are refused, or changed, because of what the account itself says, and those that linger. */
import { groupsOf, lookupUser, parsePasswd, type User } from '../../linux/accounts.ts';
import { LINGER, lingeringUser } from '../../linux/linger.ts';
import { shellWord } from '../../names.ts';
import { homeProblem } from '../../session/home-problem.ts';
import { inScope } from '../../session/scope.ts';
import { readableGeneration, stableNumber } from '../../state/generations.ts';
import { describeShells, type UserShell, usersWithoutShell } from '../../update/user-shells.ts';
import { type CheckResult, check, found, notApplicable, type Subject, warning } from './check.ts';

/** An account in scope, and why no session can have its home directory. */
export interface RefusedHome extends Pick<User, 'name' | 'home'> {
  readonly why: string;
}

/** How many are listed; a template of a directory can be wrong for thousands. */
const LISTED = 5;

export function judgeHomes(all: readonly RefusedHome[]): CheckResult {
  const findings = all.slice(0, LISTED).map(({ name, home, why }) => {
    const what = `"${name}" cannot log in: its home directory "${home}" ${why}`;
    return warning(what, `usermod --home ${shellWord(`/home/${name}`)} ${shellWord(name)}`);
  });
  const more = all.length - findings.length;
  if (more > 0)
    findings.push(
      warning(`${more} more accounts cannot log in because of their home directory`, 'getent passwd'),
    );
  return found(findings, 'no account that NSS lists has one that is refused');
}

/** Looks at no home directory: its file server may be dead. Of a directory, NSS may list only local accounts. */
async function gatherHomes({ host, config, paths }: Subject): Promise<RefusedHome[]> {
  const { stdout } = await host.run({ file: 'getent', args: ['--', 'passwd'], effect: 'read' });
  const refused: RefusedHome[] = [];
  for (const user of stdout.split('\n').flatMap(line => parsePasswd(line) ?? [])) {
    const why = homeProblem(user.home, config, paths);
    if (why === undefined || user.uid < config.min_uid) continue;
    if (inScope(config, user, await groupsOf(host, user))) refused.push({ ...user, why });
  }
  return refused;
}

const UNSEEN = notApplicable('the generation is on a device; "mayfly doctor --trial" looks there');

export function judgeShells(all: readonly UserShell[] | undefined): CheckResult {
  if (!all) return UNSEEN;
  const fix = (shell: string) =>
    `mayfly enter master --promote # and install "${shell}"; or: chsh of these users`;
  const byShell = [...new Set(all.map(u => u.shell))].flatMap(shell =>
    describeShells(all.filter(u => u.shell === shell)).map(what => warning(what, fix(shell))),
  );
  return found(byShell, 'the stable generation has the shells of all users that NSS lists');
}

/** The tree of the stable generation; undefined if it is not to be seen without mounting it. */
function stableTree(on: Subject): string | undefined {
  const stable = stableNumber(on.host, on.paths);
  const volume = stable === undefined ? undefined : readableGeneration(on.host, on.paths, stable)?.volume;
  const tree = volume && on.backend(volume.backend).path(volume);
  return tree === undefined || on.host.pathType(tree) !== 'dir' ? undefined : tree;
}

async function gatherShells(on: Subject): Promise<UserShell[] | undefined> {
  const tree = stableTree(on);
  return tree === undefined ? undefined : usersWithoutShell(on, tree);
}

export const shellCheck = check({
  group: 'configuration',
  title: 'shells',
  gather: gatherShells,
  evaluate: judgeShells,
});

/** Whether the generation has what the option "sudo" needs. */
export interface SudoSupport {
  /** Somebody is named in the option. */
  readonly wanted: boolean;
  readonly program: boolean;
  /** /etc/sudoers reads the directory in which a session gets the rule of its user. */
  readonly rules: boolean;
}

export function judgeSudo(s: SudoSupport | undefined): CheckResult {
  if (!s) return notApplicable('the generation is on a device');
  if (!s.wanted) return notApplicable('the option "sudo" names nobody');
  if (!s.program) {
    const install = 'mayfly enter master --promote -- sh -c "apt-get update && apt-get install -y sudo"';
    return found([warning('the generation has no sudo: the option "sudo" has no effect', install)], '');
  }
  const what =
    'in the generation, /etc/sudoers does not read /etc/sudoers.d: the option "sudo" has no effect';
  const fix = 'mayfly enter master --promote # and add "@includedir /etc/sudoers.d", as the last line';
  return found(s.rules ? [] : [warning(what, fix)], 'the generation has sudo');
}

/** As sudoers(5) reads it, where an include may begin with "#", too. */
const READS_RULES = /^[#@]includedir[ \t]+"?\/etc\/sudoers\.d\/?"?[ \t]*$/m;

async function gatherSudo(on: Subject): Promise<SudoSupport | undefined> {
  const tree = stableTree(on);
  if (tree === undefined) return undefined;
  const { host, config } = on;
  const isFile = (path: string): boolean => host.lstat(tree + path)?.kind === 'file';
  return {
    wanted: config.sudo.length > 0,
    program: host.lstat(`${tree}/usr/bin/sudo`) !== undefined,
    rules: isFile('/etc/sudoers') && READS_RULES.test(host.read(`${tree}/etc/sudoers`) ?? ''),
  };
}

export const sudoCheck = check({
  group: 'configuration',
  title: 'sudo',
  gather: gatherSudo,
  evaluate: judgeSudo,
});

export const homeCheck = check({
  group: 'configuration',
  title: 'home directories',
  gather: gatherHomes,
  evaluate: judgeHomes,
});

export function judgeLingering(names: readonly string[]): CheckResult {
  const findings = names.map(name =>
    warning(
      `services of "${name}" run on the host from boot on, and between their sessions ("lingering")`,
      `loginctl disable-linger ${shellWord(name)}`,
    ),
  );
  return found(findings, 'nobody in scope');
}

/** The users in scope who linger. An account that no longer exists has no services. */
async function gatherLingering({ host, config }: Subject): Promise<string[]> {
  const names: string[] = [];
  for (const name of host.list(LINGER).map(lingeringUser)) {
    const user = await lookupUser(host, name).catch(() => undefined);
    if (user && inScope(config, user, await groupsOf(host, user))) names.push(name);
  }
  return names;
}

export const lingerCheck = check({
  group: 'configuration',
  title: 'lingering',
  gather: gatherLingering,
  evaluate: judgeLingering,
});
