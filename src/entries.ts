/**
 * What the greeter offers. A display manager lists the desktops of the host, but people get those of the volume: one
 * that is only in master could not be chosen, one that is only on the host would start nothing, and a Wayland desktop,
 * which no display manager takes through Xsession, would run on the host. So the entries are made anew from the
 * stable generation's, each with our wrapper before its command, where display managers are told to look.
 */
import type { Config } from './config.ts';
import { MayflyError, reasonOf } from './errors.ts';
import { readStable, stableNumber } from './generations.ts';
import type { Host } from './host.ts';
import { withLock } from './locks.ts';
import { sweepTemporary } from './state.ts';
import type { Machine } from './steps.ts';
import { withMountedVolume } from './trees.ts';

export const WRAPPER = '/usr/lib/mayfly/hooks/session-wrapper';
/** Below each of these, as in any data directory (XDG base directory specification). */
export const SESSION_TYPES = ['xsessions', 'wayland-sessions'] as const;
export type SessionType = (typeof SESSION_TYPES)[number];

export interface DesktopEntry {
  readonly kind: SessionType;
  /** Its file's name, such as `xfce.desktop`: the id by which people's last choice is remembered. */
  readonly name: string;
  readonly text: string;
}

/** Where display managers look for ours; a data directory. `enable` sees to it that it is below the run directory. */
export const GREETER_DIRECTORY = '/run/mayfly/greeter';

/** There while a display manager makes sessions: what Xsession asks for, and what makes a list of desktops worth it. */
export const ENABLED_MARKER = '/etc/mayfly/enabled';

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

function render(keys: readonly (readonly [string, string])[]): string {
  return `${[GROUP, ...keys.map(([key, value]) => `${key}=${value}`)].join('\n')}\n`;
}

/** The program that must be there for an entry to be offered, as far as the entry names one. */
export function tryExecOf(text: string): string | undefined {
  return new Map(parseDesktopEntry(text)).get('TryExec');
}

/** Not carried over: the first is asked of the host, the second would lead past Xsession (gdm). */
const LEFT_OUT = ['TryExec', 'X-GDM-BypassXsession', 'X-LightDM-Session-Type'];

/**
 * An entry as we offer it; undefined for one that is not to be shown, runs nothing, or asks for Xsession's failsafe
 * terminal, which would run on the host. "default" is a word of Xsession's for what the machine is set to.
 */
export function wrapEntry(e: DesktopEntry, where: 'inside' | 'host'): DesktopEntry | undefined {
  const keys = parseDesktopEntry(e.text);
  const table = new Map(keys);
  const command = table.get('Exec') ?? '';
  if (table.get('Hidden') === 'true' || table.get('NoDisplay') === 'true') return undefined;
  if (command === '' || command === 'failsafe' || !table.has('Name')) return undefined;
  const wrapper = where === 'host' ? `${WRAPPER} --host` : WRAPPER;
  const rows = keys
    .filter(([key]) => !LEFT_OUT.includes(key))
    .map(([key, value]): [string, string] => {
      if (key === 'Exec') return [key, command === 'default' ? command : `${wrapper} ${command}`];
      return where === 'host' && /^Name(\[|$)/.test(key) ? [key, `${value} (staff)`] : [key, value];
    });
  // lightdm takes an entry for X unless it stands in /usr/share/wayland-sessions, or says so itself.
  if (e.kind === 'wayland-sessions') rows.push(['X-LightDM-Session-Type', 'wayland']);
  return { ...e, text: render(rows) };
}

/** One that takes the host's own off the list of a greeter which shows that as well (gdm), and is not run by it. */
function hiddenEntry(e: DesktopEntry): DesktopEntry {
  const keys = parseDesktopEntry(e.text).filter(([key]) => ['Type', 'Name', 'Exec'].includes(key));
  return { ...e, text: render([...keys, ['NoDisplay', 'true'], ['Hidden', 'true']]) };
}

/** All entries to offer: those of the volume, then what only the host has, by `policy`. */
export function planEntries(
  volume: readonly DesktopEntry[],
  host: readonly DesktopEntry[],
  policy: Config['greeter']['host_sessions'],
): DesktopEntry[] {
  const inside = volume.flatMap(e => wrapEntry(e, 'inside') ?? []);
  const known = new Set(inside.map(e => `${e.kind}/${e.name}`));
  const rest = host.filter(e => !known.has(`${e.kind}/${e.name}`));
  return [
    ...inside,
    ...rest.flatMap(e => (policy === 'staff' ? (wrapEntry(e, 'host') ?? []) : hiddenEntry(e))),
  ];
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

/**
 * Writes what the greeter offers, as of the stable generation, and takes away what is offered no longer. Where there
 * is no stable generation, what the host has stays as it is: who is out of scope still gets in. Only while holding the
 * lock `update`.
 */
export async function publishSessions(on: Machine): Promise<void> {
  const { host, config, paths } = on;
  if (!host.exists(ENABLED_MARKER) || paths.run !== '/run/mayfly' || stableNumber(host, paths) === undefined)
    return;
  const { volume } = readStable(host, paths);
  const inside = await withMountedVolume(on, volume, async tree => readEntries(host, tree));
  const entries = planEntries(inside, readEntries(host, ''), config.greeter.host_sessions);
  for (const directory of [paths.run, GREETER_DIRECTORY]) host.mkdir(directory, 0o755);
  for (const kind of SESSION_TYPES) {
    const directory = `${GREETER_DIRECTORY}/${kind}`;
    host.mkdir(directory, 0o755);
    sweepTemporary(host, directory);
    const mine = entries.filter(e => e.kind === kind);
    for (const e of mine)
      if (host.read(`${directory}/${e.name}`) !== e.text)
        host.write(`${directory}/${e.name}`, e.text, { mode: 0o644 });
    for (const name of host.list(directory))
      if (!mine.some(e => e.name === name)) host.unlink(`${directory}/${name}`);
  }
}

/** The same, where nothing else is to fail because of it. Whoever has the lock does so when they are done. */
export async function tryPublishSessions(on: Machine): Promise<void> {
  try {
    await withLock(on.host, on.paths, 'update', 0, () => publishSessions(on));
  } catch (error) {
    if (error instanceof MayflyError && error.code === 'locked') return;
    on.log('warning', `the greeter still offers the desktops of before: ${reasonOf(error)}`);
  }
}

/** Takes the list away. */
export function removePublishedSessions(host: Host): void {
  for (const kind of SESSION_TYPES) {
    const directory = `${GREETER_DIRECTORY}/${kind}`;
    for (const name of host.list(directory)) host.unlink(`${directory}/${name}`);
    if (host.lstat(directory)) host.rmdir(directory);
  }
  if (host.lstat(GREETER_DIRECTORY)) host.rmdir(GREETER_DIRECTORY);
}
