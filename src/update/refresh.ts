/** Refreshes the working copy: with apt or the administrator's command, then with the scripts in `refresh.d`. */
import type { Config } from '../config/config.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { scriptsIn } from '../linux/run-parts.ts';
import type { Machine } from '../state/machine.ts';
import { updateLists } from './apt-lists.ts';
import { type AptRuns, aptRuns } from './apt-runs.ts';
import { type ChrootOptions, forbidServices, runInChroot, workRoot } from './chroot.ts';
import { oldKernels } from './old-kernels.ts';

/** The file for the configured lines of sources.list(5); it is in the command's own /run. */
const SOURCES = '/run/mayfly-sources.list';

/** Names of the packages that a simulated apt-get(8) call would remove. Pure. */
export function removals(simulation: string): string[] {
  return [...simulation.matchAll(/^(?:Remv|Purg) (\S+)/gm)].map(m => (m[1] ?? '').replace(/:.*$/, ''));
}

/**
 * The packages that `dpkg --audit` names as not completely installed. One without checksums is complete: dpkg only
 * notices that whoever built it left them out. Pure.
 */
export function incompletePackages(audit: string): string[] {
  const sections = audit.split('\n\n').filter(text => !/missing the\s+md5sums/.test(text));
  return [...new Set(sections.flatMap(text => text.match(/^ \S+/gm) ?? []))].map(name => name.trim());
}

/** Options of every apt-get(8) call. */
export function aptOptions(config: Config['update']): string[] {
  const conffiles =
    config.conffiles === 'keep' ? ['--force-confdef', '--force-confold'] : ['--force-confnew'];
  const settings = [
    ...conffiles.map(option => `Dpkg::Options::=${option}`),
    'APT::Get::Assume-Yes=true',
    'APT::Update::Error-Mode=any',
    'Acquire::Retries=3',
    'DPkg::Lock::Timeout=60',
    ...(config.proxy === ''
      ? []
      : [`Acquire::http::Proxy=${config.proxy}`, `Acquire::https::Proxy=${config.proxy}`]),
    ...(config.sources.length === 0
      ? []
      : [`Dir::Etc::SourceList=${SOURCES}`, 'Dir::Etc::SourceParts=/dev/null']),
  ];
  return settings.flatMap(s => ['-o', s]);
}

/**
 * Refreshes the copy as configured. Services are forbidden meanwhile. Throws `command` if a command fails, and
 * `update` if the time is over, if a protected package would be removed, or if the copy has no apt-get.
 */
export async function refresh(on: Machine, o: ChrootOptions): Promise<void> {
  const { host, config } = on;
  const { tree } = o;
  const allowServices = forbidServices(host, tree);
  try {
    if (config.update.command.length > 0) await runInChroot(on, o, config.update.command);
    else await refreshWithApt(on, o, tree);
    for (const script of scriptsIn(host, `${config.directory}/refresh.d`)) {
      o.onLine(`running ${script}`);
      await runInChroot(on, o, [script, workRoot(on)], { chroot: false });
    }
  } finally {
    allowServices();
  }
}

async function refreshWithApt(on: Machine, o: ChrootOptions, tree: string): Promise<void> {
  const { update } = on.config;
  if (!['/usr/bin/apt-get', '/bin/apt-get'].some(path => on.host.lstat(tree + path))) {
    throw new MayflyError('update', 'there is no apt-get in master; set "update.command"');
  }
  const runs = aptRuns(on, o, aptOptions(update));
  if (update.sources.length > 0) runs.useSources({ [SOURCES]: update.sources }, []);
  await completePackages(on, o);
  await updateLists(on, o, runs, update.sources);
  const removed = await guarded(on, runs, ['--fix-broken', 'install']); // it removes what it cannot fix
  if (removed.length > 0)
    o.warn(`packages are removed because their dependencies cannot be had: ${removed.join(', ')}`);
  await upgrade(on, o, runs);
  await installPackages(on, o, runs);
  await removeOldKernels(on, o, runs);
  await runs.run(['clean']);
}

/**
 * Completes an interrupted update, in master or in the tree it came from. Only if necessary: it rewrites the database, and
 * then every night would create a generation. What lacks a dependency gets it from `--fix-broken`, after the lists have
 * been downloaded, and a newer version may mend what fails here; the built-in check has the last word.
 */
async function completePackages(on: Machine, o: ChrootOptions): Promise<void> {
  const audit = await runInChroot(on, o, ['dpkg', '--audit'], { read: true, okCodes: [0, 1] });
  const isInterrupted = on.host.list(`${o.tree}/var/lib/dpkg/updates`).length > 0;
  if (incompletePackages(audit.stdout).length === 0 && !isInterrupted) return;
  o.onLine('repairing packages that are not completely installed');
  try {
    await runInChroot(on, o, ['dpkg', '--force-confdef', '--force-confold', '--configure', '-a']);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
    o.onLine(reasonOf(error));
  }
}

/** Runs apt, unless it would remove something that is protected. Returns what it removes. */
async function guarded(on: Machine, runs: AptRuns, args: readonly string[]): Promise<string[]> {
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

async function upgrade(on: Machine, o: ChrootOptions, runs: AptRuns): Promise<void> {
  const args = on.config.update.upgrade === 'full' ? ['dist-upgrade'] : ['--with-new-pkgs', 'upgrade'];
  try {
    await guarded(on, runs, args);
  } catch (error) {
    const missing = notFetched(error);
    if (missing.length === 0) throw error;
    // A repository has lists of files that it does not have. The others must not wait for it.
    try {
      await guarded(on, runs, ['--fix-missing', ...args]);
    } catch (again) {
      if (notFetched(again).length === 0) throw again; // apt reports it although the others are upgraded
    }
    for (const line of missing) o.warn(`an upgrade is left out: ${line}`);
  }
}

/** What apt could not download, if nothing else has failed. Pure. */
export function notFetched(error: unknown): string[] {
  if (!(error instanceof MayflyError) || error.code !== 'command') return [];
  const lines = String(error.facts.stderr ?? '').split('\n');
  const failures = lines.filter(line => /^(E:|dpkg: error)/.test(line));
  const fetched = failures.filter(line => /^E: (Failed to fetch|Unable to fetch some) /.test(line));
  if (fetched.length < failures.length) return [];
  return fetched.filter(line => line.startsWith('E: Failed')).map(line => line.slice('E: '.length));
}

/**
 * Installs and upgrades the configured packages. One that is held stays as it is: the administrator has said both, and apt
 * would refuse to do anything at all.
 */
async function installPackages(on: Machine, o: ChrootOptions, runs: AptRuns): Promise<void> {
  const { packages } = on.config.update;
  if (packages.length === 0) return;
  try {
    await guarded(on, runs, ['install', ...packages]);
    return;
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
    const { stdout } = await runInChroot(on, o, ['apt-mark', 'showhold'], { read: true });
    const held = stdout.split('\n').filter(Boolean);
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
async function removeOldKernels(on: Machine, o: ChrootOptions, runs: AptRuns): Promise<void> {
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
