/** Whose logout a hook reports. */
import { localUser, lookupUser } from '../linux/accounts.ts';
import type { Machine } from '../state/machine.ts';
import { readSessions, sessionIds } from '../state/sessions.ts';
import { type HookCall, isSameLogin } from './hook-call.ts';
import { LOOKUP_LIMIT } from './outcome.ts';

/**
 * The number of the user. The record of the session has it, too: a directory may not answer any more, or know nobody of
 * that name, or give it another number than at the login, and the session must end all the same. So a directory is asked
 * only about names that have no session. Throws `unknown-user` or `bad-user`.
 */
export async function uidOfLogout({ host, paths }: Machine, call: HookCall): Promise<number> {
  const local = localUser(host, call.user)?.uid;
  if (local !== undefined && sessionIds(host, paths, local).length > 0) return local;
  const own = readSessions(host, paths).find(
    s => s.user.name === call.user && s.logins.some(l => isSameLogin(l, call)),
  );
  return own?.user.uid ?? local ?? (await lookupUser(host, call.user, LOOKUP_LIMIT)).uid;
}
