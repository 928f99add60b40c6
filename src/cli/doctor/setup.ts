/** Programs, the configuration, and the owners of files and directories. */
import { EXIT, installHint } from '../../advice.ts';
import { type Config, DEFAULT_CONFIG_FILE } from '../../config/config.ts';
import { cacheKey, cachePath, readCache } from '../../config/load.ts';
import { ADAPTERS, type Adapter, adapterSpecs } from '../../desktop/adapters/specs.ts';
import { isProgram } from '../../desktop/enable.ts';
import { MayflyError } from '../../errors.ts';
import { TOOL_PATH } from '../../linux/command.ts';
import type { Host, Stat } from '../../linux/host.ts';
import { readPool } from '../../state/pool.ts';
import { programsFor } from '../../update/host-update.ts';
import type { BackendKind } from '../../volume/backend.ts';
import {
  type CheckResult,
  check,
  type Finding,
  fine,
  found,
  problem,
  type Subject,
  warning,
} from './check.ts';
import { scriptChecks } from './scripts.ts';

/** The oldest supported version of Node.js, as in package.json. */
const NODE = [18, 19] as const;

/** Evaluates the output of `node --version`; undefined if node is not in the PATH of the hooks. */
export function judgeNode(version: string | undefined): CheckResult {
  if (version === undefined) return found([problem('"node" is not installed', installHint('node'))], '');
  const [, major = 0, minor = 0] = (/^v(\d+)\.(\d+)/.exec(version) ?? []).map(Number);
  const old = major < NODE[0] || (major === NODE[0] && minor < NODE[1]);
  const what = `Node.js ${version} is too old: ${NODE.join('.')} or later is required`;
  return found(old ? [problem(what, installHint('node'))] : [], version);
}

/** The programs that this machine needs, and those that are missing. */
export interface Tools {
  readonly backend: BackendKind;
  readonly systemd: boolean;
  readonly adapters: readonly Adapter[];
  /** The programs that nightly updates run on the host, by the configuration. */
  readonly host: readonly string[];
  readonly missing: ReadonlySet<string>;
  readonly schroot: Pick<Stat, 'uid' | 'mode'> | undefined;
}

/** Needed on every machine, besides the essential packages of Debian. */
const ALWAYS = [
  ...['schroot', 'perl', 'mount', 'umount', 'losetup', 'flock', 'findmnt', 'getent'],
  ...['setpriv', 'unshare', 'logger', 'chattr', 'busybox'],
];

const DIALOGS = ['zenity', 'xmessage'];

export function judgeTools(t: Tools): CheckResult {
  const needed = [
    ...ALWAYS,
    ...(t.backend === 'btrfs' ? ['btrfs', 'mkfs.btrfs'] : []),
    ...(t.systemd ? ['systemctl', 'systemd-notify'] : []),
    ...(t.adapters.includes('gdm') ? ['dpkg-divert'] : []),
    ...t.host,
  ];
  const findings: Finding[] = needed
    .filter(tool => t.missing.has(tool))
    .map(tool => problem(`the program "${tool}" is missing`, installHint(tool)));
  if (t.schroot && (t.schroot.uid !== 0 || (t.schroot.mode & 0o4000) === 0))
    findings.push(problem('schroot is not setuid root: no logins work', 'apt install --reinstall schroot'));
  if (t.adapters.includes('lightdm') && DIALOGS.every(tool => t.missing.has(tool)))
    findings.push(
      warning('zenity and xmessage are missing: a refused login shows no reason', installHint('zenity')),
    );
  return found(findings, `all ${needed.length} are installed`);
}

function findTool(host: Host, tool: string): string | undefined {
  return TOOL_PATH.split(':')
    .map(directory => `${directory}/${tool}`)
    .find(path => isProgram(host, path));
}

/** The adapters whose display manager's settings call our hooks. */
export function adaptersIn(host: Host): Adapter[] {
  return ADAPTERS.filter(a => adapterSpecs[a].calls(host));
}

function gatherTools({ host, paths, config }: Subject): Tools {
  const asked = programsFor(config.host);
  const sometimes = ['btrfs', 'mkfs.btrfs', 'systemctl', 'systemd-notify', 'dpkg-divert', ...asked];
  const all = [...ALWAYS, ...DIALOGS, ...sometimes];
  const schroot = findTool(host, 'schroot');
  return {
    backend: readPool(host, paths)?.backend ?? config.pool.backend,
    systemd: host.exists('/run/systemd/system'),
    adapters: adaptersIn(host),
    host: asked,
    missing: new Set(all.filter(tool => findTool(host, tool) === undefined)),
    schroot: schroot === undefined ? undefined : host.stat(schroot),
  };
}

/** A file or directory that decides what root does. `secret`: users other than root must not read it either. */
export interface Owned {
  readonly path: string;
  readonly stat: Pick<Stat, 'uid' | 'mode'> | undefined;
  readonly secret?: boolean;
}

export function owned(host: Host, path: string, secret = false): Owned {
  return { path, stat: host.stat(path), secret };
}

/** Findings about the owner and mode of a file; none if it is absent. */
export function judgeOwner({ path, stat, secret }: Owned): Finding[] {
  if (!stat) return [];
  const findings: Finding[] = [];
  if (stat.uid !== 0)
    findings.push(problem(`"${path}" belongs to uid ${stat.uid}, not to root`, `chown root: ${path}`));
  if ((stat.mode & (secret ? 0o077 : 0o022)) !== 0) {
    const what = `"${path}" is ${secret ? 'accessible to' : 'writable by'} users other than root`;
    // A directory that users share, such as /tmp, must stay writable.
    const fix = secret ? 'chmod go=' : stat.mode & 0o1000 ? 'move the files out of' : 'chmod go-w';
    findings.push(problem(what, `${fix} ${path}`));
  }
  return findings;
}

/** A warning if a user cannot read a configuration file: the session wrapper runs "mayfly scope" as the user. */
export function judgeReadable({ path, stat }: { path: string; stat: Stat | undefined }): Finding[] {
  const need = stat?.kind === 'dir' ? 0o005 : 0o004;
  if (!stat || (stat.mode & need) === need) return [];
  const what = `"${path}" is not readable by all users: the session wrapper cannot tell whether a user gets a session`;
  return [warning(what, `chmod o+r${stat.kind === 'dir' ? 'x' : ''} ${path}`)];
}

/** A problem with file, line and hint if the configuration is invalid. */
export function judgeConfig(
  f: Pick<Subject, 'invalid' | 'isGuess'> & { files: readonly string[] },
): CheckResult {
  if (!f.invalid)
    return fine(
      f.files.length === 0 ? 'no configuration file: all options have their defaults' : f.files.join(', '),
    );
  const { file, line, hint } = f.invalid instanceof MayflyError ? f.invalid.facts : {};
  const what = `${f.invalid.message}${hint === undefined ? '' : ` (${hint})`}; ${f.isGuess ? 'logins are refused' : 'the last valid one is used'}`;
  const fix = line === undefined ? String(hint ?? 'mayfly config') : `sensible-editor +${line} ${file}`;
  return found([problem(what, fix, EXIT.config)], '');
}

/** The cached configuration, and that of the files. */
export interface Cached {
  readonly path: string;
  readonly there: boolean;
  /** Undefined if it cannot be trusted. */
  readonly cache: { readonly key: string; readonly config: Config } | undefined;
  readonly key: string;
  readonly config: Config | undefined;
}

export function judgeCache(c: Cached): CheckResult {
  if (!c.there) return fine('the next login creates it');
  if (!c.cache) {
    const what = `"${c.path}" cannot be trusted: it is corrupt, or users other than root could have written it`;
    return found([warning(what, `rm ${c.path}`)], '');
  }
  if (c.cache.key !== c.key) return fine('outdated; the next login replaces it');
  const same = c.config === undefined || JSON.stringify(c.config) === JSON.stringify(c.cache.config);
  const what = `logins use "${c.path}", which differs from the configuration files: one was changed but kept its time and size`;
  return found(same ? [] : [problem(what, `rm ${c.path}`)], 'up to date');
}

const PROGRAMS = 'programs';

const CONFIGURATION = 'configuration';

export const setupChecks = [
  check({
    group: PROGRAMS,
    title: 'Node.js',
    async gather({ host }) {
      try {
        return (await host.run({ file: 'node', args: ['--version'], effect: 'read' })).stdout.trim();
      } catch (error) {
        if (error instanceof MayflyError && error.code === 'missing-tool') return undefined;
        throw error;
      }
    },
    evaluate: judgeNode,
  }),
  check({ group: PROGRAMS, title: 'tools', gather: gatherTools, evaluate: judgeTools }),
  check({
    group: CONFIGURATION,
    title: 'valid',
    gather: ({ invalid, isGuess = false, config }) => ({ invalid, isGuess, files: config.files }),
    evaluate: judgeConfig,
  }),
  check({
    group: CONFIGURATION,
    title: 'files',
    gather: ({ host, file, config }) =>
      [...new Set([file.slice(0, file.lastIndexOf('/')), ...config.files, file])]
        .concat(`${config.directory}/conf.d`)
        .map(path => ({ path, stat: host.stat(path) })),
    evaluate: files =>
      found(
        files.flatMap(f => [...judgeOwner(f), ...judgeReadable(f)]),
        'writable only by root, readable by all users',
      ),
  }),
  check({
    group: CONFIGURATION,
    title: 'cache',
    gather: ({ host, file, invalid, config }): Cached => ({
      path: cachePath(file),
      there: host.lstat(cachePath(file)) !== undefined,
      cache: readCache(host, cachePath(file)),
      key: cacheKey(host, file),
      config: invalid ? undefined : config,
    }),
    evaluate: judgeCache,
  }),
  ...scriptChecks,
  check({
    group: CONFIGURATION,
    title: 'directories',
    gather: ({ host, paths }) => [
      ...[paths.run, paths.users].map(path => owned(host, path)),
      ...[paths.state, paths.generations, paths.sessions, paths.roots, paths.locks].map(path =>
        owned(host, path, true),
      ),
    ],
    evaluate: all =>
      found(all.flatMap(judgeOwner), 'owned by root; state and mount points are accessible to root only'),
  }),
];

/** Whether systemd's units and the cron job use this configuration; they use no other file than the default. */
export const isDefault = (on: Subject): boolean => on.file === DEFAULT_CONFIG_FILE;
