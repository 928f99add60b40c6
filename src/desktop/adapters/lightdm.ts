/**
 * lightdm's settings for our hooks. lightdm reads the files of several directories and lightdm.conf last, and joins
 * them key by key, so that of two files the later one wins; then, for each seat, the sections [Seat:NAME] that match
 * win over [Seat:*]. A script is a command line, taken apart as a shell does but not run by one.
 */

import { MayflyError } from '../../errors.ts';
import { SESSION_TYPES } from '../../linux/desktop-entry.ts';
import type { Host } from '../../linux/host.ts';
import { GREETER_DIRECTORY } from '../../state/paths.ts';
import { WRAPPER } from '../../update/greeter.ts';
import type { Problem } from '../../volume/backend.ts';
import { type Change, readTarget } from '../changes.ts';

export const LIGHTDM_HOOKS = '/usr/lib/mayfly/hooks/lightdm';

const OWN_DIRECTORY = '/etc/lightdm/lightdm.conf.d';

export const LIGHTDM_FILE = `${OWN_DIRECTORY}/50-mayfly.conf`;

const LAST_FILE = '/etc/lightdm/lightdm.conf';

/** In lightdm's order: XDG's directories from the least to the most preferred, then its own. */
const DIRECTORIES = [
  '/usr/share/lightdm/lightdm.conf.d',
  '/usr/local/share/lightdm/lightdm.conf.d',
  '/etc/xdg/lightdm/lightdm.conf.d',
  OWN_DIRECTORY,
];

const KEYS = ['session-setup-script', 'session-cleanup-script'] as const;

type Key = (typeof KEYS)[number];

/** The program that gets every session's command line; Debian's own setting is Xsession. */
const WRAPPER_KEY = 'session-wrapper';

const WRAPPERS = ['/etc/X11/Xsession', WRAPPER];

/** Our hook for each key, alone and around a script of the administrator's. */
const HOOKS: Record<Key, { readonly alone: string; readonly around: string }> = {
  'session-setup-script': { alone: 'session-setup', around: 'session-setup-then' },
  'session-cleanup-script': { alone: 'session-cleanup', around: 'session-cleanup-after' },
};

export interface ConfigFile {
  readonly path: string;
  readonly text: string;
}

interface Setting<K = Key> {
  readonly file: string;
  readonly line: number;
  readonly group: string;
  readonly key: K;
  /** As it stands in the file, with the escapes of a key file. */
  readonly value: string;
}

/** lightdm's configuration, in the order in which it is read. */
export function lightdmFiles(host: Host): ConfigFile[] {
  const parts = DIRECTORIES.flatMap(directory =>
    host
      .list(directory)
      .filter(name => name.endsWith('.conf'))
      .map(name => `${directory}/${name}`),
  );
  return [...parts, LAST_FILE]
    .filter(path => host.pathType(path) === 'other')
    .map(path => ({ path, text: host.read(path) ?? '' }));
}

/** The scripts that a file sets for seats. */
function settingsIn(file: ConfigFile): Setting[] {
  return settingsOf(KEYS, file);
}

/** What a file sets for seats; [SeatDefaults] is the old name of [Seat:*]. */
function settingsOf<K extends string>(keys: readonly K[], { path, text }: ConfigFile): Setting<K>[] {
  let group = '';
  return text.split('\n').flatMap((raw, i) => {
    const line = raw.trim();
    const header = /^\[([^\]]*)\]/.exec(line)?.[1];
    if (header !== undefined) group = header === 'SeatDefaults' ? 'Seat:*' : header;
    const [, name, value = ''] = /^([^#=[\]]+?)\s*=\s*(.*)$/.exec(line) ?? [];
    const key = keys.find(k => k === name);
    return key && group.startsWith('Seat:') ? [{ file: path, line: i + 1, group, key, value }] : [];
  });
}

function isOurs(s: Setting): boolean {
  return s.value.includes(`${LIGHTDM_HOOKS}/`);
}

function readAfterOurs(s: Setting): boolean {
  return s.file === LAST_FILE || (s.file.startsWith(`${OWN_DIRECTORY}/`) && s.file > LIGHTDM_FILE);
}

/** Whether lightdm could take `value` apart; one that it can not would take our hook along. */
function isCommandLine(value: string): boolean {
  const plain = value.replace(/\\([sntr\\])/g, (_, c: string) => ({ s: ' ', '\\': '\\' })[c] ?? ' ');
  return /^(?!\s*#)(?:[^'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+$/.test(plain);
}

function linesOf(settings: readonly Setting[]): string {
  return settings.map(s => `${s.file}:${s.line} (${s.key})`).join(', ');
}

function refused(message: string, hint: string, settings: readonly Setting[]): MayflyError {
  const lines = settings.map(s => `${s.file}:${s.line}`);
  return new MayflyError('refused', message, { lines, hint });
}

/**
 * The text of our file. A script that is set before it is run by our hook; the command stands in the setting itself,
 * so that there is one file, written and removed whole, and nobody else's is touched.
 *
 * One that is set after it would win over ours and is refused: lightdm.conf is a conffile and the administrator's.
 * A line that we took out of it and put back would stay out where we died, would be asked about at the next upgrade,
 * and might be put back into a file that has been changed in between. To move a line is a minute's work, once.
 */
export function renderLightdm(files: readonly ConfigFile[]): string {
  const others = files.filter(f => f.path !== LIGHTDM_FILE).flatMap(settingsIn);
  const late = others.filter(readAfterOurs);
  const byHand = late.filter(isOurs);
  if (late.length > 0) {
    throw refused(
      `lightdm reads this after ${LIGHTDM_FILE}, so that it would win: ${linesOf(late)}`,
      byHand.length === late.length
        ? 'take out these lines, then type it again'
        : `move these lines, with their section, to ${OWN_DIRECTORY}/40-local.conf, then type it again; Mayfly runs those scripts too`,
      late,
    );
  }
  const broken = others.filter(s => s.value !== '' && !isCommandLine(s.value));
  if (broken.length > 0)
    throw refused(`this is not a command line: ${linesOf(broken)}`, 'fix the quotes there', broken);
  const groups = [...new Set(['Seat:*', ...others.map(s => s.group)])];
  const text = groups.flatMap(group => [
    `[${group}]`,
    ...KEYS.flatMap(key => {
      const theirs = others.filter(s => s.group === group && s.key === key).at(-1);
      if (!theirs && group !== 'Seat:*') return []; // this seat gets what all get
      const { alone, around } = HOOKS[key];
      const run = theirs && theirs.value !== '' && !isOurs(theirs) ? `${around} ${theirs.value}` : alone;
      return [`${key}=${LIGHTDM_HOOKS}/${run}`];
    }),
  ]);
  const head =
    '# Written by "mayfly enable lightdm" and removed by "mayfly disable lightdm"; not to be changed.\n';
  // The desktops of the volume, not those of the host.
  const desktops = `[LightDM]\nsessions-directory=${SESSION_TYPES.map(kind => `${GREETER_DIRECTORY}/${kind}`).join(':')}`;
  return `${head}${[desktops, ...text].join('\n')}\n`;
}

/** What of lightdm's settings we do not go by, a line each. */
export function lightdmWarnings(files: readonly ConfigFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    if (path === LIGHTDM_FILE) return [];
    const line = text.split('\n').findIndex(l => /^\s*sessions-directory\s*=/.test(l)) + 1;
    if (line === 0) return [];
    return path === LAST_FILE || (path.startsWith(`${OWN_DIRECTORY}/`) && path > LIGHTDM_FILE)
      ? [
          `${path}:${line} has lightdm list the desktops of the host, not those of the volume; take out that line`,
        ]
      : [`${path}:${line}: the desktops listed there are no longer offered; those of the volume are`];
  });
}

/** Settings in force that keep desktops away from Xsession, and so from their session: the last one of each section. */
export function lightdmBypasses(files: readonly ConfigFile[]): Problem[] {
  const all = files.flatMap(f => settingsOf([WRAPPER_KEY], f));
  const last = [...new Set(all.map(s => s.group))].flatMap(
    group => all.filter(s => s.group === group).at(-1) ?? [],
  );
  return last
    .filter(s => !WRAPPERS.includes(s.value.trim()))
    .map(s => ({
      what: `"${WRAPPER_KEY}=${s.value}" in ${s.file}:${s.line} starts desktops past Xsession, on the host`,
      fix: `sed -i '${s.line}s/^/#/' ${s.file}`,
    }));
}

/** Whether some file of lightdm's names our hooks. */
export function lightdmCalls(files: readonly ConfigFile[]): boolean {
  return files.flatMap(settingsIn).some(isOurs);
}

/** What is to be done for lightdm to run our hooks; `directory`: whether the one for our file is there. */
export function planLightdmOn(files: readonly ConfigFile[], directory: boolean): Change[] {
  const text = renderLightdm(files);
  if (files.find(f => f.path === LIGHTDM_FILE)?.text === text) return [];
  const made: Change[] = directory
    ? []
    : [{ act: 'mkdir', path: OWN_DIRECTORY, why: 'lightdm looks there for settings' }];
  const theirs = /^\S+-(?:then|after) /m.test(text) ? ', and they run your own scripts' : '';
  const why = `lightdm runs the hooks at every login and logout${theirs}`;
  return [...made, { act: 'write', path: LIGHTDM_FILE, text, mode: 0o644, why }];
}

/**
 * What is to be done for lightdm to forget them. The directory stays: an empty one says nothing to lightdm, and whose
 * it was is not known.
 */
export function planLightdmOff(files: readonly ConfigFile[]): Change[] {
  const byHand = files
    .filter(f => f.path !== LIGHTDM_FILE)
    .flatMap(settingsIn)
    .filter(isOurs);
  if (byHand.length > 0) {
    const hint = 'take out these lines, then type it again';
    throw refused(`lightdm is told of Mayfly's hooks by hand too: ${linesOf(byHand)}`, hint, byHand);
  }
  const there = files.some(f => f.path === LIGHTDM_FILE);
  return there
    ? [{ act: 'remove', path: LIGHTDM_FILE, why: 'lightdm runs what it ran before, scripts of yours too' }]
    : [];
}

/** Whether the directory for our file is there; refuses where something else than a file has its name. */
export function hasLightdmDirectory(host: Host): boolean {
  if (readTarget(host, LIGHTDM_FILE)?.kind === 'link')
    throw new MayflyError('unsafe', `"${LIGHTDM_FILE}" is a symlink`, { path: LIGHTDM_FILE });
  return host.lstat(OWN_DIRECTORY) !== undefined;
}
