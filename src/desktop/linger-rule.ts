/**
 * The rule by which polkit refuses `loginctl enable-linger` to people in scope. A service manager that lingers would run
 * their services on the host, after their logout and from every boot on. It is one of the host's, also for a program in a
 * session, because the bus is.
 */
import { scopePath } from '../config/load.ts';
import type { Host } from '../linux/host.ts';
import { type Change, readTarget } from './changes.ts';

const RULES = '/etc/polkit-1/rules.d';

export const LINGER_RULE = `${RULES}/50-mayfly.rules`;

/**
 * polkitd(8) runs it in an engine of JavaScript without modules, and starts programs as a user and with a filter of system
 * calls that no Node.js would survive: so it reads what {@link scopePath} has. Without a clear answer it refuses.
 */
const TEXT = `// This file was added by "mayfly enable" and is removed by "mayfly disable".
// Nobody who gets a session at login can have services that run without one: see mayfly(7).
polkit.addRule(function(action, subject) {
	if (action.id != "org.freedesktop.login1.set-self-linger")
		return polkit.Result.NOT_HANDLED;
	var inScope = true;
	try {
		var scope = JSON.parse(polkit.spawn(["/bin/cat", "${scopePath}"]));
		var uid = parseInt(polkit.spawn(["/usr/bin/id", "-u", "--", subject.user]), 10);
		var matches = function(list) {
			return list.some(function(entry) {
				if (entry.charAt(0) == "@")
					return subject.isInGroup(entry.slice(1));
				return entry == "*" || entry == subject.user;
			});
		};
		// A group that a directory does not tell now: getent fails, and so does spawn.
		var areKnown = function(list) {
			list.forEach(function(entry) {
				if (entry.charAt(0) == "@")
					polkit.spawn(["/usr/bin/getent", "--", "group", entry.slice(1)]);
			});
			return true;
		};
		if (uid < scope.min_uid || uid == 65534)
			inScope = false;
		else if (uid >= scope.min_uid)
			inScope = !matches(scope.exclude) && (matches(scope.include) || !areKnown(scope.include));
	} catch (error) {
		polkit.log("mayfly: " + error);
	}
	if (!inScope)
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
