import { MayflyError } from '../errors.ts';
import { init } from '../init.ts';
import { hostSuite, type Source } from '../source.ts';
import type { Machine } from '../steps.ts';
import type { Verb } from './cli.ts';

function sourceOf(on: Machine, args: Readonly<Record<string, unknown>>): Source {
  const from = String(args.from);
  if (from === 'host') return { kind: 'host' };
  if (from === 'debootstrap') {
    const suite = String(args.suite ?? '') || on.config.init.suite || hostSuite(on.host);
    if (!suite || !/^[a-z][a-z0-9.-]*$/.test(suite))
      throw new MayflyError('usage', `"${suite ?? ''}" is not a release; name one with --suite`);
    const packages = [...on.config.init.packages, ...String(args.packages ?? '').split(/[\s,]+/)].filter(
      Boolean,
    );
    const bad = packages.find(p => !/^[a-z0-9][a-z0-9+.-]+$/.test(p));
    if (bad !== undefined) throw new MayflyError('usage', `"${bad}" is not the name of a package`);
    return { kind: 'debootstrap', suite, variant: String(args.variant), packages };
  }
  if (!from.startsWith('/')) {
    throw new MayflyError(
      'usage',
      `--from takes "debootstrap", "host", or an absolute path; "${from}" is neither`,
    );
  }
  return { kind: on.host.stat(from)?.kind === 'dir' ? 'directory' : 'tarball', path: from };
}

export const initCommand: Verb = {
  command: 'init',
  describe: 'make the pool and master, and seal generation 1',
  options: {
    backend: {
      choices: ['overlay', 'btrfs'] as const,
      describe: 'how sessions are forked (default: as configured, overlay)',
    },
    from: {
      type: 'string',
      default: 'debootstrap',
      describe: '"debootstrap", "host", a directory or a tarball',
      requiresArg: true,
    },
    suite: {
      type: 'string',
      describe: 'debootstrap: the release (default: the one this machine runs)',
      requiresArg: true,
    },
    packages: {
      type: 'string',
      describe: 'debootstrap: more packages, separated by commas',
      requiresArg: true,
    },
    variant: {
      choices: ['minbase', 'important', 'standard'] as const,
      default: 'important',
      describe: 'debootstrap: how much of a system',
    },
  },
  async run(args, { flags, machine, print, report }) {
    const on = await machine();
    const backend =
      args.backend === 'btrfs' || args.backend === 'overlay' ? args.backend : on.config.pool.backend;
    const source = sourceOf(on, args);
    if (flags.dryRun) {
      print(
        { backend, source, pool: on.config.pool.path },
        `would fill a ${backend} pool at ${on.config.pool.path} from ${JSON.stringify(source)}`,
      );
      return 0;
    }
    const terminal = process.stderr.isTTY === true && !flags.quiet;
    const say = (line: string, detail = false): void => {
      if (terminal && detail)
        process.stderr.write(`\r\u001b[K  ${line.slice(0, (process.stderr.columns ?? 80) - 4)}`);
      else if (!detail) on.log('info', terminal ? `${line}\u001b[K` : line);
      else if (flags.verbose) on.log('debug', line);
    };
    const generation = await init(on, { backend, source, say });
    if (terminal) process.stderr.write('\r\u001b[K');
    report(generation, `generation ${generation.number} is stable; logins get it from now on`);
    return 0;
  },
};
