/**
 * The PAM line for our hook: a profile of pam-auth-update(8), which writes /etc/pam.d/common-session. The line comes
 * before pam_systemd, so that the session exists when systemd starts the user's services at login. It runs the hook only
 * for the services of display managers; cron and sudo do not read that file at all.
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

/** Whether the text of a PAM stack has our line. */
export function namesHook(text: string): boolean {
  return linesWith(text, PAM_HOOK).length > 0;
}

/** Whether PAM runs our hook at logins. */
export function pamCalls(host: Host): boolean {
  return namesHook(stackOf(host));
}

/** Throws `refused` if PAM cannot be configured on this machine. */
export function checkPam(host: Host): void {
  if (host.stat('/usr/sbin/pam-auth-update') && host.stat(PROFILE) && readTarget(host, PAM_STACK)) return;
  throw new MayflyError(
    'refused',
    `cannot configure PAM: pam-auth-update, "${PROFILE}" or "${PAM_STACK}" is missing`,
    {
      hint: REINSTALL_PAM,
    },
  );
}

/** The changes that make PAM run our hook; none if it does already. */
export function planPamOn(host: Host): Change[] {
  const why = 'display managers create a session for every login, before systemd starts services of the user';
  return pamCalls(host) ? [] : [{ act: 'profile', path: PAM_STACK, line: PAM_HOOK, on: true, why }];
}

/** The changes that remove our hook from PAM; none if it is not there. */
export function planPamOff(host: Host): Change[] {
  const why = 'logins through PAM get the host';
  return pamCalls(host) ? [{ act: 'profile', path: PAM_STACK, line: PAM_HOOK, on: false, why }] : [];
}

/**
 * The problems in the text of a PAM stack: pam_systemd starts the user's service manager, which needs the session, so a
 * line of ours after it comes too late.
 */
export function pamBypasses(text: string): Problem[] {
  const [systemd] = linesWith(text, 'pam_systemd.so');
  if (systemd === undefined) return [];
  const late = linesWith(text, PAM_HOOK).filter(line => line > systemd);
  return late.map(line => ({
    what: `line ${line + 1} of "${PAM_STACK}" comes after pam_systemd.so: users' services run on the host`,
    // pam-auth-update(8) puts them in the right order, but does not change lines outside its block.
    fix: `move line ${systemd + 1} of ${PAM_STACK}, pam_systemd.so, below line ${line + 1}`,
  }));
}

/** The same for this machine's stack, one line each. */
export function pamWarnings(host: Host): string[] {
  return pamBypasses(stackOf(host)).map(inOneLine);
}
