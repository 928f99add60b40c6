/** Desktop entries of sessions (Desktop Entry Specification), and where a system keeps them. */
import type { Host } from './host.ts';

/** Below each of these, as in any data directory (XDG base directory specification). */

export const SESSION_TYPES = ['xsessions', 'wayland-sessions'] as const;

export type SessionType = (typeof SESSION_TYPES)[number];

export interface DesktopEntry {
  readonly kind: SessionType;
  /** Its file's name, such as `xfce.desktop`: the id by which people's last choice is remembered. */
  readonly name: string;
  readonly text: string;
}

const GROUP = '[Desktop Entry]';

/** The lines of the one group that counts, as key and value; other groups (actions) are nothing to a greeter. */
export function parseDesktopEntry(text: string): [string, string][] {
  const lines = text.split('\n').map(line => line.trim());
  const begin = lines.indexOf(GROUP) + 1;
  if (begin === 0) return [];
  const end = lines.findIndex((line, i) => i >= begin && line.startsWith('['));
  return lines.slice(begin, end < 0 ? undefined : end).flatMap((line): [string, string][] => {
    const [, key, value] = /^([A-Za-z0-9-]+(?:\[[^\]]*\])?)\s*=\s*(.*)$/.exec(line) ?? [];
    return key === undefined || value === undefined ? [] : [[key, value]];
  });
}

export function render(keys: readonly (readonly [string, string])[]): string {
  return `${[GROUP, ...keys.map(([key, value]) => `${key}=${value}`)].join('\n')}\n`;
}

/** The program that must be there for an entry to be offered, as far as the entry names one. */
export function tryExecOf(text: string): string | undefined {
  return new Map(parseDesktopEntry(text)).get('TryExec');
}

/** Entries of desktops whose program is there, of a machine or a volume that stands at `root`. */
export function readEntries(host: Host, root: string): DesktopEntry[] {
  return allEntries(host, root).filter(e => hasProgram(host, root, tryExecOf(e.text)));
}

/** All entries, also of desktops that are not there. */
export function allEntries(host: Host, root: string): DesktopEntry[] {
  return SESSION_TYPES.flatMap(kind =>
    ['/usr/share', '/usr/local/share'].flatMap(share => {
      const directory = `${root}${share}/${kind}`;
      if (host.pathType(directory) !== 'dir') return [];
      return host
        .list(directory)
        .filter(name => /^[\w.+-]+\.desktop$/.test(name))
        .flatMap(name => {
          // Not through a symlink: an absolute one would lead out of the volume.
          const text =
            host.lstat(`${directory}/${name}`)?.kind === 'file'
              ? host.read(`${directory}/${name}`)
              : undefined;
          return text === undefined ? [] : [{ kind, name, text }];
        });
    }),
  );
}

function hasProgram(host: Host, root: string, program: string | undefined): boolean {
  if (program === undefined) return true;
  const directories = ['/usr/local/bin', '/usr/bin', '/bin', '/usr/local/games', '/usr/games'];
  const places = program.startsWith('/') ? [program] : directories.map(d => `${d}/${program}`);
  return places.some(path => host.lstat(root + path) !== undefined);
}
