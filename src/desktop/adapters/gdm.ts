/**
 * gdm's scripts for our hooks, up to version 49. PreSession/Default and PostSession/Default are conffiles of gdm3, so
 * they are diverted: gdm3's own file gets another name beside ours, upgrades of gdm3 write to it, and ours runs it.
 */

import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import type { Problem } from '../../volume/backend.ts';
import { type Change, type Found, readTarget } from '../changes.ts';

export const GDM_HOOKS = '/usr/lib/mayfly/hooks/gdm';

const DIRECTORY = '/etc/gdm3';

/** In the order in which they are written: PostSession exists before PreSession can create a session. */
export const GDM_SCRIPTS = ['PostSession', 'PreSession'] as const;

export type GdmScript = (typeof GDM_SCRIPTS)[number];

/** The state of one script. */
export interface GdmFound {
  readonly script: GdmScript;
  readonly current: Found | undefined;
  /** gdm3's own script, which we have renamed. */
  readonly aside: Found | undefined;
  /** The package that diverts it ("LOCAL" for the administrator, "" for none), and the path it is diverted to. */
  readonly divertedBy: string;
  readonly divertedTo: string;
}

export const gdmPath = (script: GdmScript): string => `${DIRECTORY}/${script}/Default`;

/** gdm ignores this name: it only looks for names of displays and hosts, and for "Default". */
const asidePath = (script: GdmScript): string => `${gdmPath(script)}.before-mayfly`;

/** Our scripts are recognized by their second line. */
const MARK = '# Written by "mayfly enable gdm"';

/**
 * The text of our script. At login the original script runs first: if it fails, gdm aborts the login and never runs
 * PostSession, so nothing would end a session created before it. At logout our hook runs whatever the exit status of the
 * original. Its interpreter is the one of the hooks. The hook is exec'ed because it identifies a login by its parent, which must be gdm's worker. If Mayfly has
 * been removed, the script runs nothing, and Xsession requires no session either.
 */
export function renderGdm(script: GdmScript): string {
  const onFailure = script === 'PreSession' ? ' || exit' : '';
  return `#!/bin/busybox sh
${MARK} and removed by "mayfly disable gdm"; do not edit.
# The original script is ${asidePath(script)}; it runs first, if it is executable.
original=${asidePath(script)}
if [ -f "$original" ] && [ -x "$original" ]; then "$original" "$@"${onFailure}; fi
hook=${GDM_HOOKS}/${script}
[ ! -x "$hook" ] || exec "$hook"
`;
}

function isOurs(f: Found | undefined): boolean {
  return f?.kind === 'file' && f.text.split('\n')[1]?.startsWith(MARK) === true;
}

function callsOurs(text: string): number {
  return text.split('\n').findIndex(line => !/^\s*#/.test(line) && line.includes(`${GDM_HOOKS}/`)) + 1;
}

function check(f: GdmFound): void {
  const path = gdmPath(f.script);
  const aside = asidePath(f.script);
  const foreign = f.divertedBy !== '' && (f.divertedBy !== 'mayfly' || f.divertedTo !== aside);
  if (foreign) {
    throw new MayflyError('refused', `"${path}" is already diverted to "${f.divertedTo}"`, {
      hint: `dpkg-divert --list ${path}`,
    });
  }
  if (!f.current || isOurs(f.current)) return;
  if (f.aside) {
    throw new MayflyError(
      'refused',
      `both "${path}" and "${aside}" exist, and neither was written by Mayfly`,
      {
        hint: 'remove the one that you do not need, then repeat the command',
      },
    );
  }
  const line = callsOurs(f.current.text);
  if (line > 0) {
    throw new MayflyError(
      'refused',
      `"${path}" calls Mayfly's hook, but was not written by Mayfly: line ${line}`,
      {
        hint: 'remove that line, then repeat the command',
      },
    );
  }
}

/** The changes that make gdm run our hooks. Throws `refused` if the scripts were diverted or edited by others. */
export function planGdmOn(found: readonly GdmFound[]): Change[] {
  found.forEach(check);
  return GDM_SCRIPTS.flatMap(script => found.filter(f => f.script === script)).flatMap(f => {
    const path = gdmPath(f.script);
    const to = asidePath(f.script);
    const text = renderGdm(f.script);
    const mine = isOurs(f.current);
    const changes: Change[] = [];
    if (f.divertedBy === '')
      changes.push({ act: 'divert', path, to, why: 'upgrades of gdm3 write to that path' });
    if (f.current && !mine) changes.push({ act: 'rename', path, to, why: 'the original script is kept' });
    if (!mine || f.current?.text !== text || f.current.mode !== 0o755) {
      const when = f.script === 'PreSession' ? 'login' : 'logout';
      changes.push({
        act: 'write',
        path,
        text,
        mode: 0o755,
        why: `runs the original script, then the ${when} hook`,
      });
    }
    return changes;
  });
}

/** The changes that remove our hooks from gdm, in reverse order, so that no login creates a session that no logout ends. */
export function planGdmOff(found: readonly GdmFound[]): Change[] {
  found.forEach(check);
  return [...GDM_SCRIPTS]
    .reverse()
    .flatMap(script => found.filter(f => f.script === script))
    .flatMap(f => {
      const path = gdmPath(f.script);
      const to = asidePath(f.script);
      const changes: Change[] = [];
      if (f.aside)
        changes.push({ act: 'rename', path: to, to: path, why: 'the original script is restored' });
      else if (f.current && isOurs(f.current))
        changes.push({ act: 'remove', path, why: 'there was no script before' });
      if (f.divertedBy === 'mayfly')
        changes.push({ act: 'undivert', path, to, why: 'the file belongs to gdm3 again' });
      return changes;
    });
}

/** Reads gdm's scripts and their diversions. Throws `unsafe`, `missing-tool` without dpkg-divert, and `command`. */
export async function findGdm(host: Host): Promise<GdmFound[]> {
  const ask = async (option: string, path: string): Promise<string> =>
    (await host.run({ file: 'dpkg-divert', args: [option, path], effect: 'read' })).stdout.trim();
  const found: GdmFound[] = [];
  for (const script of GDM_SCRIPTS) {
    const path = gdmPath(script);
    const divertedBy = await ask('--listpackage', path);
    const divertedTo = divertedBy === '' ? '' : await ask('--truename', path);
    const [current, aside] = [readTarget(host, path), readTarget(host, asidePath(script))];
    found.push({ script, current, aside, divertedBy, divertedTo });
  }
  return found;
}

/** Whether one of gdm's scripts calls our hooks. */
export function gdmCalls(host: Host): boolean {
  return GDM_SCRIPTS.some(script => callsOurs(readTarget(host, gdmPath(script))?.text ?? '') > 0);
}

/** Whether this gdm runs such scripts at all: version 50 no longer does, and only PAM runs our hook. */
export async function hasGdmScripts(host: Host): Promise<boolean> {
  const args = ['--show', 'gdm3']; // prints "gdm3", a tab and the version
  const { stdout } = await host.run({ file: 'dpkg-query', args, effect: 'read', okCodes: [0, 1] });
  const major = Number(/^gdm3\t(?:\d+:)?(\d+)/.exec(stdout)?.[1] ?? 0);
  return major < 50 && GDM_SCRIPTS.every(s => host.pathType(`${DIRECTORY}/${s}`) === 'dir');
}

/** The scripts of single displays, which gdm runs instead of ours. */
export function gdmWarnings(host: Host): Problem[] {
  return GDM_SCRIPTS.flatMap(s => host.list(`${DIRECTORY}/${s}`).map(name => `${DIRECTORY}/${s}/${name}`))
    .filter(path => /\/:[^/.]*$/.test(path))
    .map(path => ({
      what: `gdm runs ${path} instead of Default on that display, which bypasses Mayfly's hook`,
      fix: `mv ${path} ${path}.off`,
    }));
}
