/** What the checks examine. It opens also where the configuration is invalid. */
import { type Config, DEFAULT_CONFIG_FILE } from '../../config/config.ts';
import { lastValid, whyInvalid } from '../../config/load.ts';
import { MayflyError } from '../../errors.ts';
import { noLog } from '../../linux/log.ts';
import type { Machine } from '../../state/machine.ts';
import { pathsOf } from '../../state/paths.ts';
import type { BackendKind } from '../../volume/backend.ts';
import { openBackend } from '../../volume/open.ts';
import type { Flags } from '../command.ts';
import { cliHost } from '../ports.ts';
import { readOnly, type Subject } from './check.ts';

interface Read {
  readonly config: Config;
  readonly invalid: Error | undefined;
  readonly isGuess: boolean;
}

/** The configuration of the files; if they are invalid, the last valid one, or the defaults. */
async function configurationIn(file: string): Promise<Read> {
  const { withDefaults: completed, readConfig } = await import('../../config/parse.ts');
  const host = cliHost;
  try {
    return { config: readConfig(host, file), invalid: undefined, isGuess: false };
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error;
    const last = lastValid(host, file);
    const config = { ...completed(file, last), invalid: whyInvalid(error) };
    return { config, invalid: error, isGuess: last === undefined };
  }
}

/** A subject whose host refuses every change, and the machine for a trial login. */
export async function subjectOf(flags: Flags): Promise<{ subject: Subject; machine: Machine }> {
  const file = flags.config ?? DEFAULT_CONFIG_FILE;
  const { config, invalid, isGuess } = await configurationIn(file);
  const host = cliHost;
  const machine: Machine = {
    ...{ host, config, paths: pathsOf(config.directories), log: noLog, lockFds: [] },
    backend: kind => openBackend(kind, host),
  };
  const safe = readOnly(host);
  const subject = {
    ...machine,
    host: safe,
    backend: (k: BackendKind) => openBackend(k, safe),
    file,
    invalid,
  };
  return { machine, subject: { ...subject, isGuess } };
}
