/** Programs, the configuration, and whose the files and directories are. */
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

/** The oldest Node.js the program runs on, as in package.json. */
const NODE = [18, 19] as const;

/** Judges what `node --version` says; undefined where the hooks find none. */
export function judgeNode(version: string | undefined): CheckResult {
  if (version === undefined) return found([problem('"node" is not installed', installHint('node'))], '');
  const [, major = 0, minor = 0] = (/^v(\d+)\.(\d+)/.exec(version) ?? []).map(Number);
  const old = major < NODE[0] || (major === NODE[0] && minor < NODE[1]);
  const what = `Node.js ${version} is too old: ${NODE.join('.')} is needed`;
  return found(old ? [problem(what, installHint('node'))] : [], version);
}

/** What there is to run, and what is run. */
export interface Tools {
  readonly backend: BackendKind;
  readonly systemd: boolean;
  readonly adapters: readonly Adapter[];
  /** What the configuration has run on the host by itself. */
  readonly host: readonly string[];
  readonly missing: ReadonlySet<string>;
  readonly schroot: Pick<Stat, 'uid' | 'mode'> | undefined;
}

/** Besides what is essential in every Debian. */
const ALWAYS = [
  ...['schroot', 'perl', 'mount', 'umount', 'losetup', 'flock', 'findmnt', 'getent'],
  ...['setpriv', 'unshare', 'logger', 'chattr'],
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
    findings.push(
      problem('schroot is not setuid root: nobody gets inside', 'apt install --reinstall schroot'),
    );
  if (t.adapters.includes('lightdm') && DIALOGS.every(tool => t.missing.has(tool)))
    findings.push(
      warning('without zenity or xmessage nobody is told why a login is refused', installHint('zenity')),
    );
  return found(findings, `all ${needed.length} are there`);
}

function findTool(host: Host, tool: string): string | undefined {
  return TOOL_PATH.split(':')
    .map(directory => `${directory}/${tool}`)
    .find(path => isProgram(host, path));
}

/** The display managers whose settings name our hooks. */
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

/** A file or directory that decides what root does; `secret`: others must not even look. */
export interface Owned {
  readonly path: string;
  readonly stat: Pick<Stat, 'uid' | 'mode'> | undefined;
  readonly secret?: boolean;
}

export function owned(host: Host, path: string, secret = false): Owned {
  return { path, stat: host.stat(path), secret };
}

/** What is wrong with whose it is; nothing where it is absent. */
export function judgeOwner({ path, stat, secret }: Owned): Finding[] {
  if (!stat) return [];
  const findings: Finding[] = [];
  if (stat.uid !== 0)
    findings.push(problem(`"${path}" belongs to uid ${stat.uid}, not to root`, `chown root: ${path}`));
  if ((stat.mode & (secret ? 0o077 : 0o022)) !== 0) {
    const what = `"${path}" can be ${secret ? 'looked into' : 'changed'} by others than root`;
    findings.push(problem(what, `chmod ${secret ? 'go=' : 'go-w'} ${path}`));
  }
  return findings;
}

/**
 * A source that its readers can not read. The wrapper of a session that is not there asks as the person, with
 * "mayfly scope", whether they are to have one.
 */
export function judgeReadable({ path, stat }: { path: string; stat: Stat | undefined }): Finding[] {
  const need = stat?.kind === 'dir' ? 0o005 : 0o004;
  if (!stat || (stat.mode & need) === need) return [];
  const what = `"${path}" can not be read by everybody: who is to have a session can not be told to the person's own programs`;
  return [warning(what, `chmod o+r${stat.kind === 'dir' ? 'x' : ''} ${path}`)];
}

/** The configuration's validity, with file, line and hint where it is not valid. */
export function judgeConfig(f: { invalid: Error | undefined; files: readonly string[] }): CheckResult {
  if (!f.invalid)
    return fine(f.files.length === 0 ? 'no file: every option has its default' : f.files.join(', '));
  const { file, line, hint } = f.invalid instanceof MayflyError ? f.invalid.facts : {};
  const what = `${f.invalid.message}${hint === undefined ? '' : ` (${hint})`}; logins are refused`;
  const fix = line === undefined ? String(hint ?? 'mayfly config') : `sensible-editor +${line} ${file}`;
  return found([problem(what, fix, EXIT.config)], '');
}

/** The cached configuration against the files'. */
export interface Cached {
  readonly path: string;
  readonly there: boolean;
  /** Undefined where it can not be believed. */
  readonly cache: { readonly key: string; readonly config: Config } | undefined;
  readonly key: string;
  readonly config: Config | undefined;
}

export function judgeCache(c: Cached): CheckResult {
  if (!c.there) return fine('the next login makes it');
  if (!c.cache) {
    const what = `"${c.path}" can not be believed, as it is not whole or others than root could have written it`;
    return found([warning(what, `rm ${c.path}`)], '');
  }
  if (c.cache.key !== c.key) return fine('the next login makes it anew');
  const same = c.config === undefined || JSON.stringify(c.config) === JSON.stringify(c.cache.config);
  const what = `logins go by "${c.path}", which is not what the files say: one of them was changed within its time and size`;
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
    gather: ({ invalid, config }) => ({ invalid, files: config.files }),
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
        'only root can change them, and everybody can read them',
      ),
  }),
  check({
    group: CONFIGURATION,
    title: 'cache',
    gather: ({ host, file, invalid, config }): Cached => ({
      path: cachePath(file),
      there: host.lstat(cachePath(file)) !== undefined,
      cache: readCache(host, file),
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
    evaluate: all => found(all.flatMap(judgeOwner), 'root’s, the state and the mount points root’s alone'),
  }),
];

/** Whether commands of systemd's and cron's are about this configuration: another file is nobody's but the caller's. */
export const isDefault = (on: Subject): boolean => on.file === DEFAULT_CONFIG_FILE;

/** Processes of that name on this system: not in containers, and not in sessions. */
export function processesNamed(host: Host, name: string): number[] {
  const here = host.stat('/');
  return host
    .list('/proc')
    .filter(pid => /^\d+$/.test(pid) && host.read(`/proc/${pid}/comm`)?.trim() === name)
    .filter(pid => {
      const root = host.stat(`/proc/${pid}/root`);
      return root?.dev === here?.dev && root?.ino === here?.ino;
    })
    .map(Number);
}
