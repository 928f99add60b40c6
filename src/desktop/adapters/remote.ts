/**
 * Servers of remote desktops that start each desktop through a PAM stack of their own: our hook becomes a line of that
 * file. The profile of pam-auth-update is not used: it would let every display manager in, too.
 *
 * The line is optional: without our package it keeps nobody out. Where a session is refused, the hook lets the desktop
 * start all the same, and the session wrapper shows the reason in it: these servers would close the connection.
 */
import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import { type Change, linesWith, readTarget } from '../changes.ts';
import { checkLauncher, namesHook, PAM_HOOK } from './pam.ts';

/** One such server. */
export interface RemoteServer {
  readonly package: string;
  readonly program: string;
  /** Its PAM stack, a conffile. */
  readonly stack: string;
  /** The names of the processes that open PAM sessions. */
  readonly callers: RegExp;
}

export const REMOTE_SERVERS = {
  xrdp: {
    package: 'xrdp',
    program: '/usr/sbin/xrdp-sesman',
    stack: '/etc/pam.d/xrdp-sesman',
    callers: /^xrdp-ses/,
  },
  tigervnc: {
    package: 'tigervnc-standalone-server',
    program: '/usr/sbin/tigervncsession',
    stack: '/etc/pam.d/tigervnc',
    callers: /^tigervncsessio/,
  },
} as const satisfies Record<string, RemoteServer>;

const LINES = `# The next line was added by "mayfly enable" and is removed by "mayfly disable".
session optional pam_exec.so quiet stdout ${PAM_HOOK}
`;

/** The line at which the session part of a stack begins; -1 if it has none. */
function beginOf(lines: readonly string[]): number {
  return lines.findIndex(line => /^\s*(?:-?session\s|@include\s+common-session)/.test(line));
}

/** Adds our lines before all others that open the session: pam_systemd starts the user's services. Pure. */
export function withHook(text: string): string | undefined {
  const lines = text.split('\n');
  const begin = beginOf(lines);
  if (begin < 0) return undefined;
  const before = lines.slice(0, begin).map(line => `${line}\n`);
  return `${before.join('')}${LINES}${lines.slice(begin).join('\n')}`;
}

/** Removes what {@link withHook} has added; undefined if it is not there as a whole. Pure. */
export function withoutHook(text: string): string | undefined {
  return text.includes(LINES) ? text.replace(LINES, '') : undefined;
}

/** Whether the server's logins are announced. */
export function remoteCalls(host: Host, { stack }: RemoteServer): boolean {
  return namesHook(readTarget(host, stack)?.text ?? '');
}

/** Throws `refused` if our line cannot be added. */
export function checkRemote(host: Host, { stack }: RemoteServer): void {
  checkLauncher(host);
  const found = readTarget(host, stack);
  if (found?.kind === 'file' && withHook(found.text) !== undefined) return;
  const what = found?.kind === 'link' ? 'is a symlink' : found ? 'opens no session' : 'is missing';
  throw new MayflyError('refused', `cannot configure PAM: "${stack}" ${what}`, { path: stack });
}

export function planRemoteOn(host: Host, server: RemoteServer): Change[] {
  const { stack: path } = server;
  const found = readTarget(host, path);
  const text = found && withHook(found.text);
  if (!found || text === undefined || remoteCalls(host, server)) return [];
  const why = 'a remote desktop has its session before systemd starts services of the user';
  return [{ act: 'write', path, text, mode: found.mode, why }];
}

/** Lines that were added by hand are the administrator's: {@link remoteWarnings} and the package name them. */
export function planRemoteOff(host: Host, { stack: path }: RemoteServer): Change[] {
  const found = readTarget(host, path);
  const text = found && withoutHook(found.text);
  if (!found || text === undefined) return [];
  return [{ act: 'write', path, text, mode: found.mode, why: 'remote desktops create no sessions' }];
}

/** A line of ours after the beginning of the session part comes too late. */
export function remoteWarnings(host: Host, { stack }: RemoteServer): string[] {
  const text = readTarget(host, stack)?.text ?? '';
  const begin = beginOf(text.split('\n'));
  return linesWith(text, PAM_HOOK)
    .filter(line => line !== begin)
    .map(
      line =>
        `line ${line + 1} of "${stack}" is not the first one that opens a session: users' services run on the host`,
    );
}
