/**
 * The desktops that the greeter offers. A display manager lists the desktops of the host, but users get those of the
 * generation: a desktop that only master has could not be chosen, one that only the host has would start nothing, and
 * a Wayland desktop, which display managers do not start through Xsession, would run on the host. So entries are
 * generated from those of the stable generation, with our wrapper before each command, in a directory where display
 * managers are configured to look.
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
import { ENABLED_MARKER, GREETER_DIRECTORY, isSystemInstance } from '../state/paths.ts';
import { withMountedVolume } from './volume-tree.ts';

export const WRAPPER = '/usr/lib/mayfly/hooks/session-wrapper';

/** Commands that Xsession(5) interprets itself: the machine's default desktop, and a terminal. */
export const XSESSION_WORDS: readonly string[] = ['default', 'failsafe'];

/** Keys that are dropped: TryExec would be looked up on the host, and the others are set anew. */
const DROPPED_KEYS = ['TryExec', 'X-GDM-BypassXsession', 'X-LightDM-Session-Type'];

/**
 * The entry as offered, with our wrapper before its command. Returns undefined for an entry that is hidden, or has no
 * name or command. The wrapper gives an X desktop to the Xsession of the generation, so gdm must not run the host's, with
 * the user's ~/.profile, before. Pure.
 */
export function wrapEntry(e: DesktopEntry, where: 'inside' | 'host'): DesktopEntry | undefined {
  const keys = parseDesktopEntry(e.text);
  const table = new Map(keys);
  const command = table.get('Exec') ?? '';
  if (table.get('Hidden') === 'true' || table.get('NoDisplay') === 'true') return undefined;
  if (command === '' || !table.has('Name')) return undefined;
  const isX = e.kind === 'xsessions';
  const wrapper = [WRAPPER, ...(isX ? ['--xsession'] : []), ...(where === 'host' ? ['--host'] : [])];
  const rows = keys
    .filter(([key]) => !DROPPED_KEYS.includes(key))
    .map(([key, value]): [string, string] => {
      if (key === 'Exec') return [key, [...wrapper, command].join(' ')];
      return where === 'host' && /^Name(\[|$)/.test(key) ? [key, `${value} (staff)`] : [key, value];
    });
  // lightdm takes an entry as X unless it is in /usr/share/wayland-sessions or has this key.
  rows.push(isX ? ['X-GDM-BypassXsession', 'true'] : ['X-LightDM-Session-Type', 'wayland']);
  return { ...e, text: render(rows) };
}

/** An entry that hides the host's own of the same name from greeters that list the host's directory as well (gdm). */
function hiddenEntry(e: DesktopEntry): DesktopEntry {
  const keys = parseDesktopEntry(e.text).filter(([key]) => ['Type', 'Name', 'Exec'].includes(key));
  return { ...e, text: render([...keys, ['NoDisplay', 'true'], ['Hidden', 'true']]) };
}

/**
 * All entries to offer: those of the volume, then those that only the host has, which `policy` offers to staff or
 * hides. The default desktop needs no program of the host, so that its entry, which is lightdm's, is for everybody if
 * the volume has X desktops. Pure.
 */
export function planEntries(
  volume: readonly DesktopEntry[],
  host: readonly DesktopEntry[],
  policy: Config['greeter']['host_sessions'],
): DesktopEntry[] {
  const inside = volume.flatMap(e => wrapEntry(e, 'inside') ?? []);
  const known = new Set(inside.map(e => `${e.kind}/${e.name}`));
  const rest = host.filter(e => !known.has(`${e.kind}/${e.name}`));
  const hasX = inside.some(e => e.kind === 'xsessions');
  const isForAll = (e: DesktopEntry): boolean =>
    hasX && XSESSION_WORDS.includes(new Map(parseDesktopEntry(e.text)).get('Exec') ?? '');
  return [
    ...inside,
    ...rest.filter(isForAll).flatMap(e => wrapEntry(e, 'inside') ?? []),
    ...rest
      .filter(e => !isForAll(e))
      .flatMap(e => (policy === 'staff' ? (wrapEntry(e, 'host') ?? []) : hiddenEntry(e))),
  ];
}

/**
 * Writes the entries for the stable generation and removes outdated ones. Without a stable generation the host's own
 * list stays, so that users out of scope can still log in. The caller must hold the lock `update`.
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

/**
 * Like {@link publishSessions}, but takes the lock itself and only logs a failure. If the lock is taken it does
 * nothing: its holder publishes when it is done.
 */
export async function tryPublishSessions(on: Machine): Promise<void> {
  try {
    await withLock(on.host, on.paths, 'update', 0, () => publishSessions(on));
  } catch (error) {
    if (error instanceof MayflyError && error.code === 'locked') return;
    on.log('warning', `cannot update the desktops that the greeter offers: ${reasonOf(error)}`);
  }
}

/** How many published entries are of the generation; undefined if none have ever been published. */
export function desktopsInside(host: Host): number | undefined {
  if (!host.exists(GREETER_DIRECTORY)) return undefined;
  const texts = SESSION_TYPES.map(kind => `${GREETER_DIRECTORY}/${kind}`).flatMap(directory =>
    host.list(directory).map(name => host.read(`${directory}/${name}`) ?? ''),
  );
  return texts.filter(text => !/^(Name=.* \(staff\)|Hidden=true)$/m.test(text)).length;
}

/** Removes all published entries. */
export function removePublishedSessions(host: Host): void {
  for (const kind of SESSION_TYPES) {
    const directory = `${GREETER_DIRECTORY}/${kind}`;
    for (const name of host.list(directory)) host.unlink(`${directory}/${name}`);
    if (host.lstat(directory)) host.rmdir(directory);
  }
  if (host.lstat(GREETER_DIRECTORY)) host.rmdir(GREETER_DIRECTORY);
}
