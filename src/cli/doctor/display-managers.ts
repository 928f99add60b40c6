/** Whether the display managers run all of our hooks, as `enable` wrote them. */

import { gdmWarnings } from '../../desktop/adapters/gdm.ts';
import { LIGHTDM_FILE, lightdmBypasses, lightdmFiles } from '../../desktop/adapters/lightdm.ts';
import { type Adapter, adapterSpecs } from '../../desktop/adapters/specs.ts';
import type { Change } from '../../desktop/changes.ts';
import { planInside, planInsideOff } from '../../desktop/enable.ts';
import { REINSTALL } from '../../desktop/reinstall.ts';
import { GDM_DROP_IN } from '../../desktop/systemd-drop-ins.ts';
import type { Host, Stat } from '../../linux/host.ts';
import { identify } from '../../linux/process-id.ts';
import { processesNamed } from '../../linux/processes.ts';
import { ENABLED_MARKER } from '../../state/paths.ts';
import { WRAPPER } from '../../update/greeter.ts';
import type { Problem } from '../../volume/backend.ts';
import {
  type CheckResult,
  check,
  type Finding,
  found,
  fromError,
  notApplicable,
  problem,
  type Subject,
  warning,
} from './check.ts';
import { adaptersIn, judgeOwner, type Owned, owned } from './setup.ts';

const GROUP = 'display managers';

const NONE = notApplicable('no display manager is enabled');

/** Which display managers start sessions, and whether Xsession enters them. */
export interface HookSettings {
  readonly calling: readonly Adapter[];
  readonly marker: boolean;
  /** The one to suggest if none is enabled. */
  readonly likely: Adapter;
}

export function judgeEnabled({ calling, marker, likely }: HookSettings): CheckResult {
  if (calling.length === 0) {
    if (!marker) return notApplicable(`none; to enable one, run "mayfly enable ${likely}"`);
    const what = `"${ENABLED_MARKER}" exists, but no display manager is enabled: logins of users in scope are refused`;
    return found([problem(what, `mayfly enable ${likely}`)], '');
  }
  const what = `"${ENABLED_MARKER}" is missing: desktops run on the host, outside their sessions`;
  return found(marker ? [] : [problem(what, `mayfly enable ${calling[0]}`)], calling.join(', '));
}

/** Describes a change that `enable` would still make; `there`: the path exists. */
export function describePendingChange(c: Change, there: boolean): string {
  if (c.act === 'write') return there ? `"${c.path}" was changed` : `"${c.path}" is missing: ${c.why}`;
  if (c.act === 'rename') return `"${c.path}" was created after "mayfly enable"`;
  if (c.act === 'profile') return `"${c.path}" lacks the lines of the profile "mayfly": ${c.why}`;
  if (c.act === 'divert') return `"${c.path}" is not diverted: ${c.why}`;
  return `"${c.path}": ${c.why}`;
}

/** Findings for what `enable` would change now, or for its error. */
async function planned(host: Host, adapter: Adapter, plan: () => Promise<Change[]>): Promise<Finding[]> {
  try {
    return (await plan())
      .filter(c => c.act !== 'mkdir')
      .map(c =>
        problem(describePendingChange(c, host.lstat(c.path) !== undefined), `mayfly enable ${adapter}`),
      );
  } catch (error) {
    return [fromError(error)];
  }
}

/** A program or file of the package that the hooks need. */
export interface Part extends Owned {
  readonly stat: Stat | undefined;
  readonly program: boolean;
}

export function judgePart(p: Part): Finding[] {
  if (p.stat?.kind !== 'file')
    return [problem(`"${p.path}" is ${p.stat ? 'not a file' : 'missing'}`, REINSTALL)];
  const runs = !p.program || (p.stat.mode & 0o111) !== 0;
  const what = `"${p.path}" is not executable: logins bypass it or are refused`;
  return [...(runs ? [] : [problem(what, `chmod 0755 ${p.path}`)]), ...judgeOwner(p)];
}

/** The package's files in the directory of the program. */
export const BUNDLE = `
  mayfly.cjs hot.js parse.cjs cli.cjs process-look.cjs time-limits.cjs loops.cjs eraser.cjs
  stuck-limit.cjs unseen-holders.cjs space-being-freed.cjs unannounced.cjs unknown-groups.cjs lvm.cjs terminate.cjs
  saving.cjs proof.cjs manager-end.cjs manager-restart.cjs advice.cjs kernel-module.cjs
  refused-login.cjs reboot-policy.cjs guest-leftovers.cjs number-conflicts.cjs agent.cjs
  host-facts.cjs home-places.cjs primary-group.cjs promotion-lock.cjs btrfs-space.cjs execa.cjs
  winston.cjs chokidar.cjs`
  .trim()
  .split(/\s+/);

function partsOf(host: Host, adapters: readonly Adapter[]): Part[] {
  const programs = [...adapters.flatMap(a => adapterSpecs[a].hooks), WRAPPER];
  const bundle = BUNDLE.map(name => `/usr/lib/mayfly/dist/${name}`);
  const part = (path: string, program: boolean): Part => ({ path, stat: host.stat(path), program });
  return [...programs.map(p => part(p, true)), ...bundle.map(p => part(p, false))];
}

/** Drop-ins for systemd's units of users, ours and others. */
export interface DropIns {
  readonly enabled: readonly Adapter[];
  readonly systemd: boolean;
  /** About ours. */
  readonly findings: readonly Finding[];
  /** Those of ours that exist. */
  readonly left: readonly string[];
  /** Others that are read after ours and set another root directory. */
  readonly overriding: readonly string[];
}

export function judgeDropIns(d: DropIns): CheckResult {
  if (!d.systemd) return notApplicable('there is no systemd');
  if (d.enabled.length === 0) {
    if (d.left.length === 0) return NONE;
    const what = `no display manager is enabled, but there are still ${d.left.join(' and ')}`;
    return found([warning(what, 'mayfly disable lightdm')], '');
  }
  const others = d.overriding.map(path =>
    problem(`"${path}" overrides the root directory: users' services run on the host`, `rm ${path}`),
  );
  return found([...d.findings, ...others], 'users’ services run in their sessions');
}

async function gatherDropIns({ host }: Subject): Promise<DropIns> {
  const enabled = adaptersIn(host);
  const [first] = enabled;
  const directories = ['/usr/lib', '/run', '/etc'].map(at => `${at}/systemd/system/user@.service.d`);
  const later = directories.flatMap(directory =>
    host
      .list(directory)
      .filter(name => name.endsWith('.conf') && name > '50-mayfly.conf')
      .map(name => `${directory}/${name}`),
  );
  return {
    enabled,
    systemd: host.pathType('/etc/systemd/system') === 'dir',
    findings: first ? await planned(host, first, async () => planInside(host)) : [],
    left: planInsideOff(host).flatMap(c => (c.act === 'rmdir' ? [] : [c.path])),
    overriding: later.filter(path => /^\s*(RootDirectory|MountAPIVFS)\s*=/m.test(host.read(path) ?? '')),
  };
}

/** A running display manager. Times are milliseconds since the epoch. */
export interface RunningManager {
  readonly enabled: boolean;
  readonly findings: readonly Finding[];
  /** The file that it reads when it starts. */
  readonly file: string;
  readonly written: number | undefined;
  readonly started: number | undefined;
  readonly restart: string;
}

/** Tolerance in milliseconds: start times have a resolution of 10 ms, and a file may be written just before a start. */
const TOLERANCE = 2000;

export function judgeRunning(f: RunningManager): CheckResult {
  if (!f.enabled) return notApplicable('it is not enabled');
  const late = f.started !== undefined && f.written !== undefined && f.written > f.started + TOLERANCE;
  const what = `it was started before "${f.file}" was written and does not use it; a restart ends every desktop`;
  return found(
    [...f.findings, ...(late ? [problem(what, f.restart)] : [])],
    f.started === undefined ? 'it is not running' : 'it is running with these settings',
  );
}

/** When the first process with this name was started; the kernel reports hundredths of a second (USER_HZ). */
function startOf(host: Host, name: string): number | undefined {
  const booted = Number(/^btime (\d+)$/m.exec(host.read('/proc/stat') ?? '')?.[1]) * 1000;
  const starts = processesNamed(host, name).map(pid => Number(identify(host, pid)?.start) * 10);
  const first = booted + Math.min(...starts);
  return Number.isFinite(first) ? first : undefined;
}

function running(
  host: Host,
  adapter: 'lightdm' | 'gdm',
  file: string,
  problems: readonly Problem[],
): RunningManager {
  const name = adapter === 'gdm' ? 'gdm3' : adapter;
  return {
    enabled: adaptersIn(host).includes(adapter),
    findings: problems.map(p => problem(p.what, p.fix)),
    file,
    written: host.stat(file)?.mtimeMs,
    started: startOf(host, name),
    restart: `systemctl restart ${name}`,
  };
}

export const managerChecks = [
  check({
    group: GROUP,
    title: 'enabled',
    gather: ({ host }): HookSettings => ({
      calling: adaptersIn(host),
      marker: host.lstat(ENABLED_MARKER) !== undefined,
      likely:
        host.stat(adapterSpecs.lightdm.program) || !host.stat(adapterSpecs.gdm.program) ? 'lightdm' : 'gdm',
    }),
    evaluate: judgeEnabled,
  }),
  check({
    group: GROUP,
    title: 'hooks',
    gather: ({ host }) => {
      const adapters = adaptersIn(host);
      return adapters.length === 0 ? [] : partsOf(host, adapters);
    },
    evaluate: parts =>
      parts.length === 0 ? NONE : found(parts.flatMap(judgePart), 'complete and owned by root'),
  }),
  check({
    group: GROUP,
    title: 'settings',
    async gather({ host }) {
      const adapters = adaptersIn(host);
      const findings: Finding[] = [];
      for (const a of adapters)
        findings.push(...(await planned(host, a, () => adapterSpecs[a].planOn(host))));
      const files = adapters.flatMap(a => adapterSpecs[a].files).map(path => owned(host, path));
      return { adapters, findings: [...findings, ...files.flatMap(judgeOwner)] };
    },
    evaluate: ({ adapters, findings }) =>
      adapters.length === 0 ? NONE : found(findings, 'unchanged since "mayfly enable"'),
  }),
  check({ group: GROUP, title: 'services', gather: gatherDropIns, evaluate: judgeDropIns }),
  check({
    group: GROUP,
    title: 'lightdm',
    gather: ({ host }) => running(host, 'lightdm', LIGHTDM_FILE, lightdmBypasses(lightdmFiles(host))),
    evaluate: judgeRunning,
  }),
  check({
    group: GROUP,
    title: 'gdm',
    gather: ({ host }) => running(host, 'gdm', Object.keys(GDM_DROP_IN)[0] ?? '', gdmWarnings(host)),
    evaluate: judgeRunning,
  }),
];
