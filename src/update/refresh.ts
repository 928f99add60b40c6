/** What makes the working copy newer: apt, the administrator's command, and the scripts in `refresh.d`. */
import type { Config } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import { scriptsIn } from '../linux/run-parts.ts';
import type { Machine } from '../state/machine.ts';
import { type ChrootOptions, forbidServices, runInChroot, workRoot } from './chroot.ts';

/** Lines of sources.list(5) from the configuration stand here, in the command's own /run. */
const SOURCES = '/run/mayfly-sources.list';

/** Names of the packages an apt simulation would remove. */
export function removals(simulation: string): string[] {
  return [...simulation.matchAll(/^Remv (\S+)/gm)].map(m => (m[1] ?? '').replace(/:.*$/, ''));
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

/** Refreshes the copy as configured. What a script or package does to the running system stays in the copy. */
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
    throw new MayflyError(
      'update',
      'there is no apt-get in master; "update.command" names what refreshes it',
    );
  }
  const options = aptOptions(update);
  const apt = (words: readonly string[], read = false) =>
    runInChroot(on, o, withSources(update.sources, ['apt-get', ...options, ...words]), {
      read,
      name: ['apt-get', ...words].join(' '), // the options would hide the reason of a failure
    });
  // An update that was cut short, in master or in the tree it came from. Not without need: it writes the whole
  // database anew, and then every night would make a generation.
  const audit = await runInChroot(on, o, ['dpkg', '--audit'], { read: true, okCodes: [0, 1] });
  if (audit.stdout.trim() !== '' || on.host.list(`${tree}/var/lib/dpkg/updates`).length > 0) {
    o.onLine('repairing packages that are not whole');
    await runInChroot(on, o, ['dpkg', '--force-confdef', '--force-confold', '--configure', '-a']);
  }
  const guarded = async (...words: string[]): Promise<void> => {
    const { stdout } = await apt(['--simulate', ...words], true);
    const keep = new Set([...update.protect, ...update.packages]);
    const lost = removals(stdout).filter(name => keep.has(name));
    if (lost.length > 0) {
      const what = `"apt-get ${words.join(' ')}" would remove ${lost.join(', ')}, which is protected`;
      throw new MayflyError('update', what, { packages: lost });
    }
    await apt(words);
  };
  await guarded('--fix-broken', 'install'); // it removes what it can not fix
  await apt(['update']);
  await (update.upgrade === 'full' ? guarded('dist-upgrade') : guarded('--with-new-pkgs', 'upgrade'));
  if (update.packages.length > 0) await guarded('install', ...update.packages);
  await apt(['clean']);
}

/** The lines go in as arguments; the program that writes them is the same whatever they hold. */
function withSources(sources: readonly string[], argv: readonly string[]): string[] {
  if (sources.length === 0) return [...argv];
  const program =
    'file=$1 n=$2; shift 2; while [ "$n" -gt 0 ]; do printf "%s\\n" "$1"; shift; n=$((n-1)); done >"$file"; exec "$@"';
  return ['sh', '-c', program, 'sh', SOURCES, String(sources.length), ...sources, ...argv];
}
