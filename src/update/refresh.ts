/** Refreshes the working copy: with apt or the administrator's command, then with the scripts in `refresh.d`. */
import type { Config } from '../config/config.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { scriptsIn } from '../linux/run-parts.ts';
import type { Machine } from '../state/machine.ts';
import { updateLists } from './apt-lists.ts';
import { aptRuns } from './apt-runs.ts';
import { type ChrootOptions, forbidServices, runInChroot, workRoot } from './chroot.ts';
import { describeHeld, withoutHeldBack } from './held-back.ts';
import { guarded, installPackages, removeOldKernels, upgrade } from './upgrade.ts';

/** The file for the configured lines of sources.list(5); it is in the command's own /run. */
const SOURCES = '/run/mayfly-sources.list';

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
    'APT::Get::Allow-Downgrades=true', // apt only wants it where a pin above 1000 does
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
 * Refreshes the copy as configured. Services are forbidden meanwhile. What came with a demoted generation is left out
 * unless `allowDemoted`. Throws `command` if a command fails, and
 * `update` if the time is over, if a protected package would be removed, or if the copy has no apt-get.
 */
export async function refresh(on: Machine, o: ChrootOptions, allowDemoted = false): Promise<void> {
  const { host, config } = on;
  const { tree } = o;
  const allowServices = forbidServices(host, tree);
  try {
    const run = async (): Promise<void> => {
      if (config.update.command.length > 0) await refreshWithCommand(on, o, config.update.command);
      else await refreshWithApt(on, o, tree);
      for (const script of scriptsIn(host, `${config.directory}/refresh.d`)) {
        o.onLine(`running ${script}`);
        await runInChroot(on, o, [script, workRoot(on)], { chroot: false });
      }
    };
    if (allowDemoted) return await run();
    const held = await withoutHeldBack(on, tree, run);
    if (held.length > 0) o.warn(describeHeld(held));
  } finally {
    allowServices();
  }
}

/**
 * Runs the administrator's command. If it is apt, it would refuse all work in a tree in which dpkg was interrupted, and
 * tell people to run dpkg on the host.
 */
async function refreshWithCommand(on: Machine, o: ChrootOptions, command: readonly string[]): Promise<void> {
  const isDebian = ['/usr/bin/dpkg', '/var/lib/dpkg/status'].every(
    path => on.host.lstat(o.tree + path)?.kind === 'file',
  );
  if (isDebian) await completePackages(on, o);
  await runInChroot(on, o, command);
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
