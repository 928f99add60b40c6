/**
 * gdm's scripts for our hooks, up to version 49. PreSession/Default and PostSession/Default are conffiles of gdm3, so
 * they are diverted: gdm3's own stands beside ours, upgrades of gdm3 go there, and ours runs it.
 */

import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import type { Problem } from '../../volume/backend.ts';
import { type Change, type Found, readTarget } from '../changes.ts';

export const GDM_HOOKS = '/usr/lib/mayfly/hooks/gdm';

const DIRECTORY = '/etc/gdm3';

/** In the order in which they are put in place: a login that made a session finds the script that ends it. */
export const GDM_SCRIPTS = ['PostSession', 'PreSession'] as const;

export type GdmScript = (typeof GDM_SCRIPTS)[number];

/** What there is of one script. */
export interface GdmFound {
  readonly script: GdmScript;
  readonly current: Found | undefined;
  /** gdm3's own, put aside by us. */
  readonly aside: Found | undefined;
  /** The package that diverts it ("LOCAL" where a person does), and to where. */
  readonly divertedBy: string;
  readonly divertedTo: string;
}

export const gdmPath = (script: GdmScript): string => `${DIRECTORY}/${script}/Default`;

/** gdm looks for names of displays, of hosts, and "Default" only. */
const asidePath = (script: GdmScript): string => `${gdmPath(script)}.before-mayfly`;

/** Ours by its second line. */
const MARK = '# Written by "mayfly enable gdm"';

/**
 * Our script. At login theirs runs first: where it fails gdm gives the login up and never runs PostSession, so that
 * nothing would end a session made before it. At logout ours runs whatever theirs says. The last program is exec'ed:
 * the hook knows a login by its parent, which must be gdm's worker. Where Mayfly is gone there is nothing to run, and
 * Xsession asks for no session either.
 */
export function renderGdm(script: GdmScript): string {
  const onFailure = script === 'PreSession' ? ' || exit' : '';
  return `#!/bin/sh
${MARK} and removed by "mayfly disable gdm"; not to be changed.
# What gdm3 or you had here is ${asidePath(script)}; it runs first, if gdm would have run it.
theirs=${asidePath(script)}
if [ -f "$theirs" ] && [ -x "$theirs" ]; then "$theirs" "$@"${onFailure}; fi
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
    throw new MayflyError('refused', `"${path}" is diverted already, to "${f.divertedTo}"`, {
      hint: `dpkg-divert --list ${path}`,
    });
  }
  if (!f.current || isOurs(f.current)) return;
  if (f.aside) {
    throw new MayflyError('refused', `both "${path}" and "${aside}" are there, and neither is Mayfly's`, {
      hint: 'remove the one that is not wanted, then type it again',
    });
  }
  const line = callsOurs(f.current.text);
  if (line > 0) {
    throw new MayflyError('refused', `"${path}" calls Mayfly's hook by hand, in line ${line}`, {
      hint: 'take out that line, then type it again',
    });
  }
}

/** What is to be done for gdm to run our hooks. */
export function planGdmOn(found: readonly GdmFound[]): Change[] {
  found.forEach(check);
  return GDM_SCRIPTS.flatMap(script => found.filter(f => f.script === script)).flatMap(f => {
    const path = gdmPath(f.script);
    const to = asidePath(f.script);
    const text = renderGdm(f.script);
    const mine = isOurs(f.current);
    const changes: Change[] = [];
    if (f.divertedBy === '') changes.push({ act: 'divert', path, to, why: 'upgrades of gdm3 go there' });
    if (f.current && !mine) changes.push({ act: 'rename', path, to, why: 'what is there stays, as it is' });
    if (!mine || f.current?.text !== text || f.current.mode !== 0o755) {
      const when = f.script === 'PreSession' ? 'login' : 'logout';
      changes.push({
        act: 'write',
        path,
        text,
        mode: 0o755,
        why: `runs what was there, then the ${when} hook`,
      });
    }
    return changes;
  });
}

/** What is to be done for gdm to forget them; backwards, so that no login makes what no logout would end. */
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
        changes.push({ act: 'rename', path: to, to: path, why: 'what was there is back, as it was' });
      else if (f.current && isOurs(f.current))
        changes.push({ act: 'remove', path, why: 'there was none before' });
      if (f.divertedBy === 'mayfly') changes.push({ act: 'undivert', path, to, why: 'it is gdm3’s again' });
      return changes;
    });
}

/** What there is of gdm's scripts. */
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

/** Whether this gdm runs such scripts at all: version 50 no longer does, and has PAM's line alone. */
export async function hasGdmScripts(host: Host): Promise<boolean> {
  const args = ['--show', 'gdm3']; // says "gdm3", a tab and the version
  const { stdout } = await host.run({ file: 'dpkg-query', args, effect: 'read', okCodes: [0, 1] });
  const major = Number(/^gdm3\t(?:\d+:)?(\d+)/.exec(stdout)?.[1] ?? 0);
  return major < 50 && GDM_SCRIPTS.every(s => host.pathType(`${DIRECTORY}/${s}`) === 'dir');
}

/** What in gdm's settings lets people past the hooks. */
export function gdmWarnings(host: Host): Problem[] {
  return GDM_SCRIPTS.flatMap(s => host.list(`${DIRECTORY}/${s}`).map(name => `${DIRECTORY}/${s}/${name}`))
    .filter(path => /\/:[^/.]*$/.test(path))
    .map(path => ({
      what: `gdm runs ${path} instead of Default at that display, and so not Mayfly's hook`,
      fix: `mv ${path} ${path}.off`,
    }));
}
