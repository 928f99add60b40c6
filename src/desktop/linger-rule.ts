/**
 * The rule by which polkit refuses `loginctl enable-linger` to people in scope. A service manager that lingers would run
 * their services on the host, after their logout and from every boot on. It is one of the host's, also for a program in a
 * session, because the bus is.
 */
import type { Host } from '../linux/host.ts';
import { type Change, readTarget } from './changes.ts';

const RULES = '/etc/polkit-1/rules.d';

export const LINGER_RULE = `${RULES}/50-mayfly.rules`;

/**
 * polkitd(8) runs it in an engine of JavaScript without modules, and starts programs as its own user, who may not make
 * memory executable (MemoryDenyWriteExecute=): hence `--jitless`. Without a clear answer the request is refused.
 */
const TEXT = `// This file was added by "mayfly enable" and is removed by "mayfly disable".
// Nobody who gets a session at login can have services that run without one: see mayfly(7).
polkit.addRule(function(action, subject) {
	if (action.id != "org.freedesktop.login1.set-self-linger")
		return polkit.Result.NOT_HANDLED;
	var scope = "";
	try {
		scope = polkit.spawn(["/bin/sh", "-c",
			"node --jitless /usr/lib/mayfly/dist/mayfly.cjs scope \\"$1\\" 2>/dev/null; true", "sh", subject.user]);
	} catch (error) {
		polkit.log("mayfly: " + error);
	}
	if (scope.indexOf(" gets the host") > 0)
		return polkit.Result.NOT_HANDLED;
	polkit.log("mayfly: " + subject.user + " gets a session at login and may not linger");
	return polkit.Result.NO;
});
`;

/** The change that adds the rule; none without polkit, where logind refuses the request by itself. */
export function planLingerOn(host: Host): Change[] {
  if (host.lstat(RULES)?.kind !== 'dir' || readTarget(host, LINGER_RULE)?.text === TEXT) return [];
  const why = 'services of users do not outlive their sessions';
  return [{ act: 'write', path: LINGER_RULE, text: TEXT, mode: 0o644, why }];
}

/** The change that removes it. */
export function planLingerOff(host: Host): Change[] {
  if (!readTarget(host, LINGER_RULE)) return [];
  return [{ act: 'remove', path: LINGER_RULE, why: 'users may have services that run without a login' }];
}
