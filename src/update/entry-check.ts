/**
 * Whether a person can enter a session of theirs. schroot reads all files of chroot.d, of which a wrong one keeps everybody
 * out, and PAM has rules for the service "schroot", which can refuse a user whom the hook has let in. So it is tried as the
 * person themselves, with all that is asked then.
 */
import type { Output } from '../linux/command.ts';
import { shellWord } from '../names.ts';
import type { Session } from '../state/sessions.ts';

/** What the session says when it is entered. schroot can fail with success. */
const ENTERED = 'entered';

/** Passes on no more than the beginning of what a session says, whose programs are the user's own. */
const SOME_OUTPUT = '"$@" </dev/null 2>&1 | head -c 2000';

/**
 * Enters a session as its user, in an environment of nobody and without our terminal: programs of the user run there.
 * Whoever runs it sets a time limit and ends what it leaves.
 */
export function entryCommand({ id, user }: Pick<Session, 'id' | 'user'>): string[] {
  const ids = ['--reuid', `${user.uid}`, '--regid', `${user.gid}`, '--init-groups'];
  const clean = ['env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C'];
  const schroot = ['schroot', '-c', id, '-d', '/', '--', '/bin/sh', '-c', `echo ${ENTERED}`];
  return ['setsid', '--wait', 'setpriv', ...ids, '--', ...clean, 'sh', '-c', SOME_OUTPUT, 'sh', ...schroot];
}

/** Why the session was not entered, in the words of schroot; undefined if it was. Pure. */
export function entryProblem({ code, stdout, stderr }: Output): string | undefined {
  const lines = stdout.split('\n');
  if (lines.includes(ENTERED)) return undefined;
  if (code === 124 || code === 137) return 'schroot does not answer';
  const errors = lines.flatMap(line => (line.startsWith('E: ') ? line.slice(3) : []));
  const said = errors.length > 0 ? errors : [...lines, ...stderr.split('\n')].filter(Boolean);
  return said.slice(0, 3).join('; ').slice(0, 400) || `schroot ended with exit code ${code}`;
}

/** The command that mends it, for the user `name`. Pure. */
export function entryHint(why: string, name: string): string {
  if (/token is no longer valid|new one required/.test(why)) return `passwd ${shellWord(name)}`;
  if (/account (has )?expired/i.test(why)) return `chage --expiredate -1 ${shellWord(name)}`;
  if (why.startsWith('/')) return 'mayfly doctor';
  const gid = /^Group \W*(\d+)\W* not found/.exec(why)?.[1];
  if (gid !== undefined) return `groupadd --gid ${gid} group${gid}`;
  return 'mayfly doctor no-entry';
}
