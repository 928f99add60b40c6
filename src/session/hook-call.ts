/** What a display manager told us, made into something that can be believed. */
import type { Host } from '../linux/host.ts';
import type { LogindSession } from '../linux/logind.ts';
import { identify, type ProcessId } from '../linux/process-id.ts';
import { isMadeOf, WORD } from '../names.ts';
import type { AdapterKind, Login } from '../state/sessions.ts';

/** A call of a hook. */
export interface HookCall {
  readonly adapter: AdapterKind;
  /** As given, not yet believed. */
  readonly user: string;
  readonly display?: string;
  readonly caller: ProcessId;
}

/**
 * The environment of a hook as a call; undefined where it names nobody: lightdm runs its cleanup script without
 * USER each time its greeter drops an authentication that never was a login. `pid` is the display manager's.
 */
export function callOf(
  host: Host,
  adapter: AdapterKind,
  env: NodeJS.ProcessEnv,
  pid = host.ppid,
): HookCall | undefined {
  const user = env.USER ?? '';
  const caller = identify(host, pid);
  if (user === '' || caller === undefined) return undefined;
  const display = env.DISPLAY ?? '';
  const isDisplay = display !== '' && display.length <= 64 && isMadeOf(display, `${WORD}.:-`);
  return { adapter, user, caller, ...(isDisplay ? { display } : {}) };
}

export function loginOf(call: HookCall, now: number): Login {
  const { adapter, display, caller } = call;
  return {
    adapter,
    caller,
    since: now,
    ...(display === undefined ? {} : { display }),
  };
}

/**
 * Whether each login has a process of its own that makes every call about it: gdm's worker, and whoever opens a PAM
 * session. lightdm has one daemon for all.
 */
export function hasOwnProcess(adapter: AdapterKind): boolean {
  return adapter !== 'lightdm';
}

/** Whether a recorded login and a call are about the same one. gdm's worker calls by PAM and by its scripts, too. */
export function isSameLogin(login: Login, call: Pick<HookCall, 'adapter' | 'display' | 'caller'>): boolean {
  const own = hasOwnProcess(call.adapter);
  if (own !== hasOwnProcess(login.adapter)) return false;
  return own
    ? login.caller.pid === call.caller.pid && login.caller.start === call.caller.start
    : login.display === call.display;
}

/**
 * The recorded login that `call` ends, as an index; undefined where the call is not a logout: lightdm also runs its
 * cleanup for a wrong password, for another name typed in the greeter, and when a screen is unlocked (measured).
 */
export function endedLogin(
  logins: readonly Login[],
  call: Pick<HookCall, 'adapter' | 'display' | 'caller'>,
  alive: readonly LogindSession[],
): number | undefined {
  const index = logins.findIndex(l => isSameLogin(l, call));
  if (index < 0) return undefined;
  // Who closes a PAM session knows; logind hears of it only after us, by pam_systemd, which stands behind us.
  if (call.adapter === 'pam') return index;
  const lives = alive.some(
    a =>
      a.service.startsWith(call.adapter) &&
      (a.display === '' || call.display === undefined || a.display === call.display),
  );
  return lives ? undefined : index;
}
