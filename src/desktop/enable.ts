/**
 * `mayfly enable` and `mayfly disable`: telling a display manager of our hooks, and taking it back. What is to be done
 * is planned from what is there, never remembered, so that whatever was cut short is completed by typing it again.
 */

import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { readGeneration, stableNumber } from '../state/generations.ts';
import { withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { isSystemInstance } from '../state/paths.ts';
import { readSessions } from '../state/sessions.ts';
import { ENABLED_MARKER, removePublishedSessions, tryPublishSessions, WRAPPER } from '../update/greeter.ts';
import { ADAPTERS, type Adapter, type AdapterSpec, adapterSpecs } from './adapters/specs.ts';
import { type Change, checkChanges, perform, readTarget, sweepBeside } from './changes.ts';
import { REINSTALL } from './reinstall.ts';
import { DROP_INS, GDM_DROP_IN, isUnit, planDropIns, planReload } from './systemd-drop-ins.ts';

/** What was done, or in a dry run would be. */
export interface Enabled {
  readonly changes: readonly Change[];
  readonly warnings: readonly string[];
}

interface Options {
  /** Plan and tell only. */
  readonly dryRun: boolean;
}

export function isProgram(host: Host, path: string): boolean {
  const s = host.stat(path);
  return s?.kind === 'file' && (s.mode & 0o111) !== 0;
}

/** Refuses where the hooks could not do their work: everybody would be sent away. */
function checkReady(on: Machine, m: AdapterSpec): void {
  const { host, paths } = on;
  if (host.stat(m.program) === undefined) {
    throw new MayflyError('missing-tool', `${m.package} is not installed: there is no "${m.program}"`, {
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
  // Xsession's wrapper and systemd's drop-ins look there, whatever the configuration says.
  if (!isSystemInstance(paths)) {
    throw new MayflyError('refused', `"${paths.run}" is not where desktops look for their session`, {
      path: paths.run,
      hint: 'leave [directories] run at its default on a machine with a display manager',
    });
  }
  const stable = stableNumber(host, paths);
  if (stable === undefined || !readGeneration(host, paths, stable))
    throw new MayflyError('no-stable', 'there is no stable generation, so that every login would be refused');
}

/** Refuses where people are in sessions whose logout needs the hooks. */
function checkEmpty({ host, paths }: Machine, adapters: readonly Adapter[]): void {
  const sessions = readSessions(host, paths)
    .filter(s => s.state !== 'ending' && s.logins.some(l => adapters.some(a => a === l.adapter)))
    .map(s => s.id);
  if (sessions.length === 0) return;
  throw new MayflyError('refused', `there are sessions: ${sessions.join(', ')}`, {
    sessions,
    hint: 'wait until these people have logged out, or end them ("mayfly end"); with --force they are left to mayfly.service',
  });
}

/** Plans and does it, one mayfly at a time. `files` are those that are written. */
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
    for (const path of [ENABLED_MARKER, ...[DROP_INS, GDM_DROP_IN].flatMap(Object.keys), ...files])
      sweepBeside(host, path);
    for (const c of changes) await perform(host, c);
    return changes;
  };
  if (o.dryRun) return act();
  host.mkdir(paths.run, 0o755);
  host.mkdir(paths.locks, 0o700);
  return withLock(host, paths, 'enable', 0, act);
}

/** Has `adapter`'s display manager run our hooks. Safe to repeat; completes what was cut short. */
export async function enable(on: Machine, adapter: Adapter, o: Options): Promise<Enabled> {
  const { host } = on;
  const m = adapterSpecs[adapter];
  checkReady(on, m);
  await m.check(host);
  const changes = await apply(on, o, m.files, async () => {
    const own = await m.planOn(host);
    const directory: Change[] = host.lstat('/etc/mayfly')
      ? []
      : [{ act: 'mkdir', path: '/etc/mayfly', why: 'what Xsession asks for is there' }];
    // Last: from here on Xsession refuses whoever has no session.
    const marker: Change = {
      act: 'write',
      path: ENABLED_MARKER,
      text: '',
      mode: 0o644,
      why: 'Xsession takes desktops inside',
    };
    const inside = planDropIns(host, DROP_INS);
    const entry = readTarget(host, ENABLED_MARKER) ? [] : [...directory, marker];
    // Also where only the marker is missing: an earlier attempt may have died before systemd was told.
    const units = [...own, ...inside].some(c => isUnit(c.path));
    const reload = units || entry.length > 0 ? planReload(host) : [];
    return [...own, ...inside, ...reload, ...entry];
  });
  if (!o.dryRun) await tryPublishSessions(on);
  return { changes, warnings: m.warnings(host) };
}

/**
 * Has `adapter`'s display manager forget our hooks, every file as it was before. Refused while there are sessions of
 * its logins, since the hook is what ends them; `force` leaves them to mayfly.service. Safe to repeat.
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
    // First: without the hooks, Xsession would refuse everybody.
    const marker: Change[] =
      !others && readTarget(host, ENABLED_MARKER)
        ? [{ act: 'remove', path: ENABLED_MARKER, why: 'Xsession leaves desktops on the host' }]
        : [];
    const inside = others ? [] : planDropIns(host, DROP_INS, true);
    const changes = [...marker, ...own, ...inside];
    const all = [...changes, ...(changes.some(c => isUnit(c.path)) ? planReload(host) : [])];
    if (all.length > 0 && !o.force) checkEmpty(on, mine);
    return all;
  });
  if (!o.dryRun && !host.exists(ENABLED_MARKER)) removePublishedSessions(host);
  return { changes, warnings: [] };
}
