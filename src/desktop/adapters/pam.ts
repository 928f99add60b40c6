/**
 * The PAM line for our hook: a profile of pam-auth-update(8), which writes /etc/pam.d/common-session. The line comes
 * before pam_systemd, so that the session exists when systemd starts the user's services at login. It runs the hook only
 * for the services of display managers; cron and sudo do not read that file at all.
 */

import { installHint } from '../../advice.ts';
import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import { inOneLine, type Problem } from '../../volume/backend.ts';
import { type Change, linesWith, readTarget } from '../changes.ts';
import { REINSTALL_PAM } from '../reinstall.ts';

export const PAM_HOOK = '/usr/lib/mayfly/hooks/pam/session';

export const PAM_STACK = '/etc/pam.d/common-session';

const PROFILE = '/usr/share/pam-configs/mayfly';

/** The interpreter of our hooks. It must be static: a loader of libraries would obey variables that users set. */
export const LAUNCHER = '/bin/busybox';

/** Whether a program needs no loader: an ELF file that names none in its first bytes, where the name always is. */
export function isStatic(program: string | undefined): boolean {
  return program !== undefined && /^\u007fELF/.test(program) && !program.slice(0, 4096).includes('/ld');
}

/** Throws `refused` if the interpreter of our hooks is missing or is not static. */
export function checkLauncher(host: Host): void {
  if (isStatic(host.read(LAUNCHER))) return;
  const what = `"${LAUNCHER}" is missing or is not static, and the hooks need it`;
  throw new MayflyError('refused', what, { hint: installHint('busybox') });
}

/**
 * The PAM stacks in which users set variables with ~/.pam_environment. A stack in /etc replaces the one of the same name
 * that a package has in /usr/lib.
 */
export function stacksWithUserEnvironment(host: Host): string[] {
  const own = host.list('/etc/pam.d');
  const vendor = host.list('/usr/lib/pam.d').filter(name => !own.includes(name));
  const paths = [...own.map(name => `/etc/pam.d/${name}`), ...vendor.map(name => `/usr/lib/pam.d/${name}`)];
  return paths.filter(path => linesWith(host.read(path) ?? '', 'user_readenv=1').length > 0);
}

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
  checkLauncher(host);
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
