/** Servers of remote desktops: whether their logins are announced. */
import { REMOTE_SERVERS, remoteCalls, remoteWarnings } from '../../desktop/adapters/remote.ts';
import { type CheckResult, check, found, notApplicable, warning } from './check.ts';
import { adaptersIn } from './setup.ts';

/** What the machine has. */
export interface RemoteDesktops {
  /** A display manager or a server is enabled: users in scope need a session. */
  readonly enabled: boolean;
  readonly servers: readonly {
    readonly name: 'xrdp' | 'tigervnc';
    readonly calls: boolean;
    readonly warnings: readonly string[];
  }[];
}

export function judgeRemote({ enabled, servers }: RemoteDesktops): CheckResult {
  if (!enabled) return notApplicable('nothing is enabled');
  if (servers.length === 0) return notApplicable('xrdp and tigervnc are not installed');
  const findings = servers.flatMap(({ name, calls, warnings }) => {
    const what = `${name} is not enabled: its logins join the session that the user has, and are refused without one`;
    return calls
      ? warnings.map(text => warning(text, `mayfly disable ${name} && mayfly enable ${name}`))
      : [warning(what, `mayfly enable ${name}`)];
  });
  return found(findings, servers.map(server => server.name).join(', '));
}

export const remoteChecks = [
  check({
    group: 'display managers',
    title: 'remote desktops',
    gather: ({ host }): RemoteDesktops => ({
      enabled: adaptersIn(host).length > 0,
      servers: (['xrdp', 'tigervnc'] as const).flatMap(name => {
        const server = REMOTE_SERVERS[name];
        if (!host.stat(server.stack)) return [];
        return [{ name, calls: remoteCalls(host, server), warnings: remoteWarnings(host, server) }];
      }),
    }),
    evaluate: judgeRemote,
  }),
];
