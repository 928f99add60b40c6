/**
 * What the greeter offers. A display manager lists the desktops of the host, but people get those of the volume: one
 * that is only in master could not be chosen, one that is only on the host would start nothing, and a Wayland desktop,
 * which no display manager takes through Xsession, would run on the host. So the entries are made anew from the
 * stable generation's, each with our wrapper before its command, where display managers are told to look.
 */
import type { Config } from '../config/config.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import {
  type DesktopEntry,
  parseDesktopEntry,
  readEntries,
  render,
  SESSION_TYPES,
} from '../linux/desktop-entry.ts';
import { sweepTemporary } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { readStable, stableNumber } from '../state/generations.ts';
import { withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { GREETER_DIRECTORY, isSystemInstance } from '../state/paths.ts';
import { withMountedVolume } from './volume-tree.ts';

export const WRAPPER = '/usr/lib/mayfly/hooks/session-wrapper';

/** There while a display manager makes sessions: what Xsession asks for, and what makes a list of desktops worth it. */
export const ENABLED_MARKER = '/etc/mayfly/enabled';

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

/**
 * Writes what the greeter offers, as of the stable generation, and takes away what is offered no longer. Where there
 * is no stable generation, what the host has stays as it is: who is out of scope still gets in. Only while holding the
 * lock `update`.
 */
export async function publishSessions(on: Machine): Promise<void> {
  const { host, config, paths } = on;
  if (!host.exists(ENABLED_MARKER) || !isSystemInstance(paths) || stableNumber(host, paths) === undefined)
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
