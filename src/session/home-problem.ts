/**
 * Which home directories a session can have. Home directories come from the directory service, and Mayfly mounts them:
 * one such as "/etc" or "/srv/../../usr" would put directories of the host in the place of the session's own.
 */
import type { Config } from '../config/config.ts';
import type { Paths } from '../state/paths.ts';
import { isAtOrBelow } from './mount-plan.ts';

/** Directories of the system: neither they nor anything below them is anybody's home directory. */
const SYSTEM =
  '/bin /boot /dev /etc /lib /lib32 /lib64 /libo32 /libx32 /proc /root /run /sbin /sys /usr /var/backups /var/cache ' +
  '/var/lib/apt /var/lib/dpkg /var/lib/sss /var/lib/systemd /var/log /var/spool';

/** Directories that hold home directories or files of several users, and are nobody's home directory themselves. */
const SHARED = '/ /home /lost+found /media /mnt /opt /srv /tmp /var /var/lib /var/local /var/opt /var/tmp';

/** Below the root of a session, a path must fit into PATH_MAX, which is 4096 bytes. */
const MOST_CHARACTERS = 1024;

/** Whether `path` is absolute and has no empty, "." or ".." component and no control character. Pure. */
function isNormalized(path: string): boolean {
  if (path === '/') return true;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it matches control characters to refuse them
  if (!path.startsWith('/') || /[\u0000-\u001f\u007f-\u009f]/.test(path)) return false;
  return path
    .split('/')
    .slice(1)
    .every(part => part !== '' && part !== '.' && part !== '..');
}

/** Why no session can have the home directory `home`; undefined if one can. Pure. */
export function homeProblem(
  home: string,
  config: Pick<Config, 'mounts' | 'identity' | 'pool'>,
  paths: Pick<Paths, 'state' | 'run' | 'schroot'>,
): string | undefined {
  if (!isNormalized(home)) return 'is not a normalized absolute path';
  if (home.length > MOST_CHARACTERS) return `is too long: it has ${home.length} characters`;
  if (SHARED.split(' ').includes(home) || SYSTEM.split(' ').some(path => isAtOrBelow(home, path)))
    return 'is a directory of the system';
  return ownProblem(home, config, paths);
}

/** Why a session cannot have the host's directory `home`, if that is for what Mayfly itself has or mounts there. Pure. */
export function ownProblem(
  home: string,
  config: Pick<Config, 'mounts' | 'identity' | 'pool'>,
  paths: Pick<Paths, 'state' | 'run' | 'schroot'>,
): string | undefined {
  const own = [paths.state, paths.run, paths.schroot, config.pool.path];
  if (own.some(path => isAtOrBelow(home, path))) return 'is a directory of Mayfly';
  const { bind, rbind } = config.mounts;
  const below = [...own, ...bind, ...rbind, ...config.identity.copy].find(p => p.startsWith(`${home}/`));
  return below && `contains "${below}", which Mayfly mounts or writes`;
}
