/**
 * lightdm's settings for our hooks. lightdm reads the files of several directories, and lightdm.conf last. It merges
 * them key by key, so that the later file wins. For each seat, matching sections [Seat:NAME] win over [Seat:*]. A script
 * is a command line, split as by a shell but not run by one.
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

/** The program that lightdm runs with the command line of every session; Debian sets it to Xsession. */
const WRAPPER_KEY = 'session-wrapper';

const WRAPPERS = ['/etc/X11/Xsession', WRAPPER];

/** Our hook for each key: alone, and with a script of the administrator. */
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
  /** As in the file, with the escapes of a key file. */
  readonly value: string;
}

/** lightdm's configuration files, in the order in which lightdm reads them. */
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

/** The scripts that a file sets. */
function settingsIn(file: ConfigFile): Setting[] {
  return settingsOf(KEYS, file);
}

/** The settings of `keys` in the sections for seats; [SeatDefaults] is the old name of [Seat:*]. */
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

/** Whether lightdm can split `value` into arguments. If not, it would not run our hook either. */
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
 * The text of our file. If an earlier file sets a script, our setting names it as an argument of our hook, which runs
 * it; so there is a single file to write and remove, and no other file is changed.
 *
 * Throws `refused` if a later file sets a script, which would win over ours. We do not edit that file: lightdm.conf is a
 * conffile and belongs to the administrator. A line that we removed and restored would be lost if we were interrupted,
 * would cause a question at the next upgrade, and might be restored into a file that has changed since. Moving the line
 * by hand takes a minute, once.
 */
export function renderLightdm(files: readonly ConfigFile[]): string {
  const others = files.filter(f => f.path !== LIGHTDM_FILE).flatMap(settingsIn);
  const late = others.filter(readAfterOurs);
  const byHand = late.filter(isOurs);
  if (late.length > 0) {
    throw refused(
      `these settings would override ${LIGHTDM_FILE}, because lightdm reads them later: ${linesOf(late)}`,
      byHand.length === late.length
        ? 'remove these lines, then repeat the command'
        : `move these lines, with their section, to ${OWN_DIRECTORY}/40-local.conf, then repeat the command; Mayfly runs those scripts too`,
      late,
    );
  }
  const broken = others.filter(s => s.value !== '' && !isCommandLine(s.value));
  if (broken.length > 0)
    throw refused(`invalid command line: ${linesOf(broken)}`, 'fix the quotes in these lines', broken);
  const groups = [...new Set(['Seat:*', ...others.map(s => s.group)])];
  const text = groups.flatMap(group => [
    `[${group}]`,
    ...KEYS.flatMap(key => {
      const other = others.filter(s => s.group === group && s.key === key).at(-1);
      if (!other && group !== 'Seat:*') return []; // [Seat:*] applies to this seat
      const { alone, around } = HOOKS[key];
      const run = other && other.value !== '' && !isOurs(other) ? `${around} ${other.value}` : alone;
      return [`${key}=${LIGHTDM_HOOKS}/${run}`];
    }),
  ]);
  const head = '# Written by "mayfly enable lightdm" and removed by "mayfly disable lightdm"; do not edit.\n';
  // The desktops of the stable generation, not those of the host.
  const desktops = `[LightDM]\nsessions-directory=${SESSION_TYPES.map(kind => `${GREETER_DIRECTORY}/${kind}`).join(':')}`;
  return `${head}${[desktops, ...text].join('\n')}\n`;
}

/** Warnings about settings of other files that conflict with ours, one line each. */
export function lightdmWarnings(files: readonly ConfigFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    if (path === LIGHTDM_FILE) return [];
    const line = text.split('\n').findIndex(l => /^\s*sessions-directory\s*=/.test(l)) + 1;
    if (line === 0) return [];
    return path === LAST_FILE || (path.startsWith(`${OWN_DIRECTORY}/`) && path > LIGHTDM_FILE)
      ? [
          `${path}:${line} makes lightdm list the desktops of the host instead of those of the stable generation; remove that line`,
        ]
      : [
          `${path}:${line}: this list of desktops no longer applies; lightdm lists those of the stable generation`,
        ];
  });
}

/** The settings in effect, the last one of each section, that start desktops without Xsession and so outside sessions. */
export function lightdmBypasses(files: readonly ConfigFile[]): Problem[] {
  const all = files.flatMap(f => settingsOf([WRAPPER_KEY], f));
  const last = [...new Set(all.map(s => s.group))].flatMap(
    group => all.filter(s => s.group === group).at(-1) ?? [],
  );
  return last
    .filter(s => !WRAPPERS.includes(s.value.trim()))
    .map(s => ({
      what: `"${WRAPPER_KEY}=${s.value}" in ${s.file}:${s.line} starts desktops without Xsession, on the host`,
      fix: `sed -i '${s.line}s/^/#/' ${s.file}`,
    }));
}

/** Whether a file of lightdm's configuration calls our hooks. */
export function lightdmCalls(files: readonly ConfigFile[]): boolean {
  return files.flatMap(settingsIn).some(isOurs);
}

/** The changes that make lightdm run our hooks. `directory`: the directory of our file exists. Throws `refused`. */
export function planLightdmOn(files: readonly ConfigFile[], directory: boolean): Change[] {
  const text = renderLightdm(files);
  if (files.find(f => f.path === LIGHTDM_FILE)?.text === text) return [];
  const made: Change[] = directory
    ? []
    : [{ act: 'mkdir', path: OWN_DIRECTORY, why: 'lightdm reads settings there' }];
  const scripts = /^\S+-(?:then|after) /m.test(text) ? ', and they run your own scripts' : '';
  const why = `lightdm runs the hooks at every login and logout${scripts}`;
  return [...made, { act: 'write', path: LIGHTDM_FILE, text, mode: 0o644, why }];
}

/**
 * The changes that remove our hooks from lightdm. The directory stays: lightdm ignores an empty one, and it is not known
 * who created it. Throws `refused` if another file calls our hooks.
 */
export function planLightdmOff(files: readonly ConfigFile[]): Change[] {
  const byHand = files
    .filter(f => f.path !== LIGHTDM_FILE)
    .flatMap(settingsIn)
    .filter(isOurs);
  if (byHand.length > 0) {
    const hint = 'remove these lines, then repeat the command';
    throw refused(`Mayfly's hooks were also added by hand: ${linesOf(byHand)}`, hint, byHand);
  }
  const there = files.some(f => f.path === LIGHTDM_FILE);
  return there ? [{ act: 'remove', path: LIGHTDM_FILE, why: 'lightdm runs the same scripts as before' }] : [];
}

/** Whether the directory of our file exists. Throws `unsafe` if our file's path is anything but a file. */
export function hasLightdmDirectory(host: Host): boolean {
  if (readTarget(host, LIGHTDM_FILE)?.kind === 'link')
    throw new MayflyError('unsafe', `"${LIGHTDM_FILE}" is a symlink`, { path: LIGHTDM_FILE });
  return host.lstat(OWN_DIRECTORY) !== undefined;
}
