/**
 * `mayfly enable` and `mayfly disable`: they add our hooks to the configuration of a display manager, and remove them.
 * The changes are always planned from the files as they are, so repeating the command completes an interrupted run.
 */
import { SYSTEM_RUN } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { readGeneration, stableNumber } from '../state/generations.ts';
import { withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { ENABLED_MARKER, isSystemInstance } from '../state/paths.ts';
import { readSessions } from '../state/sessions.ts';
import { removePublishedSessions, tryPublishSessions, WRAPPER } from '../update/greeter.ts';
import { ADAPTERS, type Adapter, type AdapterSpec, adapterOf, adapterSpecs } from './adapters/specs.ts';
import { type Change, checkChanges, perform, readTarget, sweepBeside } from './changes.ts';
import { LINGER_RULE, planLingerOff, planLingerOn } from './linger-rule.ts';
import { NAMESPACE_FILES, planNamespacesOff, planNamespacesOn } from './pam-namespace.ts';
import { REINSTALL } from './reinstall.ts';
import { DROP_INS, GDM_DROP_IN, isUnit, planDropIns, planReload } from './systemd-drop-ins.ts';

/** The changes that were made, or in a dry run would be made. */
export interface Enabled {
  readonly changes: readonly Change[];
  readonly warnings: readonly string[];
}

interface Options {
  /** Plan the changes without making them. */
  readonly dryRun: boolean;
}

/** Whether `path` is an executable file. */
export function isProgram(host: Host, path: string): boolean {
  const s = host.stat(path);
  return s?.kind === 'file' && (s.mode & 0o111) !== 0;
}

/** Throws if the hooks could not work, because then all logins would be refused. */
function checkReady(on: Machine, m: AdapterSpec): void {
  const { host, paths } = on;
  if (host.stat(m.program) === undefined) {
    throw new MayflyError('missing-tool', `${m.package} is not installed: "${m.program}" does not exist`, {
      tool: m.package,
    });
  }
  const broken = [...m.hooks, WRAPPER].find(path => !isProgram(host, path));
  if (broken !== undefined) {
    throw new MayflyError('refused', `"${broken}" is missing or not executable`, {
      path: broken,
      hint: REINSTALL,
    });
  }
  // The session wrapper and systemd's drop-ins use this path whatever the configuration says.
  if (!isSystemInstance(paths)) {
    throw new MayflyError(
      'refused',
      `"directories.run" is "${paths.run}", but desktops look for their session in "${SYSTEM_RUN}"`,
      {
        path: paths.run,
        hint: 'remove the option "directories.run" from the configuration',
      },
    );
  }
  const stable = stableNumber(host, paths);
  if (stable === undefined || !readGeneration(host, paths, stable))
    throw new MayflyError('no-stable', 'there is no stable generation, so all logins would be refused');
}

/** Throws `refused` if there are sessions whose logout needs the hooks. */
function checkEmpty({ host, paths }: Machine, adapters: readonly Adapter[]): void {
  const sessions = readSessions(host, paths)
    .filter(s => s.state !== 'ending' && s.logins.some(l => adapters.some(a => a === adapterOf(host, l))))
    .map(s => s.id);
  if (sessions.length === 0) return;
  throw new MayflyError('refused', `there are sessions: ${sessions.join(', ')}`, {
    sessions,
    hint: 'wait until these users have logged out, or end the sessions ("mayfly end"); with --force, mayfly.service ends them after logout',
  });
}

/** The changes that every adapter needs: what systemd and PAM start for users runs in their sessions. */
export function planInside(host: Host): Change[] {
  return [...planNamespacesOn(host), ...planDropIns(host, DROP_INS), ...planLingerOn(host)];
}

/** The changes that take them back. */
export function planInsideOff(host: Host): Change[] {
  return [...planNamespacesOff(host), ...planDropIns(host, DROP_INS, true), ...planLingerOff(host)];
}

/** Plans the changes and makes them under a lock. `files`: the paths that may be written. Throws `locked`. */
async function apply(
  on: Machine,
  o: Options,
  files: readonly string[],
  plan: () => Promise<Change[]>,
): Promise<Change[]> {
  const { host, paths } = on;
  const act = async (): Promise<Change[]> => {
    const changes = await plan();
    checkChanges(host, changes);
    if (o.dryRun) return changes;
    const all = [DROP_INS, GDM_DROP_IN].flatMap(Object.keys);
    for (const path of [ENABLED_MARKER, LINGER_RULE, ...NAMESPACE_FILES, ...all, ...files])
      sweepBeside(host, path);
    for (const c of changes) await perform(host, c);
    return changes;
  };
  if (o.dryRun) return act();
  host.mkdir(paths.run, 0o755);
  host.mkdir(paths.locks, 0o700);
  return withLock(host, paths, 'enable', 0, act);
}

/**
 * Has `adapter`'s display manager run our hooks. Safe to repeat; completes an interrupted run. Throws `missing-tool`
 * without the display manager, `no-stable` without a stable generation, `refused` or `unsafe` if its configuration does
 * not allow it, `locked` while another mayfly does the same.
 */
export async function enable(on: Machine, adapter: Adapter, o: Options): Promise<Enabled> {
  const { host } = on;
  const m = adapterSpecs[adapter];
  checkReady(on, m);
  await m.check(host);
  const changes = await apply(on, o, m.files, async () => {
    const own = await m.planOn(host);
    const directory: Change[] = host.lstat('/etc/mayfly')
      ? []
      : [{ act: 'mkdir', path: '/etc/mayfly', why: 'the file that Xsession looks for is there' }];
    // Last: from here on Xsession refuses users without a session.
    const marker: Change = {
      act: 'write',
      path: ENABLED_MARKER,
      text: '',
      mode: 0o644,
      why: 'Xsession runs desktops in their sessions',
    };
    const inside = planInside(host);
    const entry = readTarget(host, ENABLED_MARKER) ? [] : [...directory, marker];
    // Also if only the marker is missing: an earlier run may have been interrupted before systemd reloaded its units.
    const units = [...own, ...inside].some(c => isUnit(c.path));
    const reload = units || entry.length > 0 ? planReload(host) : [];
    return [...own, ...inside, ...reload, ...entry];
  });
  if (!o.dryRun) await tryPublishSessions(on);
  return { changes, warnings: m.warnings(host) };
}

/**
 * Removes our hooks from the configuration of `adapter`'s display manager and restores all files. Throws `refused` while
 * there are sessions of its logins, because the hook ends them; with `force`, mayfly.service ends them. Also throws
 * `unsafe` and `locked`. Safe to repeat.
 */
export async function disable(
  on: Machine,
  adapter: Adapter,
  o: Options & { readonly force: boolean },
): Promise<Enabled> {
  const { host } = on;
  const m = adapterSpecs[adapter];
  const changes = await apply(on, o, m.files, async () => {
    const own = await m.planOff(host);
    const mine: readonly Adapter[] = [adapter, ...m.through];
    const others = ADAPTERS.filter(a => !mine.includes(a)).some(a => adapterSpecs[a].calls(host));
    // First: without the hooks, Xsession would refuse all users.
    const marker: Change[] =
      !others && readTarget(host, ENABLED_MARKER)
        ? [{ act: 'remove', path: ENABLED_MARKER, why: 'Xsession runs desktops on the host' }]
        : [];
    const inside = others ? [] : planInsideOff(host);
    const changes = [...marker, ...own, ...inside];
    const all = [...changes, ...(changes.some(c => isUnit(c.path)) ? planReload(host) : [])];
    if (all.length > 0 && !o.force) checkEmpty(on, mine);
    return all;
  });
  if (!o.dryRun && !host.exists(ENABLED_MARKER)) removePublishedSessions(host);
  return { changes, warnings: [] };
}
