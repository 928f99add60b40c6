/** Everything that the program acts on, and opening it. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { leanRunner, print, type Runner } from '../linux/command.ts';
import { dryRun } from '../linux/dry-run.ts';
import type { Host } from '../linux/host.ts';
import { type Amount, type Log, type LogMaker, makeLog } from '../linux/log.ts';
import { realHost } from '../linux/real-host.ts';
import type { BackendKind, VolumeBackend } from '../volume/backend.ts';
import { openBackend } from '../volume/open.ts';
import { type Paths, pathsOf } from './paths.ts';

/** Everything the steps act on. */
export interface Machine {
  readonly host: Host;
  readonly config: Config;
  readonly paths: Paths;
  readonly log: Log;
  readonly backend: (kind: BackendKind) => VolumeBackend;
  /** Descriptors of the locks held, for storage commands to keep. */
  readonly lockFds: readonly number[];
}

/** Without a deadline for commands; made once. */
export const thisHost = realHost();

/** What of a command line decides how the machine is opened. */
export interface MachineOptions {
  /** An absolute path; undefined where none was named. */
  readonly config: string | undefined;
  readonly dryRun: boolean;
  readonly amount: Amount;
  /** Standard output is for JSON, so a dry run is told on stderr. */
  readonly json?: boolean;
}

/** Who opens the machine, and for how long. */
export interface OpenOptions {
  /** Bounds the commands run through it; no limit where it is left out. */
  readonly seconds?: (c: Config) => number;
  /** Serves by the last good configuration where today's is invalid. */
  readonly lastGood?: boolean;
  /** The hook's own, lean ones, unless the command line gives its. */
  readonly runner?: Runner;
  readonly makeLog?: LogMaker;
}

/** Everything together, on the real machine. What a dry run would do is told on stdout, but where that is for JSON. */
export async function openMachine(o: MachineOptions, by: OpenOptions = {}): Promise<Machine> {
  const config = await loadConfig(thisHost, o.config, by.lastGood);
  const deadline = by.seconds ? Date.now() + by.seconds(config) * 1000 : Number.POSITIVE_INFINITY;
  const real = realHost({ deadline, runner: by.runner ?? leanRunner });
  const told: string[] = [];
  const host = o.dryRun ? dryRun(real, line => told.push(line)) : real;
  const backends: Partial<Record<BackendKind, VolumeBackend>> = {};
  if (o.dryRun) process.on('exit', () => print(o.json ? 2 : 1, told.map(line => `${line}\n`).join('')));
  return {
    host,
    config,
    paths: pathsOf(config.directories),
    log: (by.makeLog ?? makeLog)(o.amount, !o.dryRun),
    backend(kind) {
      backends[kind] ??= openBackend(kind, host);
      return backends[kind];
    },
    lockFds: [],
  };
}
