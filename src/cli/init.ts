import { MayflyError } from '../errors.ts';
import { LVM_NAME, PACKAGE_NAME, RELEASE, SIZE } from '../names.ts';
import type { Machine } from '../state/machine.ts';
import { hostSuite } from '../update/apt-sources.ts';
import { init } from '../update/init.ts';
import { type LvmChoice, volumeGroupOf } from '../update/init-lvm.ts';
import { describeSource, type Source } from '../update/source.ts';
import type { BackendKind } from '../volume/backend.ts';
import type { CliCommand } from './command.ts';
import { clearLine, progressPrinter } from './progress.ts';
import { refuseOptions } from './usage-errors.ts';

function sourceOf(on: Machine, args: Readonly<Record<string, unknown>>): Source {
  const from = String(args.from);
  if (from !== 'debootstrap')
    refuseOptions(args, ['suite', 'packages', 'variant'], 'only applies to "--from debootstrap"');
  if (from === 'host') return { kind: 'host' };
  if (from === 'debootstrap') {
    const suite = String(args.suite ?? '') || on.config.init.suite || hostSuite(on.host);
    if (!suite || !RELEASE.test(suite))
      throw new MayflyError('usage', `invalid release "${suite ?? ''}"; give one with --suite`);
    const packages = [...on.config.init.packages, ...String(args.packages ?? '').split(/[\s,]+/)].filter(
      Boolean,
    );
    const bad = packages.find(p => !PACKAGE_NAME.test(p));
    if (bad !== undefined) throw new MayflyError('usage', `invalid package name "${bad}"`);
    return { kind: 'debootstrap', suite, variant: String(args.variant ?? 'important'), packages };
  }
  if (!from.startsWith('/')) {
    throw new MayflyError(
      'usage',
      `invalid source "${from}": --from takes "debootstrap", "host" or an absolute path`,
    );
  }
  const kind = on.host.pathType(from);
  if (kind === undefined) throw new MayflyError('usage', `"${from}" does not exist`, { path: from });
  const [there, root] = [on.host.stat(from), on.host.stat('/')];
  // Under every name it is the running system, whose secrets must not be copied.
  if (there?.ino === root?.ino && there?.dev === root?.dev) return { kind: 'host' };
  return { kind: kind === 'dir' ? 'directory' : 'tarball', path: from };
}

const BACKENDS = ['overlay', 'btrfs', 'lvm-thin', 'lvm'] as const satisfies readonly BackendKind[];

/** The options that only LVM has. Throws `usage` if one is invalid or was given for another backend. */
function choiceOf(args: Readonly<Record<string, unknown>>, backend: BackendKind): LvmChoice {
  const { vg, device, size } = args;
  if (backend !== 'lvm' && backend !== 'lvm-thin' && (vg ?? device ?? size) !== undefined)
    throw new MayflyError(
      'usage',
      `--vg, --device and --size only apply to the LVM backends, not to "${backend}"`,
    );
  if (vg !== undefined && !LVM_NAME.test(String(vg)))
    throw new MayflyError('usage', `invalid volume group name "${vg}"`);
  if (device !== undefined && !/^\/dev\/[\w./+-]+$/.test(String(device)))
    throw new MayflyError('usage', `invalid device "${device}"; give a path such as "/dev/sdb"`);
  if (size !== undefined && !SIZE.test(String(size)))
    throw new MayflyError('usage', `invalid size "${size}"; give one such as "16G"`);
  return {
    ...(vg === undefined ? {} : { group: String(vg) }),
    ...(device === undefined ? {} : { device: String(device) }),
    ...(size === undefined ? {} : { size: String(size) }),
  };
}

export const initCommand: CliCommand = {
  command: 'init',
  describe: 'create the pool and master, and seal generation 1',
  options: {
    backend: {
      choices: BACKENDS,
      describe: 'storage backend (default: "backend" in [pool])',
      requiresArg: true,
    },
    vg: {
      type: 'string',
      describe: 'LVM: volume group to use (default: "group" in [lvm])',
      requiresArg: true,
    },
    device: {
      type: 'string',
      describe: 'LVM: empty device on which to create the volume group',
      requiresArg: true,
    },
    size: {
      type: 'string',
      describe: 'LVM: size of a session\'s root (default: "volume_size" in [lvm])',
      requiresArg: true,
    },
    from: {
      type: 'string',
      default: 'debootstrap',
      describe: 'source of master: "debootstrap", "host", a directory or a tarball',
      requiresArg: true,
    },
    suite: {
      type: 'string',
      describe:
        'debootstrap: release to install (default: "suite" in [init], or the release of this machine)',
      requiresArg: true,
    },
    packages: {
      type: 'string',
      describe: 'debootstrap: additional packages, separated by commas, besides "packages" in [init]',
      requiresArg: true,
    },
    variant: {
      choices: ['minbase', 'important', 'standard'] as const,
      describe: 'debootstrap: base set of packages (default: important)',
      requiresArg: true,
    },
  },
  async run(args, { flags, machine, show, report }) {
    const on = await machine();
    const backend = BACKENDS.find(b => b === args.backend) ?? on.config.pool.backend;
    const lvm = choiceOf(args, backend);
    const source = sourceOf(on, args);
    if (flags.dryRun) {
      const { pool, lvm: configured } = on.config;
      const place = backend.startsWith('lvm')
        ? `/dev/${volumeGroupOf(on, lvm)}/${configured.name}`
        : pool.path;
      show(
        { backend, source, pool: place },
        `would create a pool (${backend}) at ${place} and fill it from ${describeSource(source)}`,
      );
      return 0;
    }
    const generation = await init(on, { backend, source, lvm, say: progressPrinter(on, flags) });
    clearLine(flags);
    report(generation, `generation ${generation.number} is stable; new logins get it`);
    return 0;
  },
};
