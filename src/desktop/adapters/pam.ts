/**
 * PAM's line for our hook: a profile of pam-auth-update(8), which writes /etc/pam.d/common-session. It stands before
 * pam_systemd, so that what systemd starts for the person at a login finds the session there, and it lets only the
 * services of display managers through to the hook; cron and sudo do not read that file at all.
 */

import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import { inOneLine, type Problem } from '../../volume/backend.ts';
import { type Change, linesWith, readTarget } from '../changes.ts';
import { REINSTALL_PAM } from '../reinstall.ts';

export const PAM_HOOK = '/usr/lib/mayfly/hooks/pam/session';

export const PAM_STACK = '/etc/pam.d/common-session';

const PROFILE = '/usr/share/pam-configs/mayfly';

function stackOf(host: Host): string {
  return readTarget(host, PAM_STACK)?.text ?? '';
}

/** Whether a stack has our line. */
export function namesHook(text: string): boolean {
  return linesWith(text, PAM_HOOK).length > 0;
}

/** Whether logins go through our hook by PAM. */
export function pamCalls(host: Host): boolean {
  return namesHook(stackOf(host));
}

/** Throws where this machine's PAM can not be told. */
export function checkPam(host: Host): void {
  if (host.stat('/usr/sbin/pam-auth-update') && host.stat(PROFILE) && readTarget(host, PAM_STACK)) return;
  throw new MayflyError(
    'refused',
    `PAM can not be told: there is no pam-auth-update, "${PROFILE}" or "${PAM_STACK}"`,
    {
      hint: REINSTALL_PAM,
    },
  );
}

/** What is to be done for PAM to run our hook. */
export function planPamOn(host: Host): Change[] {
  const why =
    'display managers make a session for every login, before systemd starts anything for the person';
  return pamCalls(host) ? [] : [{ act: 'profile', path: PAM_STACK, line: PAM_HOOK, on: true, why }];
}

/** What is to be done for PAM to forget it. */
export function planPamOff(host: Host): Change[] {
  const why = 'logins by PAM get the host';
  return pamCalls(host) ? [{ act: 'profile', path: PAM_STACK, line: PAM_HOOK, on: false, why }] : [];
}

/**
 * What in a stack undoes what the hook is for: pam_systemd starts the person's service manager, which has to find the
 * session made, so that a line of ours behind it comes too late.
 */
export function pamBypasses(text: string): Problem[] {
  const [systemd] = linesWith(text, 'pam_systemd.so');
  if (systemd === undefined) return [];
  const late = linesWith(text, PAM_HOOK).filter(line => line > systemd);
  return late.map(line => ({
    what: `line ${line + 1} of "${PAM_STACK}" comes after pam_systemd.so: people's services run on the host`,
    // pam-auth-update(8) puts them in the right order; it does not touch what stands outside its block.
    fix: `move line ${systemd + 1} of ${PAM_STACK}, pam_systemd.so, below line ${line + 1}`,
  }));
}

/** The same of this machine's, a line each. */
export function pamWarnings(host: Host): string[] {
  return pamBypasses(stackOf(host)).map(inOneLine);
}
