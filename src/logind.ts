/**
 * What systemd-logind says about sessions, read from its own files (/run/systemd/sessions, the way libsystemd's
 * sd-login does it): no bus, no child.
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
}

const DIRECTORY = '/run/systemd/sessions';

/** A session file as a table; values are bare or quoted. */
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
  };
}

/** The user's sessions that are not closing. */
export function liveSessions(host: Host, uid: number): LogindSession[] {
  return host
    .list(DIRECTORY)
    .filter(name => !name.includes('.'))
    .map(name => parseSession(name, host.read(`${DIRECTORY}/${name}`) ?? ''))
    .filter(s => s.uid === uid && s.class === 'user' && s.state !== 'closing');
}
