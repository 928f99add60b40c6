/**
 * PAM's line for our hook: a profile of pam-auth-update(8), which writes /etc/pam.d/common-session. It stands before
 * pam_systemd, so that what systemd starts for the person at a login finds the session there, and it lets only the
 * services of display managers through to the hook; cron and sudo do not read that file at all.
 */
import { type Change, find } from '../changes.ts';
import { MayflyError } from '../errors.ts';
import type { Host } from '../host.ts';

export const PAM_HOOK = '/usr/lib/mayfly/hooks/pam/session';
export const PAM_STACK = '/etc/pam.d/common-session';
const PROFILE = '/usr/share/pam-configs/mayfly';

/** Line numbers, from 0, of a stack's lines that name `what`; comments are none. */
function linesWith(text: string, what: string): number[] {
  return text.split('\n').flatMap((line, i) => (!/^\s*#/.test(line) && line.includes(what) ? [i] : []));
}

function stackOf(host: Host): string {
  return find(host, PAM_STACK)?.text ?? '';
}

/** Whether logins go through our hook by PAM. */
export function pamCalls(host: Host): boolean {
  return linesWith(stackOf(host), PAM_HOOK).length > 0;
}

/** Throws where this machine's PAM can not be told. */
export function checkPam(host: Host): void {
  if (host.stat('/usr/sbin/pam-auth-update') && host.stat(PROFILE) && find(host, PAM_STACK)) return;
  throw new MayflyError(
    'refused',
    `PAM can not be told: there is no pam-auth-update, "${PROFILE}" or "${PAM_STACK}"`,
    {
      hint: 'apt install --reinstall mayfly libpam-runtime',
    },
  );
}

/** What is to be done for PAM to run our hook. */
export function planPamOn(host: Host): Change[] {
  const why =
    'display managers make a session for every login, before systemd starts anything for the person';
  return pamCalls(host) ? [] : [{ act: 'profile', path: PAM_STACK, on: true, why }];
}

/** What is to be done for PAM to forget it. */
export function planPamOff(host: Host): Change[] {
  const why = 'logins by PAM get the host';
  return pamCalls(host) ? [{ act: 'profile', path: PAM_STACK, on: false, why }] : [];
}

/** What in PAM's configuration undoes what the hook is for, a line each. */
export function pamWarnings(host: Host): string[] {
  const text = stackOf(host);
  const [ours] = linesWith(text, PAM_HOOK);
  const [systemd] = linesWith(text, 'pam_systemd.so');
  if (ours === undefined || systemd === undefined || ours < systemd) return [];
  return [
    `in ${PAM_STACK} pam_systemd stands before Mayfly's line, so that what systemd starts for a person runs on the host`,
  ];
}
