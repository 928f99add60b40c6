/** What a display manager told us, made into something that can be believed. */
import type { Host } from '../host.ts';
import { isMadeOf, WORD } from '../ids.ts';
import type { LogindSession } from '../logind.ts';
import { type AdapterKind, type Login, markOf, type ProcessMark } from '../state.ts';

/** A call of a hook. */
export interface Call {
  readonly adapter: AdapterKind;
  /** As given, not yet believed. */
  readonly user: string;
  readonly display?: string;
  readonly caller: ProcessMark;
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
): Call | undefined {
  const user = env.USER ?? env.LOGNAME ?? '';
  const caller = markOf(host, pid);
  if (user === '' || caller === undefined) return undefined;
  const display = env.DISPLAY ?? '';
  const isDisplay = display !== '' && display.length <= 64 && isMadeOf(display, `${WORD}.:-`);
  return { adapter, user, caller, ...(isDisplay ? { display } : {}) };
}

export function loginOf(call: Call, now: number): Login {
  const { adapter, display, caller } = call;
  return {
    adapter,
    caller,
    since: now,
    ...(display === undefined ? {} : { display }),
  };
}

/** Whether a recorded login and a call are about the same one. */
export function isSameLogin(login: Login, call: Pick<Call, 'adapter' | 'display' | 'caller'>): boolean {
  if (login.adapter !== call.adapter) return false;
  // gdm: each login has a worker of its own, which runs both hooks. lightdm: one daemon runs all, the display tells.
  return call.adapter === 'lightdm'
    ? login.display === call.display
    : login.caller.pid === call.caller.pid && login.caller.start === call.caller.start;
}

/**
 * The recorded login that `call` ends, as an index; undefined where the call is not a logout: lightdm also runs its
 * cleanup for a wrong password, for another name typed in the greeter, and when a screen is unlocked (measured).
 */
export function endedLogin(
  logins: readonly Login[],
  call: Pick<Call, 'adapter' | 'display' | 'caller'>,
  alive: readonly LogindSession[],
): number | undefined {
  const index = logins.findIndex(l => isSameLogin(l, call));
  if (index < 0) return undefined;
  const lives = alive.some(
    a =>
      a.service.startsWith(call.adapter) &&
      (a.display === '' || call.display === undefined || a.display === call.display),
  );
  return lives ? undefined : index;
}
