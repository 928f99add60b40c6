/** What follows a refused login: who is told, and where. */
import { hasCode, publicCodeOf, reasonOf } from '../errors.ts';
import { lookupUser } from '../linux/accounts.ts';
import { print } from '../linux/command.ts';
import type { Host } from '../linux/host.ts';
import { toJournal } from '../linux/log.ts';
import type { Machine } from '../state/machine.ts';
import { noteRefusedLogin } from '../state/refused-logins.ts';
import { LOOKUP_LIMIT, writeLoginOutcome } from './outcome.ts';
import { refusalText, screenOf, showRefusal } from './refusal-dialog.ts';

/**
 * For the session wrapper and for monitoring. `host` has no deadline: that of the login may be over, and be the reason. A
 * directory of accounts is asked once, for at most {@link LOOKUP_LIMIT}. Never rejects: a failure to write the reason must
 * not hide it. A name that nobody has is no refused login, but a mistake in typing.
 */
export async function recordRefusal(
  host: Host,
  { paths, log }: Machine,
  name: string,
  error: unknown,
): Promise<void> {
  try {
    const user = await lookupUser(host, name, LOOKUP_LIMIT);
    await writeLoginOutcome(host, paths, user, error);
    if (!hasCode(error, 'unknown-user', 'bad-user'))
      noteRefusedLogin(host, paths, user.uid, publicCodeOf(error));
  } catch (fault) {
    log('debug', `the refused login was not recorded: ${reasonOf(fault)}`);
  }
}

/** For the journal and for the person: pam_exec passes on what the hook prints, lightdm shows nothing by itself. */
export async function tellRefusal(
  host: Host,
  adapter: 'gdm' | 'lightdm' | 'pam',
  env: NodeJS.ProcessEnv,
  user: string,
  error: unknown,
): Promise<void> {
  const code = publicCodeOf(error);
  toJournal('err', `login of ${user} refused: ${reasonOf(error)} (${code})`, { user, code });
  if (adapter === 'pam') print(1, `${refusalText(error).replaceAll(/\s+/g, ' ')}\n`);
  const screen = adapter === 'lightdm' ? screenOf(env) : undefined;
  if (screen) await showRefusal(host, screen, error).catch(() => undefined);
}
