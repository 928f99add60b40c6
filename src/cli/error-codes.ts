/**
 * The public error codes and their explanations: the single source for `mayfly doctor CODE`, `mayfly doctor --codes`
 * and the manual page (test/cli/doctor.test.ts compares them). A code without an entry does not compile. A login never
 * loads this file: it needs only the names.
 */
import { type ErrorCode, MayflyError } from '../errors.ts';

/**
 * The session wrapper reports `no-session` if no hook has left a session or a reason for the user, `no-entry` if schroot does
 * not let the user in, and `desktop` if the desktop ends as soon as it has started.
 */
export type PublicCode = ErrorCode | 'no-session' | 'no-entry' | 'desktop';

export interface Explanation {
  /** The meaning: one sentence in lower case. */
  readonly means: string;
  /** Where to look for the cause. */
  readonly look: string;
  /** The commands to run, in this order. */
  readonly type: readonly string[];
}

const WHY = 'journalctl -t mayfly -p warning --since -1h';

const table: Readonly<Record<PublicCode, Explanation>> = {
  full: {
    means:
      'the pool has too little space for another session; new logins are refused, running sessions continue',
    look: 'old generations, sessions that use a lot of space, and the limits in [admission] of mayfly.toml',
    type: ['mayfly status', 'mayfly gc', 'mayfly sessions'],
  },
  'no-stable': {
    means: 'no generation is stable: Mayfly was never set up, or the stable pointer is missing',
    look: 'whether generations exist: if so, make one of them stable; if not, create the first',
    type: ['mayfly generations', 'mayfly rollback', 'mayfly init'],
  },
  'no-pool': {
    means: 'the pool, or the image file that contains it, does not exist',
    look: 'whether the file system of the pool is mounted',
    type: ['mayfly doctor', 'mayfly recover'],
  },
  'no-generation': {
    means: 'the stable or the requested generation is missing or was replaced by hand',
    look: 'which generations are usable',
    type: ['mayfly generations', 'mayfly rollback'],
  },
  held: {
    means: 'logins are blocked because the machine is about to reboot',
    look: 'nothing is broken: the block ends with the reboot, or after ten minutes',
    type: ['shutdown --show', 'mayfly doctor'],
  },
  locked: {
    means: 'another mayfly process holds the lock and did not finish in time',
    look: 'which process is running; for a login, whether an earlier login or logout of the same user is slow',
    type: ['mayfly status', 'mayfly sessions', WHY],
  },
  saving: {
    means:
      'the last session of the user is still ending: services in it are stopping, or programs are saving',
    look: 'which of them take long; nothing is broken, and each has a limit (grace in [logout])',
    type: ['mayfly sessions', WHY],
  },
  timeout: {
    means: 'a command or a file server did not answer within the time limit of a login (timeout in [hook])',
    look: 'whether a disk is slow or failing, or a file server does not respond',
    type: [WHY, 'mayfly recover'],
  },
  'no-session': {
    means: 'a desktop was started for a user without a session: no hook ran at this login',
    look: 'whether the hooks are enabled and the display manager was restarted since; whether it is a remote desktop for which no hook runs (README.Debian); whether the session was ended',
    type: ['mayfly doctor', 'mayfly sessions', WHY],
  },
  'no-entry': {
    means: 'the session was there, but schroot did not let the user in',
    look: 'the words of schroot in the message: a file that it cannot read keeps everybody out; "PAM error" is a rule for the service "schroot", such as an expired password or a rule of a directory that names no such service',
    type: ['mayfly doctor', 'journalctl -p warning --since -1h SYSLOG_IDENTIFIER=schroot', 'chage -l NAME'],
  },
  desktop: {
    means: 'the session was there, but the desktop ended as soon as it had started',
    look: 'the last lines of .xsession-errors in the home directory of the user; whether a trial login finds the same',
    type: ['mayfly doctor --trial', 'journalctl -t mayfly -p warning --since -1h', 'mayfly rollback'],
  },
  config: {
    means: 'the configuration is invalid, and no valid one is known: logins are refused',
    look: 'the file and line in the message',
    type: ['mayfly config'],
  },
  'unknown-user': {
    means: 'the user account does not exist on this machine',
    look: 'the spelling of the name; with LDAP or SSSD, whether the server is reachable',
    type: ['getent passwd NAME', 'systemctl status sssd'],
  },
  'unknown-group': {
    means: 'whether the user gets a session depends on a group that this machine does not know now',
    look: 'whether the directory of the group is reachable; the spelling of the group in "include"',
    type: ['getent group NAME', 'systemctl status sssd', 'mayfly doctor'],
  },
  'bad-user': {
    means: 'the display manager passed no user name, or an invalid one',
    look: 'the spelling of the name, and your own scripts that call the hooks',
    type: [WHY],
  },
  'missing-tool': {
    means: 'a required program is not installed',
    look: 'the package that contains the program',
    type: ['mayfly doctor'],
  },
  command: {
    means: 'a system command failed, so no session was created; nothing is left of it',
    look: 'the output of the command in the journal, and the kernel messages',
    type: [WHY, 'dmesg --level err,warn', 'mayfly doctor --trial'],
  },
  unsafe: {
    means:
      'refused to touch a path that is not what Mayfly expects, such as a symlink or a file owned by another user',
    look: 'the path in the message, and who can write to it',
    type: ['mayfly doctor', WHY],
  },
  stuck: {
    means: 'part of a session cannot be removed because it is still in use; its record is kept',
    look: 'which processes use it',
    type: ['mayfly sessions', 'mayfly recover'],
  },
  corrupt: {
    means: 'a state file is truncated or corrupt, for example after a full disk or a power failure',
    look: 'the file in the message',
    type: ['mayfly recover', 'mayfly doctor'],
  },
  exists: {
    means: 'the object to be created already exists',
    look: 'whether an earlier attempt left it behind',
    type: ['mayfly recover', 'mayfly status'],
  },
  refused: {
    means: 'the request cannot be carried out in the current state; the message gives the reason',
    look: 'the hint after the message',
    type: ['mayfly doctor'],
  },
  update: {
    means:
      'an update failed, or the new generation failed its checks; logins still get the previous generation',
    look: 'the recorded reason',
    type: ['mayfly status', 'mayfly update'],
  },
  'unknown-session': {
    means: 'the session does not exist, or its name is ambiguous',
    look: 'the list of sessions',
    type: ['mayfly sessions'],
  },
  usage: {
    means: 'the command line of mayfly or of a hook is invalid',
    look: 'your own scripts that call mayfly',
    type: ['mayfly --help', 'mayfly doctor'],
  },
  'not-root': {
    means: 'the command must be run as root',
    look: 'whether something other than the display manager runs a hook',
    type: ['sudo mayfly doctor'],
  },
  internal: {
    means: 'unexpected error: a bug in Mayfly or an unsupported system',
    look: 'the message in the journal; include it in a bug report',
    type: [WHY, 'mayfly doctor', 'mayfly --version'],
  },
};

const nameOf = (code: PublicCode): string => `MAYFLY-${code.toUpperCase()}`;

/** All codes, the most likely first. */
export function allCodes(): (Explanation & { readonly code: string })[] {
  return (Object.keys(table) as PublicCode[]).map(code => ({ code: nameOf(code), ...table[code] }));
}

/** The explanation of a code in any spelling: upper or lower case, without "MAYFLY", with spaces. Throws `usage`. */
export function explainCode(word: string): Explanation & { readonly code: string } {
  const wanted = `MAYFLY-${word
    .trim()
    .toUpperCase()
    .replace(/[\s_-]+/g, '-')
    .replace(/^MAYFLY-/, '')}`;
  const known = allCodes();
  const found = known.find(e => e.code === wanted);
  if (found) return found;
  const codes = known.map(e => e.code);
  throw new MayflyError('usage', `"${word}" is not one of Mayfly's codes: ${codes.join(', ')}`, {
    codes,
    hint: 'mayfly doctor --codes',
  });
}
