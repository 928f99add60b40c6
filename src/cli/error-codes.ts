/**
 * The codes people read aloud, and what the staff makes of them: the one source for `mayfly doctor CODE`, the list of
 * `--codes` and the manual page (test/cli/doctor.test.ts compares them). A code without an entry does not compile. Never
 * loaded at a login, which needs only the names.
 */
import { type ErrorCode, MayflyError } from '../errors.ts';

/** `no-session` is said by the session wrapper, which finds nothing where a hook should have left something. */
export type PublicCode = ErrorCode | 'no-session';

export interface Explanation {
  /** What it means, one sentence in lower case. */
  readonly means: string;
  /** Where the cause is to be looked for. */
  readonly look: string;
  /** What to type, in this order. */
  readonly type: readonly string[];
}

const WHY = 'journalctl -t mayfly -p warning --since -1h';

const table: Readonly<Record<PublicCode, Explanation>> = {
  full: {
    means: 'the pool has too little room for another session, so new logins are refused and the others go on',
    look: 'old generations, sessions that fill up, and [admission] in mayfly.toml, where the limits are',
    type: ['mayfly status', 'mayfly gc', 'mayfly sessions'],
  },
  'no-stable': {
    means: 'no generation is stable: the machine was never set up, or the pointer to it is lost',
    look: 'whether there are generations; if so one of them can be made stable, if not the first is to be made',
    type: ['mayfly generations', 'mayfly rollback', 'mayfly init'],
  },
  'no-pool': {
    means: 'the pool, or the image it is in, is not there',
    look: 'the file system that holds the pool: it may not be mounted',
    type: ['mayfly doctor', 'mayfly recover'],
  },
  'no-generation': {
    means: 'the generation that logins get, or the one that was named, is not there or was replaced by hand',
    look: 'which generations can be used',
    type: ['mayfly generations', 'mayfly rollback'],
  },
  held: {
    means: 'logins are held off, because the machine is about to be restarted for an update',
    look: 'nothing is broken: it ends with the restart, and after ten minutes in any case',
    type: ['shutdown --show', 'mayfly doctor'],
  },
  locked: {
    means: 'another mayfly is at work on the same thing and did not finish in time',
    look: 'what is at work; with a login, an earlier login or logout of the same person that takes long',
    type: ['mayfly status', 'mayfly sessions', WHY],
  },
  timeout: {
    means: 'a command did not finish in the time a login may take ([hook] timeout)',
    look: 'a disk that is slow or failing, or a file server that does not answer',
    type: [WHY, 'mayfly recover'],
  },
  'no-session': {
    means:
      'a desktop was started for somebody who has no session: the hook of the display manager did not run',
    look: 'whether the display manager is told of the hooks, and was restarted since; whether the session was ended',
    type: ['mayfly doctor', 'mayfly sessions', WHY],
  },
  config: {
    means: 'the configuration is not valid; logouts go by the last good one, logins are refused',
    look: 'the file and line that are named',
    type: ['mayfly config'],
  },
  'unknown-user': {
    means: 'there is no such account on this machine',
    look: 'the name as it was typed; with LDAP or SSSD, whether the server can be reached',
    type: ['getent passwd NAME', 'systemctl status sssd'],
  },
  'bad-user': {
    means: 'the display manager named no account, or a name no account can have',
    look: 'the name as it was typed, and scripts of one’s own around the hooks',
    type: [WHY],
  },
  'missing-tool': {
    means: 'a program that is needed is not installed',
    look: 'its package',
    type: ['mayfly doctor'],
  },
  command: {
    means: 'a command of the system failed, and the session was not made; nothing of it is left',
    look: 'the words of the command in the journal, and the kernel’s',
    type: [WHY, 'dmesg --level err,warn', 'mayfly doctor --trial'],
  },
  unsafe: {
    means:
      'something is not what it must be, such as a symlink or a file of somebody else, and was not touched',
    look: 'the path that is named, and who can write there',
    type: ['mayfly doctor', WHY],
  },
  stuck: {
    means:
      'something of a session can not be taken down, because somebody still uses it; it is kept on record',
    look: 'who holds it',
    type: ['mayfly sessions', 'mayfly recover'],
  },
  corrupt: {
    means: 'a record is not whole, as after a full disk or a power cut',
    look: 'the file that is named',
    type: ['mayfly recover', 'mayfly doctor'],
  },
  exists: {
    means: 'something is there already that was to be made',
    look: 'what is left of an earlier attempt',
    type: ['mayfly recover', 'mayfly status'],
  },
  refused: {
    means: 'what was asked for is not done as things stand; the message says why',
    look: 'the hint below the message',
    type: ['mayfly doctor'],
  },
  update: {
    means: 'an update failed or did not prove itself; logins get the generation they got before',
    look: 'the reason, which is kept',
    type: ['mayfly status', 'mayfly update'],
  },
  'unknown-session': {
    means: 'there is no such session',
    look: 'the sessions there are',
    type: ['mayfly sessions'],
  },
  usage: {
    means: 'the command line, or that of a hook, is wrong',
    look: 'scripts of one’s own that call mayfly',
    type: ['mayfly --help', 'mayfly doctor'],
  },
  'not-root': {
    means: 'it must be run by root',
    look: 'a hook that is run by somebody else than the display manager',
    type: ['sudo mayfly doctor'],
  },
  internal: {
    means: 'something happened that was not thought of: a mistake in Mayfly, or a system that behaves oddly',
    look: 'the message in the journal, which belongs into a report',
    type: [WHY, 'mayfly doctor', 'mayfly --version'],
  },
};

const nameOf = (code: PublicCode): string => `MAYFLY-${code.toUpperCase()}`;

/** All of them, the likeliest first. */
export function allCodes(): (Explanation & { readonly code: string })[] {
  return (Object.keys(table) as PublicCode[]).map(code => ({ code: nameOf(code), ...table[code] }));
}

/** What a code means, however it was heard: upper or lower case, without "MAYFLY", with blanks. Throws `usage`. */
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
