/**
 * Where a home directory that is not simply below /home is found. It can be a symlink, and it can come after the hook:
 * pam_mkhomedir(8) creates it, pam_mount and automounters mount it. A session then shows the directories of the host through
 * which it is reached, as on the host.
 */
import { MayflyError } from '../errors.ts';
import type { User } from '../linux/accounts.ts';
import type { Host } from '../linux/host.ts';
import { mayHang } from '../linux/remote.ts';
import { requireAnswers } from '../linux/time-limits.ts';
import { resolveTrusted } from '../linux/trusted-path.ts';
import type { Machine } from '../state/machine.ts';
import { homeProblem, ownProblem } from './home-problem.ts';
import { answerTime, isAtOrBelow } from './mount-plan.ts';

/** Debian's home directory of accounts that have none. */
const NONE = '/nonexistent';

/** Directories of the host only, which can be shown although they are no home directories themselves. */
const OF_THE_HOST = new Set(['/mnt', '/srv']);

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/';

/** The nearest directory above `path` that root can see. */
function existingAbove(host: Host, path: string): string {
  let at = parentOf(path);
  while (at !== '/' && host.pathType(at) !== 'dir') at = parentOf(at);
  return at;
}

/** Leaves out what is at or below another one. Pure. */
const outermost = (paths: readonly string[]): string[] =>
  [...new Set(paths)].sort().filter((p, i, all) => !all.some((other, j) => j < i && isAtOrBelow(p, other)));

/**
 * The directories of the host that the session must show, besides those of the configuration and an existing home directory
 * at its own path. Throws `unsafe` with the reason if a session cannot show the home directory, and `timeout` if its file
 * server does not answer.
 */
export async function homePlaces(
  on: Pick<Machine, 'host' | 'config' | 'paths'>,
  { name, home }: User,
): Promise<readonly string[]> {
  const { host, config, paths } = on;
  const shares = [...config.mounts.rbind, ...config.mounts.bind];
  const share = shares.find(path => isAtOrBelow(home, path));
  const isShown = (path: string): boolean => shares.some(s => isAtOrBelow(path, s));
  // Below a directory of the configuration, requireSources() asks for that one only.
  if (share === undefined || mayHang(host))
    await requireAnswers(host, [...(share === undefined ? [] : [share]), home], answerTime(config));
  const refuse = (what: string, hint?: string): MayflyError => {
    const message = `the home directory "${home}" of "${name}" ${what}; a session cannot use it`;
    return new MayflyError('unsafe', message, { path: home, ...(hint === undefined ? {} : { hint }) });
  };
  const passed: string[] = [];
  const isMount = (path: string): boolean => shares.includes(path);
  let real: string;
  try {
    real = resolveTrusted(host, home, { isMount, passed });
  } catch (error) {
    // What the session shows anyway, it follows itself.
    passed.length = 0;
    const anyway =
      share === undefined ? undefined : resolveTrusted(host, home, { isMount, passed, trusts: true });
    if (anyway !== undefined && [anyway, ...passed].every(isShown)) return [];
    throw error;
  }
  const problem = homeProblem(real, config, paths);
  if (problem !== undefined) throw refuse(`leads to "${real}", which ${problem}`);
  const kind = host.pathType(real);
  if (kind === 'other') throw refuse('is not a directory');
  if ((kind === 'dir' && share === undefined) || isAtOrBelow(home, NONE)) return [];
  const found = isShown(real) ? [] : [kind === 'dir' ? real : existingAbove(host, real)];
  const places = outermost([...passed, ...found].filter(path => !isShown(path)));
  for (const path of places) {
    const why = (OF_THE_HOST.has(path) ? ownProblem : homeProblem)(path, config, paths);
    if (why === undefined) continue;
    if (kind === 'dir') throw refuse(`is reached through "${path}", which ${why}`);
    throw refuse(
      `does not exist, and "${path}", where it could be made later, ${why}`,
      `mkdir -p ${parentOf(real)}`,
    );
  }
  return places;
}
