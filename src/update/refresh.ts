/** Refreshes the working copy: with apt or the administrator's command, then with the scripts in `refresh.d`. */
import type { Config } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import { scriptsIn } from '../linux/run-parts.ts';
import type { Machine } from '../state/machine.ts';
import { type ChrootOptions, forbidServices, runInChroot, workRoot } from './chroot.ts';

/** The file for the configured lines of sources.list(5); it is in the command's own /run. */
const SOURCES = '/run/mayfly-sources.list';

/** Names of the packages that a simulated apt-get(8) call would remove. Pure. */
export function removals(simulation: string): string[] {
  return [...simulation.matchAll(/^Remv (\S+)/gm)].map(m => (m[1] ?? '').replace(/:.*$/, ''));
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
  const options = aptOptions(update);
  const apt = (args: readonly string[], read = false) =>
    runInChroot(on, o, withSources(update.sources, ['apt-get', ...options, ...args]), {
      read,
      name: ['apt-get', ...args].join(' '), // without the options, which would hide the reason of a failure
    });
  // After an interrupted update, in master or in the tree it came from. Only if necessary: it rewrites the database,
  // and then every night would create a generation.
  const audit = await runInChroot(on, o, ['dpkg', '--audit'], { read: true, okCodes: [0, 1] });
  if (
    incompletePackages(audit.stdout).length > 0 ||
    on.host.list(`${tree}/var/lib/dpkg/updates`).length > 0
  ) {
    o.onLine('repairing packages that are not completely installed');
    await runInChroot(on, o, ['dpkg', '--force-confdef', '--force-confold', '--configure', '-a']);
  }
  const guarded = async (...args: string[]): Promise<void> => {
    const { stdout } = await apt(['--simulate', ...args], true);
    const keep = new Set([...update.protect, ...update.packages]);
    const lost = removals(stdout).filter(name => keep.has(name));
    if (lost.length > 0) {
      const what = `"apt-get ${args.join(' ')}" would remove protected packages: ${lost.join(', ')}`;
      throw new MayflyError('update', what, { packages: lost });
    }
    await apt(args);
  };
  await guarded('--fix-broken', 'install'); // it removes what it cannot fix
  await apt(['update']);
  await (update.upgrade === 'full' ? guarded('dist-upgrade') : guarded('--with-new-pkgs', 'upgrade'));
  if (update.packages.length > 0) await guarded('install', ...update.packages);
  await apt(['clean']);
}

/** Passes the lines as arguments to a constant shell script that writes them, so they are never parsed as code. */
function withSources(sources: readonly string[], argv: readonly string[]): string[] {
  if (sources.length === 0) return [...argv];
  const program =
    'file=$1 n=$2; shift 2; while [ "$n" -gt 0 ]; do printf "%s\\n" "$1"; shift; n=$((n-1)); done >"$file"; exec "$@"';
  return ['sh', '-c', program, 'sh', SOURCES, String(sources.length), ...sources, ...argv];
}
