/** Validates what a display manager passes to a hook, and matches it to recorded logins. */
import type { Host } from '../linux/host.ts';
import type { LogindSession } from '../linux/logind.ts';
import { identify, type ProcessId } from '../linux/process-id.ts';
import { isMadeOf, WORD } from '../names.ts';
import type { AdapterKind, Login } from '../state/sessions.ts';

/** One call of a hook. */
export interface HookCall {
  readonly adapter: AdapterKind;
  /** As given; not yet validated. */
  readonly user: string;
  readonly display?: string;
  readonly caller: ProcessId;
}

/**
 * Reads the environment of a hook. Returns undefined if it names no user: lightdm runs its cleanup script without
 * USER each time its greeter drops an authentication that never became a login. `pid` is the display manager's
 * process; it defaults to our parent. A DISPLAY that does not look like one is ignored.
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

/** The login to record for a call; `now` is a time of the monotonic clock. */
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
 * Whether each login has its own process that makes every call about it: gdm's session worker, or the program that
 * opened the PAM session. lightdm has one daemon for all logins.
 */
export function hasOwnProcess(adapter: AdapterKind): boolean {
  return adapter !== 'lightdm';
}

/**
 * Whether a call is about this recorded login. Logins with their own process match by that process, because gdm's
 * worker calls through PAM as well as through its scripts. Others match by display.
 */
export function isSameLogin(login: Login, call: Pick<HookCall, 'adapter' | 'display' | 'caller'>): boolean {
  const own = hasOwnProcess(call.adapter);
  if (own !== hasOwnProcess(login.adapter)) return false;
  return own
    ? login.caller.pid === call.caller.pid && login.caller.start === call.caller.start
    : login.display === call.display;
}

/**
 * Index of the recorded login that `call` ends. Returns undefined if the call is not a logout: lightdm also runs its
 * cleanup script after a wrong password, after another name is typed in the greeter, and when a screen is unlocked
 * (measured). `alive` holds the user's sessions that logind shows as running.
 */
export function endedLogin(
  logins: readonly Login[],
  call: Pick<HookCall, 'adapter' | 'display' | 'caller'>,
  alive: readonly LogindSession[],
): number | undefined {
  const index = logins.findIndex(l => isSameLogin(l, call));
  if (index < 0) return undefined;
  // The program that closes a PAM session is certain. logind still shows it: pam_systemd comes after us in the stack.
  if (call.adapter === 'pam') return index;
  const lives = alive.some(
    a =>
      a.service.startsWith(call.adapter) &&
      (a.display === '' || call.display === undefined || a.display === call.display),
  );
  return lives ? undefined : index;
}
