/** Desktop entries of sessions (Desktop Entry Specification), and their directories. */
import type { Host } from './host.ts';

/** The directories of session entries below a data directory (XDG Base Directory Specification). */
export const SESSION_TYPES = ['xsessions', 'wayland-sessions'] as const;

export type SessionType = (typeof SESSION_TYPES)[number];

export interface DesktopEntry {
  readonly kind: SessionType;
  /** The file name, such as `xfce.desktop`; display managers remember a user's last choice by it. */
  readonly name: string;
  readonly text: string;
}

const GROUP = '[Desktop Entry]';

/** The keys and values of the main group; greeters ignore the other groups (actions). */
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

/** The text of an entry with these keys. */
export function render(keys: readonly (readonly [string, string])[]): string {
  return `${[GROUP, ...keys.map(([key, value]) => `${key}=${value}`)].join('\n')}\n`;
}

/** The program that must be installed for an entry to be offered; undefined if the entry names none. */
export function tryExecOf(text: string): string | undefined {
  return new Map(parseDesktopEntry(text)).get('TryExec');
}

/** The entries of desktops whose program is installed, in the system tree at `root`. */
export function readEntries(host: Host, root: string): DesktopEntry[] {
  return allEntries(host, root).filter(e => hasProgram(host, root, tryExecOf(e.text)));
}

/** All entries in the system tree at `root`, including those of desktops whose program is missing. */
export function allEntries(host: Host, root: string): DesktopEntry[] {
  return SESSION_TYPES.flatMap(kind =>
    ['/usr/share', '/usr/local/share'].flatMap(share => {
      const directory = `${root}${share}/${kind}`;
      if (host.pathType(directory) !== 'dir') return [];
      return host
        .list(directory)
        .filter(name => /^[\w.+-]+\.desktop$/.test(name))
        .flatMap(name => {
          // Symlinks are not followed: an absolute one would lead out of the volume.
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
