/**
 * The sessions of systemd-logind, read from its state files in /run/systemd/sessions, as libsystemd's sd-login(3) does.
 * This needs no bus and no child process.
 */
import type { Host } from './host.ts';

export interface LogindSession {
  readonly id: string;
  readonly uid: number;
  /** `online`, `active`, `closing`, `opening`. */
  readonly state: string;
  readonly class: string;
  /** The PAM service: `lightdm`, `gdm-password`, `sshd`. */
  readonly service: string;
  readonly display: string;
  /** The process that opened it through PAM: gdm's worker, lightdm's child for the session. 0 if unknown. */
  readonly leader: number;
  /** Milliseconds since the epoch; 0 if unknown. */
  readonly began: number;
}

export const LOGIND_SESSIONS = '/run/systemd/sessions';

/** Parses a session file. Its values may be quoted. */
export function parseSession(id: string, text: string): LogindSession {
  const table = new Map<string, string>();
  for (const line of text.split('\n')) {
    const eq = line.indexOf('=');
    if (eq > 0 && !line.startsWith('#'))
      table.set(line.slice(0, eq), line.slice(eq + 1).replace(/^"(.*)"$/, '$1'));
  }
  const get = (key: string): string => table.get(key) ?? '';
  return {
    id,
    uid: Number(get('UID') || Number.NaN),
    state: get('STATE'),
    class: get('CLASS'),
    service: get('SERVICE'),
    display: get('DISPLAY'),
    leader: Number(get('LEADER')) || 0,
    began: Math.floor(Number(get('REALTIME')) / 1000) || 0,
  };
}

/** The sessions of all users, including closing ones; undefined without logind. */
export function shownSessions(host: Host, directory = LOGIND_SESSIONS): LogindSession[] | undefined {
  if (host.pathType(directory) !== 'dir') return undefined;
  return host
    .list(directory)
    .filter(name => !name.includes('.'))
    .map(name => parseSession(name, host.read(`${directory}/${name}`) ?? ''));
}

/** The user's sessions that are not closing. */
export function liveSessions(host: Host, uid: number): LogindSession[] {
  const shown = shownSessions(host) ?? [];
  return shown.filter(s => s.uid === uid && s.class === 'user' && s.state !== 'closing');
}
