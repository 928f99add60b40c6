/** The machine that commands and steps act on. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { print, type Runner } from '../linux/command.ts';
import { dryRun, dryRunLog } from '../linux/dry-run.ts';
import type { Host } from '../linux/host.ts';
import { leanRunner } from '../linux/lean-runner.ts';
import { type Amount, type Log, type LogMaker, makeLog } from '../linux/log.ts';
import type { ProcessId } from '../linux/process-id.ts';
import { realHost } from '../linux/real-host.ts';
import type { BackendKind, VolumeBackend } from '../volume/backend.ts';
import { openBackend } from '../volume/open.ts';
import { type Paths, pathsOf } from './paths.ts';

/** Host, configuration, paths, log and storage, passed to all code that acts on them. */
export interface Machine {
  readonly host: Host;
  readonly config: Config;
  readonly paths: Paths;
  readonly log: Log;
  readonly backend: (kind: BackendKind) => VolumeBackend;
  /** Descriptors of the locks held; storage commands inherit them. */
  readonly lockFds: readonly number[];
  /**
   * In the agent: the process on whose behalf it acts, which ends when the call is over. Undefined in a process of its own.
   */
  readonly client?: ProcessId;
  /** In the agent: the mount points below which a look may hang, at the beginning of the call. */
  readonly unsure?: readonly string[];
}

/** The real host, without a deadline for commands. */
export const thisHost = realHost();

/** The command line options that decide how the machine is opened. */
export interface MachineOptions {
  /** Absolute path of the configuration file; undefined for the default. */
  readonly config: string | undefined;
  readonly dryRun: boolean;
  readonly amount: Amount;
  /** Standard output is for JSON, so a dry run is described on standard error. */
  readonly json?: boolean;
}

export interface OpenOptions {
  /** The time, from now, after which commands of the machine fail with `timeout`. Default: no deadline. */
  readonly seconds?: (c: Config) => number;
  /** Replaces an invalid configuration by the last valid one, so that a typo cannot block logouts. */
  readonly lastGood?: boolean;
  /** How commands are run and events are logged. Default: as in a hook. */
  readonly runner?: Runner;
  readonly makeLog?: LogMaker;
}

/**
 * Opens the real machine. A dry run describes its effects when the process exits, on standard output, or on standard
 * error with `json`. Throws `config`.
 */
export async function openMachine(o: MachineOptions, by: OpenOptions = {}): Promise<Machine> {
  const config = await loadConfig(thisHost, o.config, by.lastGood);
  const deadline = by.seconds ? thisHost.monotonic() + by.seconds(config) * 1000 : Number.POSITIVE_INFINITY;
  const real = realHost({ deadline, runner: by.runner ?? leanRunner });
  const effects: string[] = [];
  const host = o.dryRun ? dryRun(real, line => effects.push(line)) : real;
  const paths = pathsOf(config.directories);
  const backends: Partial<Record<BackendKind, VolumeBackend>> = {};
  if (o.dryRun) process.on('exit', () => print(o.json ? 2 : 1, effects.map(line => `${line}\n`).join('')));
  const log = (by.makeLog ?? makeLog)(o.amount, !o.dryRun);
  return {
    host,
    config,
    paths,
    log: o.dryRun ? dryRunLog(log) : log,
    backend(kind) {
      backends[kind] ??= openBackend(kind, host, `${paths.run}/volumes.json`);
      return backends[kind];
    },
    lockFds: [],
  };
}
