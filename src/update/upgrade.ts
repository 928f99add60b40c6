/**
 * Upgrades and installs packages in the working copy. Whatever apt refuses to do for one package must not keep the others
 * from their security fixes: it is left out and named.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import type { Machine } from '../state/machine.ts';
import type { AptRuns } from './apt-runs.ts';
import { type ChrootOptions, runInChroot } from './chroot.ts';
import { oldKernels } from './old-kernels.ts';

/** Names of the packages that a simulated apt-get(8) call would remove. Pure. */
export function removals(simulation: string): string[] {
  return [...simulation.matchAll(/^(?:Remv|Purg) (\S+)/gm)].map(m => (m[1] ?? '').replace(/:.*$/, ''));
}

/** Runs apt, unless it would remove something that is protected. Returns what it removes. */
export async function guarded(on: Machine, runs: AptRuns, args: readonly string[]): Promise<string[]> {
  const { update } = on.config;
  const removed = removals(await runs.run(['--simulate', ...args], true));
  const keep = new Set([...update.protect, ...update.packages]);
  const lost = removed.filter(name => keep.has(name));
  if (lost.length > 0) {
    const what = `"apt-get ${args.join(' ')}" would remove protected packages: ${lost.join(', ')}`;
    throw new MayflyError('update', what, { packages: lost });
  }
  await runs.run(args);
  return removed;
}

export async function upgrade(on: Machine, o: ChrootOptions, runs: AptRuns): Promise<void> {
  const isFull = on.config.update.upgrade === 'full';
  const waiting = new Set<string>(); // held for this update only
  try {
    for (let args = isFull ? FULL : SAFE; ; ) {
      try {
        await guarded(on, runs, args);
        break;
      } catch (error) {
        const unsigned = unauthenticated(error).filter(name => !waiting.has(name));
        if (unsigned.length > 0) {
          o.warn(`not upgraded, because their repository is not signed: ${unsigned.join(', ')}`);
          await hold(on, o, 'hold', unsigned);
          for (const name of unsigned) waiting.add(name);
        } else if (args === FULL && removesEssential(error)) {
          o.warn(`packages are only upgraded where nothing is removed for it: ${reasonOf(error)}`);
          args = SAFE;
        } else if (!args.includes('--fix-missing') && notFetched(error).length > 0) {
          // A repository has lists of files that it does not have. The others must not wait for it.
          for (const line of notFetched(error)) o.warn(`an upgrade is left out: ${line}`);
          args = ['--fix-missing', ...args];
        } else if (notFetched(error).length > 0) {
          break; // apt reports it again although the others are upgraded
        } else throw error;
      }
    }
  } finally {
    if (waiting.size > 0) await hold(on, o, 'unhold', [...waiting]);
  }
  await nameKeptBack(on, o, runs, isFull ? FULL : SAFE, waiting);
}

const FULL: readonly string[] = ['dist-upgrade'];
const SAFE: readonly string[] = ['--with-new-pkgs', 'upgrade'];

async function hold(
  on: Machine,
  o: ChrootOptions,
  how: 'hold' | 'unhold',
  names: readonly string[],
): Promise<void> {
  await runInChroot(on, o, ['apt-mark', how, ...names]);
}

/** The output of a command that has failed; empty for another error. */
const outputOf = (error: unknown): string =>
  error instanceof MayflyError && error.code === 'command' ? String(error.facts.stderr ?? '') : '';

/** The packages that apt refuses to install because nobody has signed them. Pure. */
export function unauthenticated(error: unknown): string[] {
  const output = outputOf(error);
  if (!/^E: There were unauthenticated packages/m.test(output)) return [];
  return listAfter(output, /^WARNING: The following packages cannot be authenticated!$/);
}

/** Whether apt refuses to remove what a system needs. Pure. */
export function removesEssential(error: unknown): boolean {
  return /^E: (Essential packages were removed|Removing essential system-critical packages)/m.test(
    outputOf(error),
  );
}

/** The names in the indented lines after a heading of apt. Pure. */
export function listAfter(output: string, heading: RegExp): string[] {
  const lines = output.split('\n');
  const start = lines.findIndex(line => heading.test(line));
  if (start < 0) return [];
  const after = lines.slice(start + 1);
  const end = after.findIndex(line => !line.startsWith(' '));
  return after.slice(0, end < 0 ? undefined : end).flatMap(line => line.split(/\s+/).filter(Boolean));
}

/** Names packages that apt does not upgrade, except those that the administrator holds. */
async function nameKeptBack(
  on: Machine,
  o: ChrootOptions,
  runs: AptRuns,
  args: readonly string[],
  known: ReadonlySet<string>,
): Promise<void> {
  const simulation = await runs.run(['--simulate', ...args], true);
  const kept = listAfter(simulation, /^The following packages have been kept back:$/);
  const deferred = listAfter(simulation, /^The following upgrades have been deferred due to phasing:$/);
  if (deferred.length > 0) o.onLine(`not upgraded yet, as their origin wants it: ${deferred.join(', ')}`);
  if (kept.length === 0) return;
  const held = new Set([...(await heldPackages(on, o)), ...known]);
  const others = kept.filter(name => !held.has(name.replace(/:.*$/, '')) && !held.has(name));
  if (others.length > 0) o.warn(`packages are kept back by apt: ${others.join(', ')}`);
}

async function heldPackages(on: Machine, o: ChrootOptions): Promise<string[]> {
  const { stdout } = await runInChroot(on, o, ['apt-mark', 'showhold'], { read: true });
  return stdout.split('\n').filter(Boolean);
}

/** What apt could not download, if nothing else has failed. Pure. */
export function notFetched(error: unknown): string[] {
  const lines = outputOf(error).split('\n');
  const failures = lines.filter(line => /^(E:|dpkg: error)/.test(line));
  const fetched = failures.filter(line => /^E: (Failed to fetch|Unable to fetch some) /.test(line));
  if (fetched.length < failures.length) return [];
  return fetched.filter(line => line.startsWith('E: Failed')).map(line => line.slice('E: '.length));
}

/**
 * Installs and upgrades the configured packages. One that is held stays as it is: the administrator has said both, and apt
 * would refuse to do anything at all.
 */
export async function installPackages(on: Machine, o: ChrootOptions, runs: AptRuns): Promise<void> {
  const { packages } = on.config.update;
  if (packages.length === 0) return;
  try {
    await guarded(on, runs, ['install', ...packages]);
    return;
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
    const held = await heldPackages(on, o);
    const asked = packages.filter(name => held.includes(name));
    if (held.length === 0) throw error;
    if (asked.length > 0) o.warn(`packages are held and stay as they are: ${asked.join(', ')}`);
    const rest = packages.filter(name => !asked.includes(name));
    if (rest.length > 0) await installMissing(on, o, runs, rest, held);
  }
}

/** Installs packages; if that would change a held one, only those that are not installed. */
async function installMissing(
  on: Machine,
  o: ChrootOptions,
  runs: AptRuns,
  packages: readonly string[],
  held: readonly string[],
): Promise<void> {
  try {
    await guarded(on, runs, ['install', ...packages]);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
    const query = ['dpkg-query', '-W', '-f', `\${Package} \${db:Status-Status}\n`, '--', ...packages];
    const { stdout } = await runInChroot(on, o, query, { read: true, okCodes: [0, 1] });
    const there = new Set(stdout.split('\n').flatMap(row => /^(\S+) installed$/.exec(row)?.[1] ?? []));
    const missing = packages.filter(name => !there.has(name));
    if (missing.length === packages.length) throw error;
    if (missing.length > 0) await guarded(on, runs, ['install', ...missing]);
    const old = packages.filter(name => there.has(name));
    o.warn(`some of ${old.join(', ')} cannot be upgraded while packages are held: ${held.join(', ')}`);
  }
}

/** Removes kernels that apt would remove. A failure is no reason to go without the rest of the update. */
export async function removeOldKernels(on: Machine, o: ChrootOptions, runs: AptRuns): Promise<void> {
  const { update } = on.config;
  const keep = new Set([...update.protect, ...update.packages]);
  try {
    const old = oldKernels(removals(await runs.run(['--simulate', 'autoremove'], true)), keep);
    if (old.length === 0) return;
    const all = removals(await runs.run(['--simulate', 'purge', ...old], true));
    const others = all.filter(name => !old.includes(name));
    if (others.length > 0) {
      o.warn(`old kernels are kept: with ${old.join(', ')}, apt would remove ${others.join(', ')}`);
      return;
    }
    o.onLine(`removing old kernels: ${old.join(', ')}`);
    await runs.run(['purge', ...old]);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
    o.warn(`old kernels are not removed: ${reasonOf(error)}`);
  }
}
