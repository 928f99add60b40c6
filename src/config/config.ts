/** The type of the configuration. */
import type { BackendKind, FileSystem } from '../volume/backend.ts';

declare const MAYFLY_VERSION: string;

export const VERSION = typeof MAYFLY_VERSION === 'undefined' ? '0.0.0-dev' : MAYFLY_VERSION;

/** The run directory of the system's own instance; another instance has its own. */
export const SYSTEM_RUN = '/run/mayfly';

/** The state directory of the system's own instance, unless it is configured elsewhere. */
export const SYSTEM_STATE = '/var/lib/mayfly';

export const DEFAULT_CONFIG_FILE = '/etc/mayfly/mayfly.toml';

/** The configuration as one frozen value. The field names are those of the file; mayfly.toml(5) describes them. */
export interface Config {
  /** The files that were read: the configuration file and those in `conf.d` beside it. */
  readonly files: readonly string[];
  /** The directory of the configuration file; `refresh.d` and `checks.d` are in it. */
  readonly directory: string;
  /** Why the files are not valid: this is then the last valid configuration, which goes on being used. */
  readonly invalid?: string;
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly min_uid: number;
  readonly on_failure: 'refuse' | 'host';
  readonly root_users: readonly string[];
  readonly sudo: readonly string[];
  readonly ephemeral_home: readonly string[];
  readonly pool: {
    readonly backend: BackendKind;
    readonly path: string;
    readonly image_size: string;
  };
  readonly overlay: { readonly upper: 'disk' | 'tmpfs'; readonly size: string };
  readonly lvm: {
    readonly group: string;
    readonly name: string;
    readonly fs: FileSystem;
    readonly pool_size: string;
    readonly volume_size: string;
    readonly cow_size: string;
    readonly max_used_percent: number;
    readonly warn_percent: number;
  };
  readonly home: { readonly size: string };
  readonly admission: { readonly max_used_percent: number; readonly min_free: string };
  readonly hook: { readonly timeout: number };
  readonly logout: {
    readonly grace: number;
    readonly kill_timeout: number;
    readonly on_stuck: 'keep' | 'reboot';
    readonly max_stuck: number;
  };
  readonly mounts: {
    readonly run_size: string;
    readonly rbind: readonly string[];
    readonly bind: readonly string[];
  };
  readonly identity: { readonly copy: readonly string[] };
  readonly init: {
    readonly suite: string;
    readonly packages: readonly string[];
    readonly keep: readonly string[];
  };
  readonly update: {
    readonly command: readonly string[];
    readonly upgrade: 'full' | 'safe';
    readonly packages: readonly string[];
    readonly protect: readonly string[];
    readonly max_removals: number;
    readonly conffiles: 'keep' | 'replace';
    readonly proxy: string;
    readonly sources: readonly string[];
    readonly timeout: number;
    readonly keep: number;
    readonly max_used_percent: number;
    readonly on_battery: 'skip' | 'run';
    readonly on_metered: 'skip' | 'run';
  };
  readonly check: {
    readonly user: string;
    readonly command: readonly string[];
    readonly timeout: number;
    readonly demote_after: number;
  };
  readonly greeter: { readonly host_sessions: 'staff' | 'hide' };
  readonly host: {
    readonly update: 'off' | 'unattended-upgrades' | 'command';
    readonly command: readonly string[];
    readonly reboot: 'never' | 'idle';
  };
  readonly directories: { readonly state: string; readonly run: string; readonly schroot: string };
}

/** The uid of "nobody". */
const NOBODY = 65534;

/** Whether a uid is that of a person's account. Pure. */
export function isPerson({ min_uid }: Pick<Config, 'min_uid'>, uid: number): boolean {
  return uid >= min_uid && uid !== NOBODY;
}

/**
 * The limits of a pool's usage, in percent: above `warn` there are warnings, above `full` new logins are refused. A thin
 * pool has limits of its own, because it must never be full: that would damage every session in it.
 */
export function limitsOf(
  config: Config,
  backend: BackendKind,
): { readonly warn: number; readonly full: number } {
  if (backend === 'lvm-thin') return { warn: config.lvm.warn_percent, full: config.lvm.max_used_percent };
  return { warn: config.update.max_used_percent, full: config.admission.max_used_percent };
}
